"""Exchanges between a client and a sidecar, as they are kept in `recorded/`.

Separate from the recording because the tests only read them. An exchange is one request with its answer; a scene is
some of them in order, with what must be known to say the same again to another sidecar: where the weights lay, and
when each request was sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"
VOICES_URI = "file:///srv/voices"
"""Stands in recordings for the folder that the weights were in."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any
    sent_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is the JSON document, or `None` where there was none (or audio)."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """One of both, with what it is about."""

    name: str
    request: Request
    answer: Answer


@dataclass(frozen=True, slots=True)
class Scene:
    """Exchanges in order.

    Attributes
    ----------
    weights
        Version number of `tests.support.tiny_engine` to the digest of its file.
    """

    name: str
    weights: dict[str, str]
    exchanges: tuple[Exchange, ...]


def read_scene(version: int, name: str) -> Scene:
    """One recorded scene."""
    document = json.loads((RECORDED / f"v{version}" / f"{name}.json").read_text())
    exchanges = tuple(
        Exchange(each["name"], Request(**each["request"]), Answer(**each["answer"])) for each in document["exchanges"]
    )
    return Scene(name, document["weights"], exchanges)


def read_openapi(version: int) -> dict[str, Any]:
    """What a sidecar of that version says of itself: every request it takes, every answer it gives."""
    document: dict[str, Any] = json.loads((RECORDED / f"v{version}" / "openapi.json").read_text())
    return document

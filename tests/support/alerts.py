"""Calls of Alertmanager's webhook, as it makes them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from segue_operator.triggers.hooks import PATH

CALLS, CONNECTIONS = 1000, 20
LONG_BYTES = 8 << 20
ENDS_SOME_DAY = "0001-01-01T00:00:00Z"


def webhook_alert(
    *,
    voice: str = "narrator",
    namespace: str = "default",
    name: str = "VoiceSilent",
    starts_at: datetime = datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
    status: str = "firing",
    **labels: str,
) -> dict[str, Any]:
    """One alert of a call; `labels` are further ones."""
    all_labels = {"alertname": name, "segue_namespace": namespace, "segue_voice": voice, **labels}
    return {
        "status": status,
        "labels": all_labels,
        "annotations": {"summary": "a voice says nothing"},
        "startsAt": starts_at.isoformat(),
        "endsAt": ENDS_SOME_DAY if status == "firing" else starts_at.isoformat(),
        "generatorURL": "http://prometheus/graph?g0.expr=x",
        "fingerprint": hashlib.sha256(json.dumps(all_labels, sort_keys=True).encode()).hexdigest()[:16],
    }


def webhook_call(*alerts: dict[str, Any]) -> dict[str, Any]:
    """A whole call, as version 4 has it."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="VoiceSilent"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "segue",
        "groupLabels": {"alertname": "VoiceSilent"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": list(alerts),
    }


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call in a storm.

    Attributes
    ----------
    size
        Bytes that its head announces, where it never sends that many.
    """

    name: str
    status: int
    body: str
    token: str
    size: int | None = None


def storm_kinds(key: str, *, token: str, with_true: bool) -> list[Kind]:
    """What comes in a storm: true calls if wanted, forged, malformed, too long, late ones, about nobody we know."""
    namespace, _, voice = key.partition("/")
    now = datetime.now(UTC)

    def call(**about: Any) -> str:
        return json.dumps(webhook_call(webhook_alert(**{"namespace": namespace, "voice": voice, **about})))

    true = call(starts_at=now)
    kinds = [
        Kind("forged", 401, true, "guessed"),
        Kind("without a token", 401, true, ""),
        Kind("malformed", 400, '{"version": "4", "alerts": [{]}', token),
        Kind("of another version", 400, json.dumps({"version": "3", "alerts": []}), token),
        Kind("too long", 413, "", token, size=LONG_BYTES),
        Kind("about nobody", 200, call(voice="nobody", starts_at=now), token),
        Kind("stale", 200, call(name="Older", starts_at=now - timedelta(hours=1)), token),
        Kind("of the future", 200, call(name="Later", starts_at=now + timedelta(hours=1)), token),
    ]
    return [*kinds, Kind("true", 200, true, token), Kind("true", 200, true, token)] if with_true else kinds


async def storm(port: int, kinds: Sequence[Kind]) -> dict[str, Counter[int]]:
    """A thousand calls at once, of these kinds in turn; how often each kind got which status."""
    calls = [kinds[number % len(kinds)] for number in range(CALLS)]
    answers = await asyncio.gather(*(_call(port, calls[number::CONNECTIONS]) for number in range(CONNECTIONS)))
    found: dict[str, Counter[int]] = {kind.name: Counter() for kind in kinds}
    for name, status in itertools.chain.from_iterable(answers):
        found[name][status] += 1
    return found


def expected_answers(kinds: Sequence[Kind]) -> dict[str, Counter[int]]:
    """What a storm of these kinds is to be answered."""
    found: dict[str, Counter[int]] = {kind.name: Counter() for kind in kinds}
    for number in range(CALLS):
        kind = kinds[number % len(kinds)]
        found[kind.name][kind.status] += 1
    return found


def _as_request(kind: Kind) -> bytes:
    size = len(kind.body) if kind.size is None else kind.size
    token = f"Authorization: Bearer {kind.token}\r\n" if kind.token else ""
    head = f"POST {PATH} HTTP/1.1\r\nHost: operator\r\n{token}Content-Length: {size}"
    return f"{head}\r\n\r\n{kind.body}".encode()


async def _call(port: int, calls: Sequence[Kind]) -> list[tuple[str, int]]:
    """All of them over one connection, without a client library: the storm should cost us less than the operator.

    A connection on which something was announced and not sent cannot be used again.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[tuple[str, int]] = []
    for kind in calls:
        writer.write(_as_request(kind))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
        answers.append((kind.name, int(head.split()[1])))
        if kind.size is not None:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return answers

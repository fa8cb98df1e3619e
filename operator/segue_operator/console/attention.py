"""How much a voice wants to be looked at, and which words of the page say so.

Pure. Separate because it is a judgement: what goes wrong is to be on top, then what waits for a person, then what is on
its way. The codes name entries of the page's dictionaries (`why.CODE`, `next.CODE`); a test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """The order of the list, most urgent first."""

    BAD = 0
    WAITS = 1
    MOVING = 2
    WATCHED = 3
    QUIET = 4


WAITS_FOR_A_PERSON = frozenset({"AwaitingApproval", "ContinuityHold", "CanaryHold", "WatchHold"})
WAITS_FOR_SOMETHING = frozenset({"Queued", "WindowClosed", "NoPods", "PodsLate", "ProbeError", "Clearing"})

CODES = (
    *sorted(WAITS_FOR_A_PERSON | WAITS_FOR_SOMETHING),
    "Unusable",
    "RollingBack",
    "Stalled",
    "RolledBack",
    "NotServed",
    "Paused",
    "Preloading",
    "Verifying",
    "Canary",
    "Flipping",
    "Watching",
    "NoVersion",
    "Serving",
)
"""Every code there is."""


def attention(voice: Mapping[str, Any], *, unusable: bool) -> tuple[Level, str]:
    """Level and code of a voice.

    Parameters
    ----------
    unusable
        What a person wrote last cannot be used.
    """
    status = voice.get("status") or {}
    phase, reason = status.get("phase", "Idle"), status.get("reason", "")
    if unusable:
        return Level.BAD, "Unusable"
    if phase == "RollingBack":
        return Level.BAD, "RollingBack"
    if reason in WAITS_FOR_A_PERSON:
        return Level.WAITS, reason
    if phase != "Idle":
        return _on_its_way(voice, phase, reason)
    return _at_rest(voice, status, reason)


def _on_its_way(voice: Mapping[str, Any], phase: str, reason: str) -> tuple[Level, str]:
    if is_paused(voice) and phase not in ("Flipping", "Watching"):
        return Level.WAITS, "Paused"
    if reason in WAITS_FOR_SOMETHING:
        return Level.WAITS, reason
    return (Level.WATCHED if phase == "Watching" else Level.MOVING), phase


def _at_rest(voice: Mapping[str, Any], status: Mapping[str, Any], reason: str) -> tuple[Level, str]:
    if _is(status, "Stalled", "True"):
        return Level.BAD, "Stalled"
    if status.get("activeRevision") is None:
        return (Level.WAITS, reason) if reason in WAITS_FOR_SOMETHING else (Level.WAITS, "NoVersion")
    if _is(status, "Ready", "False") and _reason(status, "Ready") == "NotServed":
        return Level.BAD, "NotServed"
    if _is(status, "Promoted", "False") and _reason(status, "Promoted") == "RolledBack":
        return Level.BAD, "RolledBack"
    if reason in WAITS_FOR_SOMETHING:
        return Level.WAITS, reason
    return (Level.WAITS, "Paused") if is_paused(voice) else (Level.QUIET, "Serving")


def is_paused(voice: Mapping[str, Any]) -> bool:
    """Whether its spec says that nothing new begins."""
    return bool(((voice.get("spec") or {}).get("rollout") or {}).get("paused"))


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition by its type; empty where it was never set."""
    found: list[Mapping[str, Any]] = [each for each in status.get("conditions") or () if each.get("type") == kind]
    return found[0] if found else {}


def _is(status: Mapping[str, Any], kind: str, value: str) -> bool:
    return bool(condition(status, kind).get("status") == value)


def _reason(status: Mapping[str, Any], kind: str) -> str:
    return str(condition(status, kind).get("reason", ""))

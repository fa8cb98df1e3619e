"""How a VoiceModel of the API server is shown: the shape that every place has, and what the operator has not seen yet.

Pure: objects in, documents out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from segue_cli.cluster.api import event_time
from segue_cli.place import Document
from segue_cli.revisions import span

SLOW_S = 10.0
"""An operator that has not looked at a change after this long is worth a question."""

_NO_STATUS: dict[str, Any] = {
    "observedGeneration": 0,
    "phase": "Idle",
    "reason": "",
    "message": "",
    "attempt": 0,
    "conditions": [],
    "history": [],
    "failedRevisions": [],
    "verifications": [],
    "handledTokens": {},
    "pods": {},
}


def document(
    voice: Mapping[str, Any],
    *,
    context: str,
    events: Sequence[Mapping[str, Any]] = (),
    notes: Iterable[str] = (),
    now: datetime | None = None,
) -> Document:
    """A voice in full, as `segue_cli.place` has it.

    Parameters
    ----------
    notes
        What could not be shown, and why.
    """
    metadata, now = voice["metadata"], now or datetime.now(UTC)
    key = f"{metadata['namespace']}/{metadata['name']}"
    return {
        "key": key,
        "context": context,
        "problems": [],
        "pods": [],
        "events": [_event(each, key) for each in events],
        "notes": list(notes),
        "unseen": unseen(voice, now=now),
        "isStuck": (lag_s(voice, now=now) or 0.0) >= SLOW_S,
        **voice,
        "status": {**_NO_STATUS, **voice.get("status", {})},
    }


def summary(voice: Mapping[str, Any], *, now: datetime | None = None) -> Document:
    """A voice in short, as a line of a table."""
    shown = document(voice, context="", now=now)
    status, metadata = shown["status"], shown["metadata"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    return {
        "key": shown["key"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "fleet": shown["spec"].get("fleet", "default"),
        "phase": status["phase"],
        "reason": "NotSeen" if shown["unseen"] else status["reason"],
        "message": shown["unseen"] or status["message"],
        "activeRevision": status.get("activeRevision"),
        "stableRevision": status.get("stableRevision"),
        "targetRevision": status.get("targetRevision"),
        "pods": status["pods"].get("summary", ""),
        "ready": conditions.get("Ready") == "True",
        "paused": shown["spec"].get("rollout", {}).get("paused", False),
        "since": status.get("phaseStartedAt"),
        "problems": [],
    }


def unseen(voice: Mapping[str, Any], *, now: datetime) -> str | None:
    """What to say of a spec that no operator has looked at yet; None where one has."""
    age_s = lag_s(voice, now=now)
    if age_s is None:
        return None
    since = f" in {span(age_s)}" if math.isfinite(age_s) else ""
    seen = _seen(voice)
    latest = f" (it has seen {seen})" if seen else ""
    doubt = "; is it running?" if age_s >= SLOW_S else ""
    return f"the operator has not looked at generation {_generation(voice)}{since}{latest}{doubt}"


def lag_s(voice: Mapping[str, Any], *, now: datetime) -> float | None:
    """How long ago a spec was written that no operator has looked at yet; endless where nobody noted when."""
    if _seen(voice) >= _generation(voice):
        return None
    metadata = voice["metadata"]
    times = [each.get("time") for each in metadata.get("managedFields", ()) if each.get("subresource") != "status"]
    known = [datetime.fromisoformat(each) for each in (*times, metadata.get("creationTimestamp")) if each]
    return (now - max(known)).total_seconds() if known else math.inf


def _seen(voice: Mapping[str, Any]) -> int:
    return int(voice.get("status", {}).get("observedGeneration", 0))


def _generation(voice: Mapping[str, Any]) -> int:
    return int(voice["metadata"].get("generation", 0))


def _event(event: Mapping[str, Any], key: str) -> Document:
    count = int((event.get("series") or {}).get("count") or event.get("count") or 1)
    message = str(event.get("message") or event.get("note") or "")
    return {
        "id": f"{event.get('metadata', {}).get('uid', '')}/{count}",
        "at": event_time(event),
        "voice": key,
        "kind": event.get("type", "Normal"),
        "reason": event.get("reason", ""),
        "message": f"{message} (x{count})" if count > 1 else message,
    }

"""VoiceModels as an API server hands them out: with uid, generation, a full spec and a status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.voices import digest, revision, voice

from segue.model.revision import short
from segue.model.spec import Source
from segue.model.status import (
    Condition,
    ConditionStatus,
    FailedRevision,
    HistoryEntry,
    Phase,
    PodCounts,
    RevisionSource,
    RolloutStatus,
    Status,
    VerificationRecord,
)

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def stored(
    version: str = "v1",
    *,
    name: str = "narrator",
    namespace: str = "default",
    generation: int = 1,
    status: Status | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """A voice whose spec names a version, and whose status says what it is told to say (nothing: none yet)."""
    document = voice(version, **sections).dump()
    document.pop("status", None)
    document["metadata"] = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-of-{namespace}-{name}",
        "generation": generation,
        "resourceVersion": "1",
        "creationTimestamp": START.isoformat(),
        "annotations": {},
        "managedFields": [{"manager": "kubectl", "operation": "Update", "time": START.isoformat()}],
    }
    if status is not None:
        document["status"] = plain(status)
    return document


def plain(status: Status) -> dict[str, Any]:
    """The status as it is stored."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def serving(*versions: str, generation: int = 1, **fields: Any) -> Status:
    """Idle on the first version, confirmed; the others were confirmed before it."""
    good = dict.fromkeys(("Ready", "Promoted", "Verified", "Preloaded"), "True")
    said: dict[str, Any] = {
        "observed_generation": generation,
        "reason": "Serving",
        "message": f"serves {short(revision(versions[0]))}",
        "active_revision": revision(versions[0]),
        "stable_revision": revision(versions[0]),
        "history": tuple(_confirmed(each, age) for age, each in enumerate(versions)),
        "verifications": (
            VerificationRecord(
                revision=revision(versions[0]),
                key="0" * 64,
                engine_build="demo-1",
                device_class="cpu",
                similarity=0.951,
                pass_ratio=1.0,
                at=START,
            ),
        ),
        "pods": PodCounts(total=3, ready=3, updated=3, summary="3/3", at=START),
        "conditions": conditions({**good, "Reconciling": "False", "Stalled": "False"}, reason="Confirmed"),
    }
    return Status(**(said | fields))


def rolling(target: str, *versions: str, phase: Phase, generation: int = 2, **fields: Any) -> Status:
    """On the way from the first of the versions (none: the first one ever) to another."""
    counts = PodCounts(total=4, ready=4, updated=1, loaded=3, verified=2, summary="1/4", at=START)
    source = RevisionSource(**_confirmed(target, 0).model_dump(exclude={"since"}))
    said: dict[str, Any] = {
        "phase": phase,
        "reason": "Progressing",
        "message": "3 of 4 pods have it",
        "target_revision": revision(target),
        "attempt": 1,
        "phase_started_at": START,
        "rollout": RolloutStatus(source=source, key="0" * 64, started_at=START),
        "pods": counts,
        "conditions": conditions({"Ready": "True", "Reconciling": "True", "Promoted": "False"}, reason="Progressing"),
    }
    return (
        serving(*versions, generation=generation) if versions else Status(observed_generation=generation)
    ).model_copy(update=said | fields)


def rolled_back(bad: str, *versions: str, reason: str = "ErrorRate", generation: int = 2, **fields: Any) -> Status:
    """Idle again after a version failed, its spec reverted."""
    failure = FailedRevision(
        **_confirmed(bad, 0).model_dump(exclude={"since"}),
        key="0" * 64,
        reason=reason,
        message="6 of 80 failed",
        at=START,
    )
    said = {
        "reason": "RolledBack",
        "failed_revisions": (failure,),
        "conditions": conditions(
            {"Ready": "True", "Reconciling": "False", "Promoted": "False"},
            reason="RolledBack",
            message="6 of 80 failed",
        ),
    }
    return serving(*versions, generation=generation).model_copy(update=said | fields)


def conditions(values: dict[str, str], *, reason: str, message: str = "") -> tuple[Condition, ...]:
    """Conditions that all have one reason."""
    return tuple(
        Condition(type=kind, status=ConditionStatus(value), reason=reason, message=message, last_transition_time=START)
        for kind, value in values.items()
    )


def _confirmed(version: str, age: int) -> HistoryEntry:
    weights = {"acoustic": Source(uri=f"file:///voices/{version}.npz", sha256=digest(version))}
    return HistoryEntry(revision=revision(version), weights=weights, since=START - timedelta(days=age))

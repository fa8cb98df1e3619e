"""The books as the control API shows them."""

from __future__ import annotations

from collections.abc import Iterable

from segue.memory.messages import PartRef
from segue.memory.voice_view import is_shared, model_of
from segue.wire import ModelsState, PartState, Pointer, ProbeReport, RevisionState, VoiceState
from segue_sidecar.entries import ModelsEntry, RevisionEntry, VoiceEntry


def revision_state(entry: RevisionEntry) -> RevisionState:
    """One revision, without the details of its report."""
    return RevisionState(
        revision=entry.revision,
        phase=entry.phase,
        reason=entry.reason,
        message=entry.message,
        progress=entry.progress,
        handle=entry.handle,
        parts=_parts(entry.parts),
        report=without_details(entry.report) if entry.report else None,
        since_ns=entry.since_ns,
        tier=entry.request.tier,
        stored=entry.stored,
    )


def voice_state(entry: VoiceEntry, *, pointer: Pointer) -> VoiceState:
    """One voice with its revisions."""
    return VoiceState(
        uid=entry.uid,
        fence=str(entry.fence),
        slot=entry.slot,
        pointer=pointer,
        revisions={name: revision_state(revision) for name, revision in entry.revisions.items()},
        watch=entry.watch,
        armed=entry.armed.request if entry.armed else None,
        armed_outcome=entry.armed_outcome,
        self_reverted=entry.self_reverted,
        withdrawn=entry.withdrawn,
    )


def models_state(entry: ModelsEntry) -> ModelsState:
    """The shared models of an engine."""
    parts = (part.model_copy(update={"name": model_of(part.name)}) for part in _parts(entry.parts))
    return ModelsState(
        phase=entry.phase,
        reason=entry.reason,
        message=entry.message,
        source=entry.source,
        progress=entry.progress,
        parts=tuple(parts),
        absent=dict(entry.absent),
        since_ns=entry.since_ns,
    )


def _parts(parts: Iterable[PartRef]) -> tuple[PartState, ...]:
    return tuple(
        PartState(name=part.name, digest=part.digest, size_bytes=part.size_bytes, shared=is_shared(part.name))
        for part in parts
    )


def without_details(report: ProbeReport) -> ProbeReport:
    """A report as the state carries it: figures, not cases."""
    return report if report.details is None else report.model_copy(update={"details": None})

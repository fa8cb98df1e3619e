"""From the engine's commands to the bodies of the sidecar's control API: the counterpart of `observe.py`.

Pure, so that both adapters and the contract tests send the same bytes; who is told, in which order and under which
fence is the adapter's.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from segue.errors import InvalidVoiceModel
from segue.model.spec import Source, VoiceSpec
from segue.model.status import RevisionSource
from segue.rollout.action import RunProbe, SetPointer
from segue.wire import (
    CanaryMode,
    Consistency,
    Expected,
    FileSource,
    PointerRequest,
    ProbeRequest,
    ReferenceSource,
    RevisionRequest,
    SignatureDemand,
    Tier,
    WatchTerms,
)


def revision_request(source: RevisionSource, spec: VoiceSpec, *, resident: bool = True) -> RevisionRequest:
    """Body of `PUT …/revisions/{rev}`.

    Parameters
    ----------
    resident
        False: known is enough, its first request loads it.

    Raises
    ------
    InvalidVoiceModel
        A file has no digest.
    """
    reference = source.reference
    return RevisionRequest(
        engine=spec.engine.value,
        options=dict(source.options),
        weights={
            name: FileSource(uri=file.uri, sha256=_digest(file, f"weights.{name}"))
            for name, file in source.weights.items()
        },
        reference=None
        if reference is None
        else ReferenceSource(
            uri=reference.uri,
            sha256=_digest(reference, "reference"),
            text=reference.text or "",
            language=reference.language or "en",
        ),
        signature=SignatureDemand(required=spec.verification.signature.required, uri=spec.verification.signature.uri),
        tier=Tier(spec.residency.tier.value),
        resident=resident,
    )


def probe_request(command: RunProbe) -> ProbeRequest:
    """Body of `POST …/revisions/{rev}/probe`."""
    return ProbeRequest(kind=command.kind, terms=command.terms, baseline=command.baseline)


def pointer_request(command: SetPointer, *, clock_ahead: timedelta | None = None) -> PointerRequest:
    """Body of `PUT …/pointer`.

    Parameters
    ----------
    clock_ahead
        The pod's clock minus ours; None: not known well enough (over 10 ms), then the flip is done on arrival.
    """
    at_ns = None
    if command.at is not None and clock_ahead is not None:
        at_ns = round((command.at + clock_ahead).timestamp() * 1_000_000) * 1000
    return _pointer_request(
        command.active,
        command.candidate,
        command.mode,
        command.weight,
        command.consistency,
        command.expected,
        at_ns,
        command.watch,
        command.withdrawn,
    )


@lru_cache(maxsize=64)
def _pointer_request(
    active: str | None,
    candidate: str | None,
    mode: CanaryMode,
    weight: int,
    consistency: Consistency,
    expected: Expected | None,
    at_ns: int | None,
    watch: WatchTerms | None,
    withdrawn: str | None,
) -> PointerRequest:
    """The body for thousands of pods is checked once: it is frozen, and all of them are sent the same."""
    return PointerRequest(
        active=active,
        candidate=candidate,
        mode=mode,
        weight=weight,
        consistency=consistency,
        expected=expected,
        at_ns=at_ns,
        watch=watch,
        withdrawn=withdrawn,
    )


def _digest(file: Source, field: str) -> str:
    if file.sha256 is None:
        raise InvalidVoiceModel(f"is required for {file.uri}; run `segue pin`", field=f"spec.{field}.sha256")
    return file.sha256

"""From what the cluster and the sidecars say to what the engine reasons about.

Separate and thin because this is where the wire's version boundary ends: clocks become the operator's, a voice of
another uid becomes no voice at all, and a state older than our last command becomes "out of reach".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segue.model.voice import VoiceModel
from segue.rollout.snapshot import Bucket, PodView, PointerView, RevisionView, SelfRevertView, Windows
from segue.wire import (
    Bucket as WireBucket,
)
from segue.wire import (
    Fence,
    OthersWindow,
    PodIdentity,
    RevisionState,
    RevisionWindows,
    StateDocument,
    VoiceState,
    WindowsDocument,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What the cluster knows of a pod, without asking it."""

    uid: str
    name: str
    created_at: datetime
    ready: bool = True
    ready_since: datetime | None = None
    terminating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a pod's sidecar said, and how its clock stands to ours.

    Attributes
    ----------
    state
        None: it did not answer.
    last_fence
        The highest fence we sent it for this voice: a state with a lower one was read before that command.
    clock_ahead_s
        Sidecar's clock minus ours, from the minimum round trip.
    """

    state: StateDocument | None
    windows: WindowsDocument | None = None
    last_fence: Fence | None = None
    clock_ahead_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Standing:
    """All that the engine looks at of a voice on a pod.

    Nothing in it belongs to one pod alone (no fence, no handle, no time), so that pods on which a voice stands alike
    can share one.
    """

    uid: str = ""
    pointer: PointerView = field(default_factory=PointerView)
    revisions: Mapping[str, RevisionView] = field(default_factory=dict)
    watching: tuple[str, str] | None = None
    armed: str | None = None
    self_reverted: SelfRevertView | None = None
    withdrawn: str | None = None


ABSENT = Standing()
"""The pod knows nothing of the voice."""


def view_pod(facts: PodFacts, sighting: Sighting, voice: VoiceModel) -> PodView:
    """Put both together for one voice."""
    document = sighting.state
    if document is None or document.pod.uid != facts.uid:
        return unseen(facts)
    state = _state_of(document, voice)
    if not _is_current(state, sighting.last_fence):
        return unseen(facts)
    standing = standing_of(state) if state is not None else ABSENT
    engine, windows = voice.spec.engine.value, _windows(sighting, voice)
    return view_standing(facts, document.pod, standing, engine=engine, windows=windows)


def unseen(facts: PodFacts) -> PodView:
    """A pod whose sidecar says nothing that could be trusted now."""
    return PodView(
        uid=facts.uid,
        name=facts.name,
        created_at=facts.created_at,
        ready=facts.ready,
        ready_since=facts.ready_since,
        terminating=facts.terminating,
        in_reach=False,
    )


def view_standing(
    facts: PodFacts, identity: PodIdentity, standing: Standing, *, engine: str, windows: Windows | None = None
) -> PodView:
    """A pod that answered, as one voice finds it."""
    return PodView(
        uid=facts.uid,
        name=facts.name,
        created_at=facts.created_at,
        ready=facts.ready,
        ready_since=facts.ready_since,
        terminating=facts.terminating,
        in_reach=True,
        engine_build=identity.engine_builds.get(engine, ""),
        device_class=identity.device_class,
        pointer=standing.pointer,
        revisions=standing.revisions,
        watching=standing.watching,
        armed=standing.armed,
        self_reverted=standing.self_reverted,
        withdrawn=standing.withdrawn,
        windows=windows,
    )


def standing_of(state: VoiceState) -> Standing:
    """What the engine looks at of a voice's state."""
    pointer, reverted, watch = state.pointer, state.self_reverted, state.watch
    return Standing(
        uid=state.uid,
        pointer=PointerView(
            active=pointer.active, candidate=pointer.candidate, mode=pointer.mode, weight=pointer.weight
        ),
        revisions={name: _revision(each) for name, each in state.revisions.items()},
        watching=(watch.previous, watch.revision) if watch is not None else None,
        armed=state.armed.active if state.armed is not None else None,
        self_reverted=None
        if reverted is None
        else SelfRevertView(
            from_revision=reverted.from_revision,
            to_revision=reverted.to_revision,
            message=reverted.message or f"{reverted.errors} of {reverted.requests} requests failed",
        ),
        withdrawn=state.withdrawn,
    )


def view_windows(document: WindowsDocument, *, clock_ahead_s: float = 0.0) -> Windows:
    """Buckets in the operator's clock."""
    return Windows(
        revisions={
            name: tuple(_bucket(each, clock_ahead_s) for each in windows.buckets)
            for name, windows in document.revisions.items()
        },
        others=tuple(_others(each, clock_ahead_s) for each in document.others),
        texts={name: _bitmap(windows) for name, windows in document.revisions.items()},
    )


def sort_pods(pods: Sequence[PodView]) -> tuple[PodView, ...]:
    """Pods in a fixed order, so that equal observations are equal snapshots."""
    return tuple(sorted(pods, key=lambda pod: pod.uid))


def _state_of(document: StateDocument, voice: VoiceModel) -> VoiceState | None:
    """The voice's state; another uid is a voice that was deleted, whose place the first command takes."""
    state = document.voices.get(voice.key)
    return state if state is not None and state.uid == voice.metadata.uid else None


def _is_current(state: VoiceState | None, last_fence: Fence | None) -> bool:
    if last_fence is None:
        return True
    return state is not None and Fence.parse(state.fence) >= last_fence


def _windows(sighting: Sighting, voice: VoiceModel) -> Windows | None:
    document = sighting.windows
    if document is None or document.voice != voice.key:
        return None
    return view_windows(document, clock_ahead_s=sighting.clock_ahead_s)


def _revision(state: RevisionState) -> RevisionView:
    return RevisionView(
        revision=state.revision,
        phase=state.phase,
        reason=state.reason,
        message=state.message,
        fraction=state.progress.fraction,
        report=state.report,
        tier=state.tier,
    )


def _bucket(bucket: WireBucket, ahead_s: float) -> Bucket:
    return Bucket(
        start_s=bucket.start_s - ahead_s,
        successes=bucket.successes,
        errors=bucket.error_count,
        mirrored=bucket.mirrored,
    )


def _others(window: OthersWindow, ahead_s: float) -> Bucket:
    errors = min(window.errors, window.requests)
    return Bucket(start_s=window.start_s - ahead_s, successes=window.requests - errors, errors=errors)


def _bitmap(windows: RevisionWindows) -> int:
    return int(windows.texts, 16) if windows.texts else 0

"""The fleet over the sidecars' control API: what the engine sees, and what it decides, put on the wire.

Separate from `pod.py`, which keeps one state fresh; here is what concerns a voice on all pods.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

from segue.errors import ControlUnreachable, InvalidCommand, NotFound
from segue.model import VoiceModel
from segue.rollout import (
    Command,
    ConfirmWatch,
    DropRevision,
    EnsureRevision,
    PodFacts,
    PodView,
    RunProbe,
    SetPointer,
    Sighting,
    pointer_request,
    probe_request,
    revision_request,
    sort_pods,
    view_pod,
)
from segue.rollout.snapshot import RevisionView
from segue.wire import Fence, PointerResult, RevisionPhase, StateDocument, WindowsDocument
from segue_operator.fleet.pod import Pod, fence_of

EVIDENCE_S = 3600
ALWAYS_THERE = datetime.fromtimestamp(0, UTC)
"""A pod of one machine was there before any rollout: a sidecar that is started again still belongs to it."""

REFUSAL_S = 60.0
"""How long a refused revision counts as failed before the sidecar, which may be configured anew, is asked again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sidecar would not even begin with a revision: a source outside the allowed ones, an engine it has not."""

    view: RevisionView
    until_monotonic_s: float


@dataclass(frozen=True, slots=True)
class SidecarFleet:
    """Pods by uid.

    Attributes
    ----------
    evidence
        The latest buckets by (pod, voice), for people who ask.
    refusals
        By (pod, voice, revision): no sidecar keeps what it never took, and without a reason the rollout would wait
        for its deadline.
    """

    pods: dict[str, Pod]
    evidence: dict[tuple[str, str], WindowsDocument] = field(default_factory=dict)
    refusals: dict[tuple[str, str, str], Refusal] = field(default_factory=dict)

    def add(self, pods: Iterable[Pod]) -> None:
        """More pods, before `run`."""
        self.pods.update((pod.uid, pod) for pod in pods)

    async def observe(self, voice: VoiceModel, *, evidence: bool) -> tuple[PodView, ...]:
        """See `ports.Fleet`."""
        return sort_pods(await asyncio.gather(*(self._view(pod, voice, evidence) for pod in self.pods.values())))

    async def _view(self, pod: Pod, voice: VoiceModel, evidence: bool) -> PodView:
        state = await pod.current(voice.key)
        windows = await self._windows(pod, voice.key) if evidence and state is not None else None
        facts = PodFacts(uid=pod.uid, name=pod.name, created_at=ALWAYS_THERE)
        sighting = Sighting(state=state, windows=windows, clock_ahead_s=pod.offset.offset_ns / 1e9)
        return self._with_refusals(view_pod(facts, sighting, voice), voice.key)

    def _with_refusals(self, view: PodView, key: str) -> PodView:
        now_s = time.monotonic()
        refused = {
            revision: refusal.view
            for (pod, voice, revision), refusal in self.refusals.items()
            if (pod, voice) == (view.uid, key) and now_s < refusal.until_monotonic_s
        }
        return replace(view, revisions={**refused, **view.revisions}) if view.in_reach and refused else view

    async def _windows(self, pod: Pod, key: str) -> WindowsDocument | None:
        since_s = int(datetime.now(UTC).timestamp() + pod.offset.offset_ns / 1e9) - EVIDENCE_S
        try:
            found = await pod.client.windows(key, since_s=max(0, since_s), term=pod.term())
        except NotFound:
            return None
        except ControlUnreachable as error:
            logger.warning("evidence of %s is missing: %s", key, error, extra={"voice": key, "pod": pod.uid})
            return None
        self.evidence[pod.uid, key] = found
        return found

    async def send(self, command: Command, pod: str, *, voice: VoiceModel, next_fence: Callable[[], Fence]) -> Fence:
        """See `ports.Fleet`."""
        target, fence = self.pods[pod], next_fence()
        with target.sending(voice.key, fence):
            try:
                await _carry_out(command, target, voice, fence)
            except InvalidCommand as error:
                if isinstance(command, EnsureRevision):
                    self._note_refusal(pod, voice.key, command.source.revision, error)
                raise
        if isinstance(command, DropRevision):
            self.refusals.pop((pod, voice.key, command.revision), None)
        return fence

    def _note_refusal(self, pod: str, key: str, revision: str, error: InvalidCommand) -> None:
        reason, _, message = str(error).partition(": ")
        if not reason.isidentifier():
            reason, message = type(error).__name__, str(error)
        view = RevisionView(revision=revision, phase=RevisionPhase.FAILED, reason=reason, message=message)
        self.refusals[pod, key, revision] = Refusal(view, time.monotonic() + REFUSAL_S)

    async def release(self, voice: VoiceModel, *, next_fence: Callable[[], Fence]) -> bool:
        """See `ports.Fleet`."""
        done = [await self._release_on(pod, voice, next_fence) for pod in self.pods.values()]
        return all(done)

    async def _release_on(self, pod: Pod, voice: VoiceModel, next_fence: Callable[[], Fence]) -> bool:
        state = await pod.current(voice.key)
        if state is None:
            return False
        held = state.voices.get(voice.key)
        if held is None or held.uid != voice.metadata.uid:
            return True
        fence = next_fence()
        with pod.sending(voice.key, fence):
            await pod.client.release_voice(voice.key, fence=fence, voice_uid=voice.metadata.uid)
        return True

    def follow(self, key: str, *, closely: bool) -> None:
        """See `ports.Fleet`."""
        for pod in self.pods.values():
            pod.follow(key, closely=closely)

    def states(self) -> Mapping[str, StateDocument | None]:
        """The latest state of each pod by uid; None while it is out of reach."""
        return {uid: pod.state for uid, pod in self.pods.items()}

    def highest_term(self) -> int:
        """See `ports.Fleet`."""
        voices = [voice for state in self.states().values() if state is not None for voice in state.voices.values()]
        return max((fence_of(voice).term for voice in voices), default=0)

    async def run(self) -> None:
        """Poll all pods until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for pod in self.pods.values():
                    group.create_task(pod.poll(), name=f"poll {pod.name}")
        finally:
            for pod in self.pods.values():
                await pod.client.aclose()


async def _carry_out(command: Command, pod: Pod, voice: VoiceModel, fence: Fence) -> None:
    client, key, uid = pod.client, voice.key, voice.metadata.uid
    match command:
        case EnsureRevision():
            request = revision_request(command.source, voice.spec)
            await client.ensure_revision(key, command.source.revision, request, fence=fence, voice_uid=uid)
        case RunProbe():
            await client.probe(key, command.revision, probe_request(command), fence=fence, voice_uid=uid)
        case SetPointer():
            ahead = timedelta(microseconds=pod.offset.offset_ns / 1000) if pod.offset.usable() else None
            request_ = pointer_request(command, clock_ahead=ahead)
            sent_ns: list[int] = []
            result = await client.set_pointer(key, request_, fence=fence, voice_uid=uid, on_write=sent_ns.append)
            _log_store(key, sent_ns[-1] if sent_ns else 0, result)
        case ConfirmWatch():
            await client.confirm(key, fence=fence, voice_uid=uid)
        case DropRevision():
            await client.drop_revision(key, command.revision, fence=fence, voice_uid=uid)
        case _:
            assert_never(command)


def _log_store(key: str, sent_ns: int, result: PointerResult) -> None:
    """Say when a flip was commanded and when it was stored; on one machine both clocks are the same."""
    logger.info(
        "pointer of %s: epoch %d, sent %d, received %d, stored %d (CLOCK_MONOTONIC ns; 0: later)",
        key,
        result.pointer.epoch,
        sent_ns,
        result.received_monotonic_ns or 0,
        result.stored_monotonic_ns or 0,
        extra={"voice": key},
    )


def describe(command: Command) -> str:
    """A command in few words, for the log."""
    match command:
        case EnsureRevision():
            return f"have {command.source.revision[:10]} resident"
        case RunProbe():
            return f"probe {command.revision[:10]} ({command.kind.value})"
        case SetPointer():
            candidate = f", {command.weight / 100:g} % to {command.candidate[:10]}" if command.candidate else ""
            return f"point at {command.active[:10] if command.active else 'nothing'}{candidate}"
        case ConfirmWatch():
            return "close the watch"
        case DropRevision():
            return f"let {command.revision[:10]} go"
        case _:
            assert_never(command)

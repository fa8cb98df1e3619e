"""One voice: observe, decide, act once, write it down, again.

Separate from the controller, which starts one of these per voice. Nothing is remembered between turns but what wakes
the next one: the status is the memory, so that a `kill -9` at any line resumes as if nothing had happened. Commands go
first and are idempotent; one that failed is given again by the next decision, because nothing that is written assumes
that it was carried out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from segue.errors import SegueError, StaleFence
from segue.model import Status, VoiceModel
from segue.rollout import Action, Command, Needs, PodView, Snapshot, needs, next_action
from segue.tracing import OUTGOING
from segue.wire import Fence
from segue_operator.desired import NoDesiredSet
from segue_operator.fleet.carrying import describe, log_level, revision_in
from segue_operator.leader import Fences, NotLeading
from segue_operator.ports import Clock, Cluster, DesiredSet, Events, Fleet, Triggers, WriteConflict
from segue_operator.rollout_traces import RolloutTraces
from segue_operator.slots import QUEUED_REASON, SlotBook
from segue_operator.tallies import Tallies
from segue_operator.triggers.nothing import NoTriggers

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
RELEASE_RETRY_S = 5.0

logger = logging.getLogger(__name__)


def by_name(voice: VoiceModel) -> Hashable:
    """The fleet of a voice where names of fleets are unique."""
    return voice.spec.fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every voice's loop shares.

    Attributes
    ----------
    fleet_of
        Tells fleets apart; each has rollout slots of its own.
    """

    cluster: Cluster
    fleet: Fleet
    clock: Clock
    events: Events
    fences: Fences
    slots: SlotBook
    wake: Callable[[frozenset[str]], None]
    triggers: Triggers = field(default_factory=NoTriggers)
    desired: DesiredSet = field(default_factory=NoDesiredSet)
    fleet_of: Callable[[VoiceModel], Hashable] = by_name
    tallies: Tallies = field(default_factory=Tallies)
    traces: RolloutTraces | None = None


class CommandsFailed(SegueError):
    """Some commands of an action did not get through; the next decision gives them again."""


@dataclass(slots=True)
class VoiceLoop:
    """The task of one voice, by its key."""

    key: str
    around: Surroundings
    random: random.Random = field(default_factory=random.Random)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0

    def wake(self) -> None:
        """Something changed: observe again."""
        self._woken.set()

    async def run(self) -> None:
        """Turn after turn until the voice is gone from everywhere.

        Raises
        ------
        NotLeading
            Another operator may lead by now; what was under way has ended.
        """
        while True:
            self._woken.clear()
            pause_s = await self._guarded_turn()
            if pause_s is None and self._woken.is_set():
                continue  # it may have been made anew while the last of it was let go
            if pause_s is None:
                self.around.fleet.follow(self.key, closely=False)
                self.around.wake(self.around.slots.forget(self.key))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()

    async def _guarded_turn(self) -> float | None:
        """A turn, and how long to wait after it; None when the voice is gone."""
        try:
            pause_s = await self.turn()
        except NotLeading:
            raise
        except WriteConflict as conflict:
            logger.debug("%s: observing again: %s", self.key, conflict)
            return self.random.uniform(0, 0.02)
        except SegueError as error:
            return self._retry_s(error)
        except Exception:  # the outermost boundary of one voice: the others go on
            logger.exception("%s: a turn failed", self.key, extra={"voice": self.key})
            return self._retry_s(None)
        self._failures = 0
        return pause_s

    def _retry_s(self, error: SegueError | None) -> float:
        ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        if error is not None:
            logger.warning("%s: %s", self.key, error, extra={"voice": self.key})
        return self.random.uniform(ceiling / 2, ceiling)

    async def turn(self) -> float | None:
        """Observe, decide and act once; seconds to wait for a change, None when the voice is gone.

        Raises
        ------
        WriteConflict
            The voice changed meanwhile: observe again.
        CommandsFailed
            Everything else of the action was done.
        NotLeading
            Another operator may lead by now.
        """
        self.around.fences.check()
        voice = await self.around.cluster.read(self.key)
        if voice is None:
            return await self._release()
        self.around.desired.keep(voice)
        now = self.around.clock.now()
        need = needs(voice.spec, voice.status, now)
        self.around.fleet.follow(self.key, closely=need.long_poll)
        pods = await self.around.fleet.observe(voice, evidence=need.evidence)
        action = self._decide(voice, self._gather(voice, need, pods), now)
        if action is None:
            return self._look_again_s(need, None)
        await self._act(voice, action)
        if action.status is not None or action.revert is not None:
            return 0.0  # the next decision builds on what was just written
        return self._look_again_s(need, action.requeue_after)  # effects of commands wake us

    def _gather(self, voice: VoiceModel, need: Needs, pods: tuple[PodView, ...]) -> Snapshot:
        """Everything that the engine may look at; nothing is awaited in it, so that no slot is taken twice."""
        return Snapshot(
            voice=voice,
            status=voice.status,
            pods=pods,
            slots=self.around.slots.seen_by(self.key, self.around.fleet_of(voice)),
            owner=self.around.cluster.spec_owner(voice),
            alerts=self.around.triggers.alerts(voice),
            queries=self.around.triggers.queries(voice) if need.queries else (),
        )

    def _decide(self, voice: VoiceModel, seen: Snapshot, now: datetime) -> Action | None:
        """Ask the engine and note who holds a slot: one step with `_gather`, nothing is awaited in between."""
        action = next_action(seen, now)
        status = action.status if action is not None and action.status is not None else voice.status
        holds = needs(voice.spec, status, now).holds_slot
        queued, fleet = status.reason == QUEUED_REASON, self.around.fleet_of(voice)
        self.around.wake(self.around.slots.note(self.key, fleet, holds=holds, queued=queued))
        return action

    async def _act(self, voice: VoiceModel, action: Action) -> None:
        """Commands, then the revert, then the status, then the events."""
        if self.around.traces is not None:
            OUTGOING.set(self.around.traces.traceparent(voice))
        failed = await self._send_all(voice, action.commands)
        if action.revert is not None:
            with self.around.fences.under_way():
                await self.around.cluster.revert_spec(voice, action.revert)
        if action.status is not None:
            with self.around.fences.under_way():
                await self.around.cluster.write_status(voice, action.status)
            self.around.tallies.note(self.key, voice.status, action.status)
            if self.around.traces is not None:
                self.around.traces.note(voice, action.status)
        for event in action.events:
            self.around.events.publish(self.key, event)
        if failed:
            raise CommandsFailed("; ".join(failed))

    async def _send_all(self, voice: VoiceModel, commands: tuple[Command, ...]) -> list[str]:
        """Carry out all commands; each kind in order, its pods at the same time. What went wrong."""
        failed: list[str] = []
        for command in commands:
            with self.around.fences.under_way():
                outcomes = await asyncio.gather(*(self._send(command, pod, voice) for pod in command.pods))
            failures = [outcome for outcome in outcomes if outcome is not None]
            if log_level(command) < logging.INFO:
                reached = len(command.pods) - len(failures)
                extra = {"voice": self.key, "revision": revision_in(command)}
                logger.info("%s: %s, on %d pods", self.key, describe(command), reached, extra=extra)
            failed += failures
        return failed

    async def _send(self, command: Command, pod: str, voice: VoiceModel) -> str | None:
        extra = {"voice": self.key, "pod": pod, "revision": revision_in(command)}
        try:
            fence = await self._send_fenced(command, pod, voice)
        except SegueError as error:
            return f"could not {describe(command)}: {error}"
        logger.log(log_level(command), "%s: %s (fence %s)", self.key, describe(command), fence, extra=extra)
        return None

    async def _send_fenced(self, command: Command, pod: str, voice: VoiceModel) -> Fence:
        """Send; where the pod has seen a higher term than ours, take one that gets through next time."""
        try:
            return await self.around.fleet.send(command, pod, voice=voice, next_fence=self.around.fences.next)
        except StaleFence:
            await self.around.fences.outrun(self.around.fleet.highest_term())
            raise

    async def _release(self) -> float | None:
        """The voice does not exist any more: empty the words, drop the revisions, then forget it everywhere."""
        voice = await self.around.cluster.deleted(self.key)
        if voice is None:
            return None
        self.around.desired.withdraw(voice)
        self.around.fleet.follow(self.key, closely=True)
        pods = await self.around.fleet.observe(voice, evidence=False)
        action = next_action(Snapshot(voice=None, status=Status(), pods=pods), self.around.clock.now())
        if action is not None:
            failed = await self._send_all(voice, action.commands)
            if failed:
                raise CommandsFailed("; ".join(failed))
            return 0.0 if not action.requeue_after else action.requeue_after.total_seconds()
        with self.around.fences.under_way():
            released = await self.around.fleet.release(voice, next_fence=self.around.fences.next)
        if not released:
            return RELEASE_RETRY_S
        await self.around.cluster.forget(self.key)
        self.around.tallies.forget(self.key)
        return None

    def _look_again_s(self, need: Needs, requeue_after: timedelta | None) -> float:
        resync_s = need.every.total_seconds() * self.random.uniform(0.75, 1.0)
        return resync_s if requeue_after is None else min(resync_s, max(0.0, requeue_after.total_seconds()))

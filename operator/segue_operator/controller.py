"""One loop per voice, started when the voice appears and woken when something concerns it.

Separate from the loops because it knows which voices there are, and they only know one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from segue.model import VoiceModel
from segue.rollout import needs
from segue_operator.desired import NoDesiredSet
from segue_operator.leader import Fences, NotLeading
from segue_operator.ports import Clock, Cluster, DesiredSet, Events, Fleet, Triggers
from segue_operator.rollout_traces import RolloutTraces
from segue_operator.slots import SlotBook
from segue_operator.tallies import Tallies
from segue_operator.triggers.nothing import NoTriggers
from segue_operator.voice_loop import Surroundings, VoiceLoop, by_name

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Controller:
    """Runs until cancelled.

    Attributes
    ----------
    on_first_reading
        Called once everything was read for the first time.
    """

    cluster: Cluster
    fleet: Fleet
    clock: Clock
    events: Events
    fences: Fences
    slots: SlotBook
    triggers: Triggers = field(default_factory=NoTriggers)
    desired: DesiredSet = field(default_factory=NoDesiredSet)
    fleet_of: Callable[[VoiceModel], Hashable] = by_name
    tallies: Tallies = field(default_factory=Tallies)
    traces: RolloutTraces | None = None
    on_first_reading: Callable[[], None] = lambda: None
    _loops: dict[str, VoiceLoop] = field(default_factory=dict)

    async def run(self) -> None:
        """Follow the cluster's changes."""
        self._count_open_rollouts()
        async with asyncio.TaskGroup() as group:
            started = False
            async for changed in self.cluster.changes():
                self._start_missing(group)
                self.wake(changed)
                if not started:
                    started = True
                    self.on_first_reading()

    def wake(self, keys: frozenset[str] | None) -> None:
        """Let these voices observe again; None: all."""
        for key in self._loops.keys() if keys is None else keys & self._loops.keys():
            self._loops[key].wake()

    def _count_open_rollouts(self) -> None:
        """Slots taken before a restart are still taken, before the first voice asks for one."""
        for voice in self.cluster.voices():
            holds = needs(voice.spec, voice.status, self.clock.now()).holds_slot
            self.slots.note(voice.key, self.fleet_of(voice), holds=holds, queued=False)

    def _start_missing(self, group: asyncio.TaskGroup) -> None:
        around = Surroundings(
            cluster=self.cluster,
            fleet=self.fleet,
            clock=self.clock,
            events=self.events,
            fences=self.fences,
            slots=self.slots,
            wake=self.wake,
            triggers=self.triggers,
            desired=self.desired,
            fleet_of=self.fleet_of,
            tallies=self.tallies,
            traces=self.traces,
        )
        for key in sorted(self.cluster.keys() - self._loops.keys()):
            self._loops[key] = VoiceLoop(key, around)
            group.create_task(self._run(key), name=f"voice {key}")

    async def _run(self, key: str) -> None:
        """One voice, until it is gone. A deposed leader ends its loops one by one, none while it has sent something."""
        try:
            await self._loops[key].run()
        except NotLeading as ended:
            logger.info("%s: nothing more is sent: %s", key, ended, extra={"voice": key})
        finally:
            del self._loops[key]

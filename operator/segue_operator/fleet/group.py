"""The pods of one fleet, and which voices must look again when one of them changes.

Separate because with thousands of pods this is what keeps the control loop still: a pod concerns the voices that it
holds, those that live on every pod, and those that wait for one; and a change that comes with a thousand others is told
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from segue.model import VoiceModel
from segue.model.spec import Tier
from segue_operator.fleet.pod import Pod

GATHER_S_PER_POD = 1e-4
"""Changes are gathered for so long before voices are woken: half a second with 5,000 pods, nothing with a few."""

AT_ONCE_S = 0.005


@dataclass(slots=True, kw_only=True)
class Group:
    """One fleet.

    Attributes
    ----------
    wake
        Told which voices should look again.
    """

    wake: Callable[[frozenset[str]], None]
    _pods: dict[str, Pod] = field(default_factory=dict)
    _sorted: list[Pod] | None = None
    _holders: dict[str, set[Pod]] = field(default_factory=dict)
    _everywhere: set[str] = field(default_factory=set)
    _waiting: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _looked: bool = False
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, pod: Pod) -> None:
        """It joined."""
        self._pods[pod.uid] = pod
        self._sorted = None

    def remove(self, pod: Pod) -> None:
        """It left."""
        self._pods.pop(pod.uid, None)
        self._sorted = None
        for voice in pod.voices:
            self._forget_holder(voice, pod)

    def sorted(self) -> list[Pod]:
        """All pods in a fixed order, so that equal observations are equal snapshots."""
        if self._sorted is None:
            self._sorted = sorted(self._pods.values(), key=lambda pod: pod.uid)
        return self._sorted

    def note_holder(self, voice: str, pod: Pod) -> None:
        """The pod begins or ceases to hold the voice."""
        if voice in pod.voices:
            self._holders.setdefault(voice, set()).add(pod)
        else:
            self._forget_holder(voice, pod)

    def _forget_holder(self, voice: str, pod: Pod) -> None:
        holders = self._holders.get(voice, set())
        holders.discard(pod)
        if not holders:
            self._holders.pop(voice, None)

    def holders(self, voice: str) -> list[Pod]:
        """Pods that hold the voice, in the fixed order."""
        return sorted(self._holders.get(voice, ()), key=lambda pod: pod.uid)

    def concerned(self, voice: VoiceModel) -> list[Pod]:
        """Pods that a voice must look at.

        A voice that does not live on every pod lives where it is served; the others say nothing about it, and of
        thousands they are most. Where none serves it, any may be chosen.
        """
        if voice.spec.residency.tier is not Tier.HOT:
            holders = self.holders(voice.key)
            if any(pod.serves(voice.key, voice.metadata.uid) for pod in holders):
                return holders
        return self.sorted()

    def involved(self, voice: VoiceModel) -> list[Pod]:
        """Pods on which a rollout of the voice goes on."""
        return self.sorted() if voice.spec.residency.tier is Tier.HOT else self.holders(voice.key)

    def note(self, voice: VoiceModel) -> None:
        """A voice looks at the fleet: remember which of its changes concern it."""
        everywhere = voice.spec.residency.tier is Tier.HOT
        (self._everywhere.add if everywhere else self._everywhere.discard)(voice.key)
        served = voice.status.active_revision is not None
        (self._waiting.discard if served else self._waiting.add)(voice.key)

    def forget(self, voice: str) -> None:
        """The voice is gone."""
        self._everywhere.discard(voice)
        self._waiting.discard(voice)

    def changed(self, pod: Pod, voices: frozenset[str] | None) -> None:
        """A pod says something new of these voices; None: it came, went or changed as a whole."""
        if voices is None:
            voices = frozenset(pod.voices) | self._everywhere | self._waiting
        self._changed |= voices
        self._note_settled()
        delay_s = len(self._pods) * GATHER_S_PER_POD
        if delay_s < AT_ONCE_S:
            self._tell()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tell)

    async def first_look(self, most_s: float) -> None:
        """Wait until every pod that was there at the start has been asked once."""
        if self._looked:
            return
        self._note_settled()
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._settled.wait()
        self._looked = True

    def _note_settled(self) -> None:
        if not self._looked and all(pod.settled or pod.client is None for pod in self._pods.values()):
            self._settled.set()

    def _tell(self) -> None:
        self._timer = None
        changed, self._changed = frozenset(self._changed), set()
        if changed:
            self.wake(changed)

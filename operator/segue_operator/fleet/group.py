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

SOON_S_PER_POD = 1e-4
"""What concerns voices in a rollout is gathered for so long: half a second with 5,000 pods, nothing with a few."""

LATER_S_PER_POD = 1e-3
"""And what concerns the others: pods that come and go by the hundred wake a thousand voices every five seconds."""

FEW_PODS = 100
"""So many cost nothing to look at: in such a fleet every pod is told of every voice."""

AT_ONCE_S = 0.01
FIRST_LOOK_S, FIRST_LOOK_S_PER_POD = 10.0, 0.02
"""So long a voice waits for the first answers of its fleet after a start: a pod not asked yet is not a pod lost."""


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
    _narrow: Gathered = field(init=False)
    _soon: Gathered = field(init=False)
    _later: Gathered = field(init=False)
    _unasked: set[Pod] = field(default_factory=set)
    _looked: bool = False
    _all_asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._narrow, self._soon, self._later = (Gathered(self.wake) for _ in range(3))

    def add(self, pod: Pod) -> None:
        """It joined."""
        self._pods[pod.uid] = pod
        self._sorted = None
        if not self._looked and pod.client is not None:
            self._unasked.add(pod)

    def remove(self, pod: Pod) -> None:
        """It left."""
        self._pods.pop(pod.uid, None)
        self._sorted = None
        self._unasked.discard(pod)
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
        thousands they are most; those hear of it by the desired set. Where none serves it, any may be chosen.
        """
        if voice.spec.residency.tier is not Tier.HOT and len(self._pods) > FEW_PODS:
            holders = self.holders(voice.key)
            if any(pod.serves(voice.key, voice.metadata.uid) for pod in holders):
                return holders
        return self.sorted()

    def involved(self, voice: VoiceModel) -> list[Pod]:
        """Pods on which a rollout of the voice goes on: not those where it sleeps, unless it sleeps everywhere."""
        if voice.spec.residency.tier is Tier.HOT:
            return self.sorted()
        holders = self.holders(voice.key)
        return [pod for pod in holders if pod.is_awake(voice.key)] or holders

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
        if pod.settled:
            self._unasked.discard(pod)
            self._note_all_asked()
        urgent = pod.followed if voices is None else voices & pod.followed
        others = frozenset(pod.voices) | self._everywhere | self._waiting if voices is None else voices
        pods = len(self._pods)
        narrow = urgent - self._everywhere
        self._narrow.add(narrow, within_s=max((self._count(each) for each in narrow), default=0) * SOON_S_PER_POD)
        self._soon.add(urgent & self._everywhere, within_s=pods * SOON_S_PER_POD)
        self._later.add(others - urgent, within_s=pods * LATER_S_PER_POD)

    def _count(self, voice: str) -> int:
        return len(self._holders.get(voice, ()))

    async def first_look(self) -> None:
        """Wait until every pod that was there at the start has been asked once."""
        if self._looked:
            return
        self._note_all_asked()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S + len(self._pods) * FIRST_LOOK_S_PER_POD):
                await self._all_asked.wait()
        self._looked = True

    def _note_all_asked(self) -> None:
        if not self._unasked:
            self._all_asked.set()


@dataclass(slots=True)
class Gathered:
    """Voices that are told of together."""

    wake: Callable[[frozenset[str]], None]
    _voices: set[str] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None

    def add(self, voices: frozenset[str], *, within_s: float) -> None:
        """Tell them, now or after a while."""
        self._voices |= voices
        if within_s < AT_ONCE_S:
            self._tell()
        elif self._voices and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(within_s, self._tell)

    def _tell(self) -> None:
        self._timer = None
        voices, self._voices = frozenset(self._voices), set()
        if voices:
            self.wake(voices)

"""Listeners who never stop: plain and streaming requests at every ready pod, each answer compared afterwards.

Separate from the load generator of the benches, which it runs: one generator for each voice on each pod, begun when
the pod becomes an endpoint and ended when it ceases to be one, as a Service would balance it.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.support.pods.backstage import Backstage

from segue_cli.measure.load import LoadGenerator
from segue_cli.measure.mixed import judge_records
from segue_cli.measure.renderings import Renderings
from segue_cli.measure.shots import LoadPlan, Mode, OpenLoop, Record, Shot, failures
from segue_cli.measure.texts import TEXTS

STATEMENTS = TEXTS[:40]
QUESTIONS = tuple(f"{text[:-1]}?" for text in TEXTS[40:])
MIXED_TEXTS = tuple(text for pair in zip(STATEMENTS, QUESTIONS, strict=False) for text in pair)
"""Statements and questions by turns: a version that fails on questions fails every other request."""

RATE_PER_S = 3.0
SESSIONS = 37
"""Listeners a voice has; no divisor of the number of shots, so that every listener asks for every text."""
TIMEOUT_S = 40.0


class Endpoint(Protocol):
    """Where a voice is asked for: a pod, or a Service."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def address(self) -> str:
        """Host."""
        ...

    @property
    def port(self) -> int:
        """Of the speech API."""
        ...


@dataclass(slots=True)
class Tally:
    """What a case's requests came to."""

    requests: int = 0
    failed: int = 0
    mixed: int = 0
    shielded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Lane:
    """One voice on one pod."""

    pod: str
    voice: str
    plan: LoadPlan
    generator: LoadGenerator
    task: asyncio.Task[list[Record]]


@dataclass(slots=True)
class Subscription:
    """What is asked of one voice."""

    voice: str
    shots: tuple[Shot, ...]
    rate_per_s: float


@dataclass(slots=True)
class Traffic:
    """All requests of one case. `begin`, `end` and `finish` are called by tests, the rest backstage.

    Attributes
    ----------
    judging
        Renderings are made for one case at a time.
    requests_per_connection
        See `LoadPlan`.
    """

    backstage: Backstage
    spool: Path
    renderings: Renderings
    judging: threading.Lock
    requests_per_connection: int = 0
    _pods: tuple[Endpoint, ...] = ()
    _wanted: dict[str, Subscription] = field(default_factory=dict)
    _lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    _ended: list[Lane] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    # --- what tests call ----------------------------------------------------------------------------------------------

    def begin(self, voice: str, *, texts: Sequence[str] = STATEMENTS, rate_per_s: float = RATE_PER_S) -> None:
        """Ask for a voice at every endpoint, until `end`; again with other texts replaces what was asked."""
        self.backstage.call(self._begin(Subscription(voice, make_shots(voice, texts), rate_per_s)))

    def end(self, voice: str) -> None:
        """No further request for the voice; those under way are answered first."""
        self.backstage.call(self._end(voice), within_s=TIMEOUT_S + 60)

    def answers(self, voice: str, revision: str | None = None) -> int:
        """How many complete answers there were so far: by this revision, or by any."""
        lanes = [lane for lane in (*self._lanes.values(), *self._ended) if lane.voice == voice]
        records = (record for lane in lanes for record in tuple(lane.generator.records))
        return sum(record.ok and revision in (None, record.revision) for record in records)

    def records(self, voice: str) -> list[Record]:
        """All requests for a voice so far, in the order in which they ended."""
        lanes = [lane for lane in (*self._lanes.values(), *self._ended) if lane.voice == voice]
        return sorted((r for lane in lanes for r in tuple(lane.generator.records)), key=lambda record: record.end_ns)

    def finish(self) -> Tally:
        """End everything and judge every answer; the next case begins from nothing."""
        for voice in list(self._wanted):
            self.end(voice)
        lanes, self._ended = self._ended, []
        tally = Tally()
        with self.judging:
            for lane in lanes:
                self._judge(lane, tally)
        return tally

    # --- backstage ----------------------------------------------------------------------------------------------------

    def route(self, pods: Sequence[Endpoint]) -> None:
        """The endpoints are these from now on."""
        self._pods = tuple(pods)
        names = {pod.name for pod in pods}
        for key in [key for key in self._lanes if key[0] not in names]:
            self._retire(key)
        for subscription in self._wanted.values():
            self._open_missing(subscription)

    async def _begin(self, subscription: Subscription) -> None:
        for key in [key for key in self._lanes if key[1] == subscription.voice]:
            self._retire(key)
        self._wanted[subscription.voice] = subscription
        self._open_missing(subscription)

    async def _end(self, voice: str) -> None:
        self._wanted.pop(voice, None)
        for key in [key for key in self._lanes if key[1] == voice]:
            self._retire(key)
        await asyncio.gather(*(lane.task for lane in self._ended if lane.voice == voice))

    def _open_missing(self, subscription: Subscription) -> None:
        for pod in self._pods:
            if (pod.name, subscription.voice) not in self._lanes:
                self._lanes[pod.name, subscription.voice] = self._open(pod, subscription)

    def _open(self, pod: Endpoint, subscription: Subscription) -> Lane:
        plan = LoadPlan(
            host=pod.address,
            port=pod.port,
            shots=subscription.shots,
            pace=OpenLoop(rate_per_s=subscription.rate_per_s),
            timeout_s=TIMEOUT_S,
            drain_s=TIMEOUT_S,
            spool=str(self.spool / f"{next(self._numbers)}"),
            sessions=SESSIONS,
            requests_per_connection=self.requests_per_connection,
        )
        generator = LoadGenerator(plan)
        name = f"{subscription.voice} on {pod.name}"
        task = asyncio.create_task(generator.run(), name=name)
        return Lane(pod=pod.name, voice=subscription.voice, plan=plan, generator=generator, task=task)

    def _retire(self, key: tuple[str, str]) -> None:
        lane = self._lanes.pop(key)
        lane.generator.stop()
        self._ended.append(lane)

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def _judge(self, lane: Lane, tally: Tally) -> None:
        records, spool = lane.generator.records, Path(str(lane.plan.spool))
        count = judge_records(records, shots=lane.plan.shots, spool=spool, renderings=self.renderings)
        wrong = failures(records)
        tally.requests += len(records)
        tally.failed += sum(wrong.values())
        tally.mixed += count.mixed
        tally.shielded += sum(bool(record.shielded) for record in records)
        tally.errors.update({f"{lane.voice} on {lane.pod}: {error}": times for error, times in wrong.items()})
        tally.revisions.update(record.revision[:10] for record in records if record.ok)
        tally.findings += [f"{lane.voice} on {lane.pod}: {finding}" for finding in count.findings]


def make_shots(voice: str, texts: Sequence[str]) -> tuple[Shot, ...]:
    """Every text once; every third streams, half of those as events; wav and pcm take turns."""
    shots = []
    for number, text in enumerate(texts):
        mode = Mode.WHOLE if number % 3 else (Mode.SSE if number % 6 else Mode.CHUNKED)
        kind = "wav" if number % 2 else "pcm"
        shots.append(Shot(voice=voice, text=text, seed=number, mode=mode, response_format=kind))
    return tuple(shots)

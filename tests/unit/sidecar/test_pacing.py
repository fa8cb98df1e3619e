"""What the pacing round remembers from one child to the next, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from segue_sidecar.config import ThrottleSection
from segue_sidecar.evidence import Sample
from segue_sidecar.rounds import Pacing
from segue_sidecar.throttle import Pacer

ROUNDS_A_MINUTE = 240
POLICY = ThrottleSection()


@dataclass
class Machine:
    """A sidecar's surroundings: one worker that always computes, and requests that end as the test says."""

    pacer: Pacer = field(default_factory=Pacer)
    ended: int = 0
    latency_s: float = 1.0
    pacing: Pacing = field(init=False)

    def __post_init__(self) -> None:
        stats = SimpleNamespace(worker=lambda *, now_ns: SimpleNamespace(busy_ns=now_ns))
        roster: Any = [SimpleNamespace(id="worker", stats=stats)]
        config: Any = SimpleNamespace(throttle=POLICY)
        self.pacing = Pacing(config=config, pacer=self.pacer, roster=roster, evidence=cast("Any", self))

    def sample(self, _roster: object) -> Sample:
        """As `Evidence.sample`."""
        return Sample(ended=self.ended, latency_s=self.ended * self.latency_s)

    def rounds(self, count: int, *, ended: int) -> None:
        self.ended = ended
        for _ in range(count):
            self.pacing.round()


@pytest.fixture
def learned() -> Machine:
    """A child ran beside listeners who did not mind, and has ended."""
    machine = Machine()
    machine.rounds(40, ended=1)
    machine.pacer.add(1)
    assert machine.pacer.duty == POLICY.duty
    machine.rounds(80, ended=1)
    machine.pacer.remove(1)
    return machine


def test_children_come_to_what_listeners_bear(learned: Machine) -> None:
    assert learned.pacer.duty == POLICY.max_duty


def test_the_next_child_begins_where_the_last_one_ended(learned: Machine) -> None:
    learned.rounds(ROUNDS_A_MINUTE // 2, ended=1)
    learned.pacer.add(2)
    learned.rounds(1, ended=0)
    assert learned.pacer.duty == POLICY.max_duty


def test_after_a_minute_it_is_learned_anew(learned: Machine) -> None:
    learned.rounds(ROUNDS_A_MINUTE + 1, ended=1)
    assert learned.pacer.duty == POLICY.duty


def test_what_was_remembered_is_taken_back_by_the_first_verdict(learned: Machine) -> None:
    learned.rounds(10, ended=1)
    learned.pacer.add(2)
    learned.latency_s = 2.0
    learned.rounds(8, ended=1)
    assert learned.pacer.duty == POLICY.max_duty / 2

"""However processes are frozen, delayed, cut off and killed, and whatever people do to the Lease: never two leaders.

Hypothesis drives three candidates (tests/support/candidates.py). After every eighth of a second of simulated time, and
after every process has run, it is asked whose commands would go out if it ran now, the frozen ones included. The margin
between the two times is made small, so that a mistake of a second shows.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.candidates import PATH, Candidate, Candidates
from typing_extensions import override

from segue.errors import SegueError
from segue_operator.kubernetes.lease import LeaseTerms
from segue_operator.kubernetes.lease_fences import LeaseFences

WHO = st.integers(0, 2)
DELAYS_S = st.sampled_from([0.01, 0.3, 2.5, 4.0, 9.0, 14.0, 30.0])


class Elections(RuleBasedStateMachine):
    """Three candidates, and what may happen to them."""

    @initialize(ahead=st.lists(st.sampled_from([-3600.0, 0.0, 3600.0]), min_size=3, max_size=3))
    def begin(self, ahead: list[float]) -> None:
        self.world = Candidates(terms=LeaseTerms(duration_s=11, renew_deadline_s=10, retry_s=2))
        self.world.all = [self.world.start(f"p{index}", ahead_s=ahead[index]) for index in range(3)]
        self.names = 3
        self.deleted = False

    # --- what may happen ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 6.0, 11.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.live(seconds, check=self.at_most_one_leads)

    @rule(who=WHO)
    def freezes_or_continues(self, who: int) -> None:
        self.process(who).frozen = not self.process(who).frozen

    @rule(seconds=st.sampled_from([1.0, 9.0, 16.0]))
    def the_leader_freezes_and_continues(self, seconds: float) -> None:
        for leader in self.world.leaders:
            leader.frozen = True
            self.world.live(seconds, check=self.at_most_one_leads)
            leader.frozen = False

    @rule(who=WHO, request_s=DELAYS_S, answer_s=DELAYS_S)
    def network_slows_down(self, who: int, request_s: float, answer_s: float) -> None:
        self.process(who).network.request_s = request_s
        self.process(who).network.answer_s = answer_s

    @rule(who=WHO, refuses=st.booleans(), loses_answers=st.booleans())
    def network_breaks(self, who: int, refuses: bool, loses_answers: bool) -> None:
        self.process(who).network.refuses = refuses
        self.process(who).network.loses_answers = loses_answers

    @rule(who=WHO)
    def dies(self, who: int) -> None:
        self.world.restart(who, f"p{self.names}")
        self.names += 1

    @rule(who=WHO)
    def hands_over(self, who: int) -> None:
        self.process(who).election.stop()
        self.world.live(0.5, check=self.at_most_one_leads)

    @rule(above=st.sampled_from([0, 1, 10_000]))
    def a_pod_has_seen_a_higher_term(self, above: int) -> None:
        for leader in self.world.leaders:
            fences, seen = leader.tenures[-1], leader.term + above
            leader.do(lambda fences=fences, seen=seen: _quietly(fences, seen))  # type: ignore[misc]

    @rule()
    def the_lease_is_deleted(self) -> None:
        self.deleted = True
        self.world.objects.stored.pop(PATH, None)

    @rule(holder=st.sampled_from(["", "somebody"]), clears_terms=st.booleans())
    def the_lease_is_edited(self, holder: str, clears_terms: bool) -> None:
        if PATH in self.world.objects.stored:
            self.world.objects.edit(PATH, lambda body: body["spec"].update(holderIdentity=holder))
            if clears_terms:
                self.deleted = True
                self.world.objects.edit(PATH, lambda body: body["metadata"].update(annotations={}))

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_leads(self) -> None:
        leaders = [each.name for each in self.world.leaders]
        assert len(leaders) <= 1, f"{leaders} at {self.world.time.now_s}: {self.world.objects.stored}"

    @invariant()
    def terms_rise(self) -> None:
        """From one tenure to the next, unless somebody took the memory of them away."""
        tenures = [fences for each in self.world.all for fences in each.tenures]
        assert len({fences.term for fences in tenures}) == len(tenures) or self.deleted
        for each in self.world.all:
            own = [fences.term for fences in each.tenures]
            assert own == sorted(set(own)), f"{each.name} went back: {own}"

    @override
    def teardown(self) -> None:
        """Heal everything: then one leads, soon."""
        for index, each in enumerate(self.world.all):
            each.frozen = False
            each.network = type(each.network)()
            if each.task.done() or each.election._stop.is_set():
                self.dies(index)
        self.world.live(60, check=self.at_most_one_leads)
        assert len(self.world.leaders) == 1, self.world.describe()
        self.world.close()

    def process(self, who: int) -> Candidate:
        return self.world.all[who]


async def _quietly(fences: LeaseFences, seen: int) -> None:
    with suppress(SegueError):
        await fences.outrun(seen)


Elections.TestCase.settings = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    stateful_step_count=30,
    deadline=timedelta(seconds=60),
    suppress_health_check=list(HealthCheck),
)
TestElections = Elections.TestCase

"""One operator leads, by a Lease: taking, renewing, losing and giving back, and what people do to the object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.candidates import PATH, Candidate, Candidates, LeadFailed

from segue.errors import SegueError
from segue_operator.kubernetes.lease import LeaseTerms
from segue_operator.leader import NotLeading

TERMS = LeaseTerms()
A_MOMENT_S = 3.0


@pytest.fixture
def pair() -> Iterator[Candidates]:
    made = Candidates("first", "second")
    yield made
    made.close()


def elect(candidates: Candidates) -> tuple[Candidate, Candidate]:
    """The leader and the other one, both settled."""
    candidates.live_until(lambda: len(candidates.leaders) == 1)
    candidates.live(A_MOMENT_S)
    (leader,) = candidates.leaders
    (other,) = (each for each in candidates.all if each is not leader)
    return leader, other


def spec_of(candidates: Candidates) -> dict[str, Any]:
    return dict(candidates.objects.stored[PATH]["spec"])


def annotation(candidates: Candidates, name: str) -> str | None:
    found = candidates.objects.stored[PATH]["metadata"]["annotations"].get(f"segue.dev/{name}")
    return None if found is None else str(found)


def test_of_two_candidates_exactly_one_leads(pair: Candidates) -> None:
    leader, other = elect(pair)
    assert not other.tenures
    assert spec_of(pair)["holderIdentity"] == leader.name
    pair.live(300)
    assert pair.leaders == [leader]
    assert len(leader.tenures) == 1


def test_the_term_is_in_the_lease_and_at_least_the_unix_time(pair: Candidates) -> None:
    leader, _ = elect(pair)
    assert annotation(pair, "term") == str(leader.term)
    assert leader.term >= 1_790_000_000


def test_times_in_the_lease_are_utc_with_microseconds(pair: Candidates) -> None:
    elect(pair)
    for name in ("acquireTime", "renewTime"):
        assert spec_of(pair)[name].startswith("2026-11-22T10:")
        assert spec_of(pair)[name].endswith("Z")
        assert len(spec_of(pair)[name]) == len("2026-11-22T10:00:00.000000Z")


def test_a_lease_that_is_given_back_is_taken_within_two_seconds(pair: Candidates) -> None:
    leader, other = elect(pair)
    before = leader.term
    leader.election.stop()
    took_s = pair.live_until(lambda: other.valid)
    assert took_s < 2.0
    assert not leader.valid
    assert leader.task.done()
    assert other.term > before


def test_a_leader_that_hands_over_waits_for_what_it_has_sent(pair: Candidates) -> None:
    leader, other = elect(pair)
    with leader.tenures[0].under_way():
        leader.election.stop()
        pair.live(0.5)
        assert not other.valid, "the Lease was given back while a command was under way"
        with pytest.raises(NotLeading):
            leader.tenures[0].next()
    assert pair.live_until(lambda: other.valid) < 2.0


def test_what_never_ends_holds_a_handover_up_for_a_second_only(pair: Candidates) -> None:
    leader, other = elect(pair)
    with leader.tenures[0].under_way():
        leader.election.stop()
        assert pair.live_until(lambda: other.valid) < 3.0


def test_a_dead_leader_is_followed_after_the_lease_has_run_out(pair: Candidates) -> None:
    leader, other = elect(pair)
    pair.restart(pair.all.index(leader), "third")
    took_s = pair.live_until(lambda: len(pair.leaders) == 1)
    assert TERMS.duration_s - TERMS.retry_s <= took_s <= TERMS.duration_s + TERMS.retry_s
    assert not other.tenures or other.term > leader.term


def test_a_leader_that_cannot_renew_stops_before_anybody_can_take_the_lease(pair: Candidates) -> None:
    leader, other = elect(pair)
    leader.network.refuses = True
    stopped_s = pair.live_until(lambda: not leader.valid)
    assert stopped_s <= TERMS.renew_deadline_s
    assert not other.valid
    pair.live(1)
    assert not leader.election.leading
    taken_s = stopped_s + 1 + pair.live_until(lambda: other.valid)
    assert taken_s >= TERMS.duration_s - TERMS.retry_s


def test_a_leader_whose_requests_hang_stops_as_well(pair: Candidates) -> None:
    leader, _ = elect(pair)
    leader.network.request_s = 1_000.0
    assert pair.live_until(lambda: not leader.valid) <= TERMS.renew_deadline_s


def test_a_short_outage_changes_nothing(pair: Candidates) -> None:
    leader, other = elect(pair)
    pair.objects.down = True
    pair.live(TERMS.renew_deadline_s - 1.5 * TERMS.retry_s)
    pair.objects.down = False
    pair.live(60)
    assert pair.leaders == [leader]
    assert len(leader.tenures) == 1
    assert not other.tenures


def test_after_an_outage_one_leads_again_with_a_higher_term(pair: Candidates) -> None:
    leader, _ = elect(pair)
    before = leader.term
    pair.objects.down = True
    pair.live(60)
    assert not pair.leaders
    pair.objects.down = False
    pair.live_until(lambda: len(pair.leaders) == 1, most_s=TERMS.retry_s + 1)
    assert pair.leaders[0].term > before


def test_a_frozen_leader_sends_nothing_when_it_continues(pair: Candidates) -> None:
    leader, other = elect(pair)
    fences = leader.tenures[0]
    fences.next()
    leader.frozen = True
    pair.live_until(lambda: other.valid)
    for ask in (fences.next, fences.check, lambda: fences.under_way().__enter__()):
        with pytest.raises(NotLeading, match="not renewed in time"):
            ask()
    leader.frozen = False
    pair.live(60)
    assert pair.leaders == [other]
    assert other.term > fences.term


def renewal_under_way(candidates: Candidates, leader: Candidate, *, answer_s: float) -> float:
    """Let the leader renew over a slow network; when the renewal was stored, its answer still on the way back."""
    leader.network.answer_s = answer_s
    stored = candidates.objects.calls["PUT"]
    candidates.live_until(lambda: candidates.objects.calls["PUT"] > stored)
    return candidates.time.now_s


def test_a_tenure_is_counted_from_when_its_renewal_was_sent(pair: Candidates) -> None:
    leader, _ = elect(pair)
    stored_s = renewal_under_way(pair, leader, answer_s=3.0)
    leader.network.refuses = True
    pair.live(3.5)  # the answer is there
    pair.live_until(lambda: not leader.valid)
    assert pair.time.now_s - stored_s <= TERMS.renew_deadline_s


def test_an_answer_that_comes_too_late_does_not_revive_a_tenure(pair: Candidates) -> None:
    leader, _ = elect(pair)
    fences = leader.tenures[0]
    renewal_under_way(pair, leader, answer_s=0.5)
    leader.frozen = True
    pair.live(TERMS.renew_deadline_s + 1)
    leader.frozen = False
    pair.live(0.125)
    with pytest.raises(NotLeading):
        fences.check()


def test_a_leader_that_was_frozen_for_a_moment_goes_on(pair: Candidates) -> None:
    leader, _ = elect(pair)
    leader.frozen = True
    pair.live(5)
    leader.frozen = False
    pair.live(30)
    assert pair.leaders == [leader]
    assert len(leader.tenures) == 1


def test_a_deleted_lease_is_made_again_by_whoever_leads(pair: Candidates) -> None:
    leader, _ = elect(pair)
    for _ in range(3):
        del pair.objects.stored[PATH]
        pair.live(20)
        assert pair.leaders == [leader]
        assert annotation(pair, "term") == str(leader.term)


def test_a_deleted_lease_of_a_dead_leader_is_not_taken_at_once(pair: Candidates) -> None:
    leader, other = elect(pair)
    leader.frozen = True
    del pair.objects.stored[PATH]
    assert pair.live_until(lambda: other.valid) >= TERMS.duration_s
    assert not leader.valid
    assert other.term > leader.term


@pytest.mark.parametrize("holder", ["", "somebody"])
def test_a_holder_that_was_edited_is_no_licence_to_lead(pair: Candidates, holder: str) -> None:
    leader, other = elect(pair)
    pair.objects.edit(PATH, lambda body: body["spec"].update(holderIdentity=holder))
    pair.live_until(lambda: len(pair.leaders) <= 1 and (leader.valid or other.valid))
    pair.live(60)
    assert len(pair.leaders) == 1


def test_labels_and_annotations_of_others_are_kept(pair: Candidates) -> None:
    leader, _ = elect(pair)
    pair.objects.edit(PATH, lambda body: body["metadata"].update(labels={"team": "voices"}))
    pair.objects.edit(PATH, lambda body: body["metadata"]["annotations"].update(note="hands off"))
    pair.live(30)
    assert pair.leaders == [leader]
    assert pair.objects.stored[PATH]["metadata"]["labels"] == {"team": "voices"}
    assert pair.objects.stored[PATH]["metadata"]["annotations"]["note"] == "hands off"


def test_nonsense_in_the_lease_stops_nobody(pair: Candidates) -> None:
    leader, _ = elect(pair)

    def spoil(body: dict[str, Any]) -> None:
        body["spec"] = {"leaseDurationSeconds": "soon", "holderIdentity": 7}
        body["metadata"]["annotations"] = {"segue.dev/term": "many"}

    pair.objects.edit(PATH, spoil)
    pair.live(60)
    assert pair.leaders == [leader]
    assert annotation(pair, "term") == str(leader.term)


def test_a_term_is_outrun_in_the_lease_before_it_is_used(pair: Candidates) -> None:
    leader, _ = elect(pair)
    fences, seen = leader.tenures[0], leader.term + 1000
    done = leader.do(lambda: fences.outrun(seen))
    pair.live(0.5)
    assert fences.term == seen + 1
    assert annotation(pair, "term") == str(seen + 1)
    assert done.done()
    pair.live(30)
    assert fences.next().term == seen + 1 == int(annotation(pair, "term") or 0)


def test_many_pods_that_have_seen_a_higher_term_raise_it_once(pair: Candidates) -> None:
    leader, _ = elect(pair)
    fences, seen = leader.tenures[0], leader.term + 10
    for _ in range(5):
        leader.do(lambda: fences.outrun(seen))
    pair.live(1)
    assert fences.term == seen + 1


def test_a_deposed_leader_cannot_outrun_its_successor(pair: Candidates) -> None:
    leader, other = elect(pair)
    fences = leader.tenures[0]
    leader.frozen = True
    pair.live_until(lambda: other.valid)
    task = leader.do(lambda: fences.outrun(other.term))
    leader.frozen = False
    pair.live(5)
    assert isinstance(task.exception(), NotLeading)
    assert pair.leaders == [other]
    assert annotation(pair, "term") == str(other.term)


def test_a_successor_outruns_what_a_dead_leader_raised(pair: Candidates) -> None:
    leader, other = elect(pair)
    fences = leader.tenures[0]
    leader.do(lambda: fences.outrun(fences.term + 10**9))
    pair.live(1)
    raised = fences.term
    pair.restart(pair.all.index(leader), "third")
    pair.live_until(lambda: len(pair.leaders) == 1)
    assert pair.leaders[0].term == raised + 1
    assert other.term == raised + 1 if other.valid else True


def test_a_lost_answer_to_the_acquisition_costs_no_waiting() -> None:
    alone = Candidates("only")
    alone.live_until(lambda: bool(alone.leaders))
    alone.all[0].election.stop()
    alone.live(A_MOMENT_S)
    alone.restart(0, "next")
    alone.all[0].network.loses_answers = True
    alone.live(10)
    alone.all[0].network.loses_answers = False
    assert alone.live_until(lambda: bool(alone.leaders)) < TERMS.renew_deadline_s
    alone.close()


def test_a_leader_that_breaks_gives_the_lease_back_and_says_why(pair: Candidates) -> None:
    leader, other = elect(pair)
    leader.loop.call_soon(leader.fails.set)
    assert pair.live_until(lambda: other.valid) < 2.0
    assert isinstance(leader.task.exception(), LeadFailed)


@pytest.mark.parametrize(("duration_s", "deadline_s", "retry_s"), [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_terms_that_allow_two_leaders_are_refused(duration_s: float, deadline_s: float, retry_s: float) -> None:
    with pytest.raises(SegueError, match="retryS < renewDeadlineS < durationS"):
        LeaseTerms(duration_s=duration_s, renew_deadline_s=deadline_s, retry_s=retry_s)

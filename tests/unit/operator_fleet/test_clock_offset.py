"""How well a pod's clock is known: from the shortest trip, less well as time passes, and anew after a clock was set."""

from __future__ import annotations

from segue_operator.fleet.clock_offset import MAX_UNCERTAINTY_NS, ClockOffset

MS = 1_000_000
S = 1_000 * MS


def sampled(*, at_ns: int, trip_ns: int, offset_ns: int, into: ClockOffset | None = None) -> ClockOffset:
    """One answer that arrived at this time of ours, from a pod whose clock is ahead by that much."""
    offset = into if into is not None else ClockOffset()
    sent_ns = at_ns - trip_ns
    offset.add(sent_ns=sent_ns, received_ns=at_ns, pod_ns=sent_ns + trip_ns // 2 + offset_ns)
    return offset


def test_nothing_is_known_before_the_first_answer() -> None:
    offset = ClockOffset()
    assert not offset.usable(0)
    assert (offset.offset_ns, offset.uncertainty_ns(0)) == (0, None)


def test_the_shortest_round_trip_says_most() -> None:
    offset = sampled(at_ns=1 * S, trip_ns=100 * MS, offset_ns=20 * MS)
    assert not offset.usable(1 * S)
    sampled(at_ns=1 * S + 100, trip_ns=2_000, offset_ns=5 * MS, into=offset)
    sampled(at_ns=1 * S + 200, trip_ns=50 * MS, offset_ns=9 * MS, into=offset)
    assert (offset.offset_ns, offset.usable(1 * S + 200)) == (5 * MS, True)


def test_a_round_trip_over_20_ms_is_not_good_enough_for_an_instant() -> None:
    assert sampled(at_ns=S, trip_ns=2 * MAX_UNCERTAINTY_NS, offset_ns=0).usable(S)
    assert not sampled(at_ns=S, trip_ns=2 * MAX_UNCERTAINTY_NS + 2, offset_ns=0).usable(S)


def test_what_was_known_is_known_less_well_after_a_while() -> None:
    offset = sampled(at_ns=S, trip_ns=2 * MS, offset_ns=0)
    assert offset.usable(100 * S)
    assert not offset.usable(400 * S)


def test_after_a_clock_was_set_the_old_samples_count_no_more() -> None:
    offset = sampled(at_ns=S, trip_ns=1 * MS, offset_ns=0)
    sampled(at_ns=2 * S, trip_ns=8 * MS, offset_ns=500 * MS, into=offset)
    assert offset.offset_ns == 500 * MS


def test_samples_that_agree_are_kept_and_the_best_of_them_stays() -> None:
    offset = sampled(at_ns=S, trip_ns=1 * MS, offset_ns=3 * MS)
    sampled(at_ns=2 * S, trip_ns=8 * MS, offset_ns=5 * MS, into=offset)
    assert offset.offset_ns == 3 * MS


def test_an_answer_that_came_before_it_was_asked_for_says_nothing() -> None:
    offset = ClockOffset()
    offset.add(sent_ns=10, received_ns=5, pod_ns=7)
    offset.add(sent_ns=10, received_ns=20, pod_ns=0)
    assert offset.uncertainty_ns(20) is None

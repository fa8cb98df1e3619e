"""What live requests prove, and what they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.model.spec import Canary, Watch
from segue.rollout.evidence import Trip, canary_evidence, canary_fails, canary_passes, find_trip
from segue.rollout.snapshot import Bucket, PodView, Windows

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NEW, OLD = "new", "old"


def buckets(*counts: tuple[int, int], until: datetime = NOW) -> tuple[Bucket, ...]:
    """(successes, errors) per ten seconds, the last one ending at `until`."""
    first = until.timestamp() - 10 * len(counts)
    return tuple(
        Bucket(start_s=first + 10 * index, successes=good, errors=bad) for index, (good, bad) in enumerate(counts)
    )


def pod(
    uid: str = "a",
    *,
    new: tuple[Bucket, ...] = (),
    old: tuple[Bucket, ...] = (),
    others: tuple[Bucket, ...] = (),
    texts: int = 400,
) -> PodView:
    windows = Windows(revisions={NEW: new, OLD: old}, others=others, texts={NEW: (1 << texts) - 1})
    return PodView(uid=uid, name=uid, created_at=NOW, windows=windows)


def judge(*pods: PodView, policy: Canary | None = None, minutes: int = 60) -> tuple[str | None, bool]:
    began = NOW - timedelta(minutes=minutes)
    evidence = canary_evidence(pods, NEW, began=began, step_began=began)
    policy = policy or Canary()
    return canary_fails(evidence, policy), canary_passes(evidence, policy)


def trip(*pods: PodView, policy: Watch | None = None, flipped_minutes_ago: float = 30) -> Trip | None:
    flipped_at = NOW - timedelta(minutes=flipped_minutes_ago)
    return find_trip(pods, NEW, previous=OLD, flipped_at=flipped_at, policy=policy or Watch(), now=NOW)


def test_successes_of_all_pods_count_together() -> None:
    half = buckets((25, 0), (25, 0))
    assert judge(pod("a", new=half), pod("b", new=half)) == (None, True)


def test_successes_before_the_latest_error_of_any_pod_do_not_count() -> None:
    clean, failing = buckets((90, 0), (5, 0), (5, 0)), buckets((0, 0), (0, 1), (0, 0))
    evidence = canary_evidence(
        [pod("a", new=clean), pod("b", new=failing)],
        NEW,
        began=NOW - timedelta(hours=1),
        step_began=NOW - timedelta(hours=1),
    )
    assert evidence.successes == 5


def test_a_hundred_requests_of_one_text_are_no_evidence() -> None:
    assert judge(pod(new=buckets((100, 0)), texts=5)) == (None, False)


def test_two_errors_never_fail_a_canary_that_tolerates_fewer_than_three() -> None:
    assert judge(pod(new=buckets((0, 2)))) == (None, False)


def test_three_errors_in_a_few_requests_fail_it() -> None:
    why, _ = judge(pod(new=buckets((97, 3))))
    assert why is not None
    assert "3 of 100" in why


def test_three_errors_in_very_many_requests_do_not() -> None:
    assert judge(pod(new=buckets((99_997, 3))))[0] is None


def test_buckets_from_before_the_canary_belong_to_another_attempt() -> None:
    old_errors = buckets((0, 50), until=NOW - timedelta(minutes=30))
    assert judge(pod(new=old_errors + buckets((100, 0))), minutes=5) == (None, True)


def test_twenty_per_cent_in_half_a_minute_trip_at_once() -> None:
    found = trip(pod(new=buckets((10, 5), (10, 5), (10, 5))), flipped_minutes_ago=1)
    assert found is not None
    assert found.blamed


def test_a_fast_trip_needs_twenty_requests() -> None:
    assert trip(pod(new=buckets((0, 5), (0, 5), (0, 5))), flipped_minutes_ago=1) is None


def test_three_per_cent_for_five_minutes_trip() -> None:
    assert trip(pod(new=buckets(*[(97, 3)] * 30))) is not None


def test_three_per_cent_for_one_minute_do_not() -> None:
    assert trip(pod(new=buckets(*[(97, 3)] * 6)), flipped_minutes_ago=1) is None


def test_a_burst_of_errors_in_five_good_minutes_is_not_a_rate_that_stays() -> None:
    quiet, burst = [(100, 0)] * 29, [(80, 20)]
    assert trip(pod(new=buckets(*burst, *quiet))) is None


@pytest.mark.parametrize(("requests", "errors"), [(49, 49), (1000, 2)])
def test_little_traffic_or_few_errors_never_trip(requests: int, errors: int) -> None:
    spread = [(0, 0)] * 25 + [(requests - errors, errors)] + [(0, 0)] * 4
    assert trip(pod(new=buckets(*spread))) is None


def test_half_a_per_cent_is_within_the_limit() -> None:
    assert trip(pod(new=buckets(*[(995, 5)] * 30))) is None


def test_a_machine_that_fails_other_voices_too_is_not_the_revisions_fault() -> None:
    failing = buckets(*[(90, 10)] * 30)
    found = trip(pod(new=failing, others=failing))
    assert found is not None
    assert not found.blamed
    assert "other voices" in found.message


def test_texts_that_failed_the_previous_revision_too_are_not_the_revisions_fault() -> None:
    before = buckets(*[(90, 10)] * 30, until=NOW - timedelta(minutes=31))
    found = trip(pod(new=buckets(*[(90, 10)] * 30), old=before))
    assert found is not None
    assert not found.blamed


def test_more_than_twice_the_rate_of_the_others_is_its_fault() -> None:
    found = trip(pod(new=buckets(*[(90, 10)] * 30), others=buckets(*[(96, 4)] * 30)))
    assert found is not None
    assert found.blamed


def test_a_handful_of_other_requests_excuses_nobody() -> None:
    found = trip(pod(new=buckets(*[(90, 10)] * 30), others=buckets((0, 10))))
    assert found is not None
    assert found.blamed

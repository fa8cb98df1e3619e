"""Evidence from real stats pages: buckets, deaths, restarts. Time is the test's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from segue.memory.handoff import Connection
from segue.memory.stats import StatsPage, create_stats_memfd
from segue.memory.stats_layout import Outcome
from segue.memory.stats_reader import StatsReader
from segue_sidecar.evidence import Evidence
from segue_sidecar.journal import Journal
from segue_sidecar.workers import Worker

VOICE, REVISION = "default/narrator", "ab" * 32
OWNERS = {1: (VOICE, REVISION), 2: ("default/other", "cd" * 32)}
START_S = 1_000_000_000


class Served:
    """A worker's page, and the worker as the sidecar knows it."""

    def __init__(self, name: str = "w0", *, live: bool = False) -> None:
        self.page = StatsPage(create_stats_memfd())
        fd = self.page.export()
        self.worker = Worker(
            id=name,
            pid=7,
            started=1,
            generation=0,
            connection=cast(Connection, None),
            stats=StatsReader(fd),
            live=live,
        )
        os.close(fd)

    def speak(self, handle: int, outcome: Outcome, *, times: int = 1, text: str = "a") -> None:
        """That many requests, each over."""
        row = self.page.row(handle)
        for _ in range(times):
            row.admitted()
            row.spoke(text)
            row.ended(outcome, latency_s=0.02, audio_ms=100)
            row.released()

    def close(self) -> None:
        """Unmap."""
        self.worker.stats.close()
        self.page.close()


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.close()


def evidence(path: Path) -> tuple[Evidence, Journal]:
    journal = Journal(path / "windows.log")
    kept = journal.open()
    made = Evidence(owner_of=OWNERS.get, journal=journal)
    made.restore(kept.records)
    return made, journal


def totals(made: Evidence, revision: str = REVISION) -> dict[str, Any]:
    buckets = made.buckets(VOICE, revision)
    return {
        "successes": sum(bucket.successes for bucket in buckets),
        "errors": sum(bucket.error_count for bucket in buckets),
        "starts": [bucket.start_s for bucket in buckets],
    }


def test_what_grew_goes_into_the_bucket_of_now(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=3)
    sample = made.sample([served.worker], now_s=START_S + 1)
    assert sample.ended == 3
    assert sample.latency_s == pytest.approx(0.06)
    made.sample([served.worker], now_s=START_S + 12)
    served.speak(1, Outcome.TIMEOUT, times=2)
    made.sample([served.worker], now_s=START_S + 25)
    assert totals(made) == {"successes": 3, "errors": 2, "starts": [START_S, START_S + 20]}
    assert made.buckets(VOICE, REVISION, since_s=START_S + 15)[0].errors == {"timeout": 2}
    journal.close()


def test_a_dead_workers_open_requests_are_errors_of_their_revision(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS)
    served.page.row(1).admitted()
    served.page.row(1).admitted()
    lost = made.bury(served.worker, now_s=START_S)
    assert lost == {(VOICE, REVISION): 2}
    assert made.buckets(VOICE, REVISION)[0].errors == {"died": 2}
    journal.close()


def test_a_restart_counts_nothing_twice_and_nothing_less(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=5)
    made.sample([served.worker], now_s=START_S)
    made.journal_closed(frozenset({VOICE}), now_s=START_S + 11)
    served.speak(1, Outcome.EMPTY, times=2)
    journal.close()

    again, journal = evidence(tmp_path)
    served.worker.live = True
    again.meet(served.worker)
    again.sample([served.worker], now_s=START_S + 15)
    assert totals(again) == {"successes": 5, "errors": 2, "starts": [START_S, START_S + 10]}
    journal.close()


def test_what_a_worker_counted_before_anybody_looked_is_not_of_now(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=100)
    served.worker.live = True
    made.meet(served.worker)
    served.speak(1, Outcome.SUCCESS, times=4)
    made.sample([served.worker], now_s=START_S)
    assert totals(made)["successes"] == 4
    journal.close()


def test_an_hour_is_kept(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS)
    made.sample([served.worker], now_s=START_S)
    resident = {(VOICE, REVISION)}
    made.expire(resident=resident, now_s=START_S + 3500)
    assert totals(made)["successes"] == 1
    made.expire(resident=set(), now_s=START_S + 30)
    assert totals(made)["successes"] == 1
    made.expire(resident=resident, now_s=START_S + 3700)
    assert totals(made)["successes"] == 0
    journal.close()


def test_a_revision_that_was_let_go_is_counted_to_its_end_and_then_left_alone(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=2)
    made.sample([served.worker], now_s=START_S)
    served.speak(1, Outcome.SUCCESS)
    served.page.retire_row(1)
    made.sample([served.worker], now_s=START_S)
    made.sample([served.worker], now_s=START_S)
    assert totals(made)["successes"] == 3
    made.expire(resident=set(), now_s=START_S + 80)
    assert totals(made)["successes"] == 0
    journal.close()


def test_windows_tell_the_voice_apart_from_all_others(tmp_path: Path, served: Served) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=2, text="one")
    served.speak(1, Outcome.SUCCESS, times=2, text="two")
    served.speak(2, Outcome.NONFINITE, times=3)
    made.sample([served.worker], now_s=START_S)
    document = made.windows(VOICE, since_s=0, now_s=START_S)
    assert set(document.revisions) == {REVISION}
    assert int(document.revisions[REVISION].texts, 16).bit_count() == 2
    assert [(other.requests, other.errors) for other in document.others] == [(3, 3)]
    journal.close()


def test_successes_in_a_row_begin_anew_with_an_error_and_with_a_death(tmp_path: Path, served: Served) -> None:
    made, _ = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=5)
    made.sample([served.worker], now_s=START_S)
    assert made.in_a_row(VOICE, REVISION) == 5
    served.speak(1, Outcome.CANCELLED)
    made.sample([served.worker], now_s=START_S + 1)
    assert made.in_a_row(VOICE, REVISION) == 5
    served.speak(1, Outcome.SILENT)
    made.sample([served.worker], now_s=START_S + 2)
    served.speak(1, Outcome.SUCCESS, times=2)
    made.sample([served.worker], now_s=START_S + 3)
    assert made.in_a_row(VOICE, REVISION) == 2
    served.page.row(1).admitted()
    made.sample([served.worker], now_s=START_S + 4)
    made.bury(served.worker, now_s=START_S + 5)
    assert made.in_a_row(VOICE, REVISION) == 0
    assert made.in_a_row(VOICE, "nobody") == 0


def test_a_revision_that_comes_back_under_its_handle_goes_on_counting(served: Served, tmp_path: Path) -> None:
    made, journal = evidence(tmp_path)
    served.speak(1, Outcome.SUCCESS, times=3)
    made.sample([served.worker], now_s=START_S)
    served.page.retire_row(1)
    made.sample([served.worker], now_s=START_S)
    served.speak(1, Outcome.SUCCESS, times=2)
    made.reopen(1)
    made.sample([served.worker], now_s=START_S)
    assert sum(bucket.successes for bucket in made.buckets(VOICE, REVISION)) == 5
    journal.close()

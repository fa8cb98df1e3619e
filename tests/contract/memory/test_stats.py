"""A worker's numbers can be read while it writes, after it died, and even when it lies."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
import time

import pytest
from tests.support.memory import open_fds, raw_memfd

from segue.errors import ArenaCorrupt, MemoryError_
from segue.memory import memfd
from segue.memory import stats_layout as layout
from segue.memory.page import Word
from segue.memory.stats import StatsPage, create_stats_memfd, text_bit
from segue.memory.stats_layout import Outcome, RowCell, WorkerCell, WorkerState
from segue.memory.stats_reader import Counters, StatsReader, add_up, distinct_texts


class Watched:
    """A page with its reader, as worker and sidecar have them."""

    def __init__(self) -> None:
        self.page = StatsPage(create_stats_memfd(), generation=2)
        fd = self.page.export()
        self.reader = StatsReader(fd)
        os.close(fd)

    def row(self, handle: int) -> Counters:
        return self.reader.rows()[handle].counters

    def close(self) -> None:
        self.page.close()
        self.reader.close()


@pytest.fixture
def watched() -> object:
    before = open_fds()
    made = Watched()
    yield made
    made.close()
    assert open_fds() == before


def test_every_outcome_is_counted_where_it_belongs(watched: Watched) -> None:
    row = watched.page.row(7)
    for outcome in Outcome:
        row.admitted()
        row.ended(outcome, latency_s=0.2, audio_ms=100)
        row.released()
    row.shielded()
    row.cache_hit()
    counters = watched.row(7)
    assert (counters.successes, counters.errors, counters.in_flight) == (1, 6, 0)
    assert counters.errors_by_kind == dict.fromkeys(
        ("exception", "timeout", "empty", "silent", "nonfinite", "capped"), 1
    )
    assert [counters[cell] for cell in (RowCell.SHIELDED, RowCell.CACHE_HITS, RowCell.CANCELLED, RowCell.REJECTED)] == [
        1
    ] * 4
    assert counters[RowCell.AUDIO_MS] == 900
    assert counters.latency.total == 9


def test_copies_are_evidence_and_counted_apart(watched: Watched) -> None:
    row = watched.page.row(7)
    row.mirror_admitted()
    row.mirror_ended(Outcome.SUCCESS, latency_s=0.1)
    row.mirror_ended(Outcome.SILENT, latency_s=0.1)
    row.mirror_ended(Outcome.CANCELLED, latency_s=0.1)
    counters = watched.row(7)
    assert (counters.successes, counters.errors) == (1, 1)
    assert (counters[RowCell.MIRROR_SUCCESSES], counters[RowCell.MIRROR_ERRORS]) == (1, 1)


def test_latencies_fall_into_the_right_buckets(watched: Watched) -> None:
    row = watched.page.row(1)
    for seconds in (0.0, 0.005, 0.0051, 59.0, 61.0):
        row.ended(Outcome.SUCCESS, latency_s=seconds, audio_ms=0)
        row.first_audio(seconds)
    for histogram in (watched.row(1).latency, watched.row(1).first_audio):
        assert (histogram.counts[0], histogram.counts[1], histogram.counts[-2], histogram.counts[-1]) == (2, 1, 1, 1)
        assert histogram.sum_s == pytest.approx(120.0101)
        assert histogram.quantile_s(0.5) == 0.01
        assert histogram.quantile_s(1.0) == math.inf
    assert math.isnan(Counters().latency.quantile_s(0.5))


def test_the_last_admission_under_an_old_word_can_be_told(watched: Watched) -> None:
    old, new = Word(active=1, epoch=1).pack(), Word(active=2, epoch=2).pack()
    watched.page.admitted(5, old)
    last_old_ns = watched.page.admitted(5, old)
    assert watched.reader.slot(5).last_ns == last_old_ns
    first_new_ns = watched.page.admitted(5, new)
    watched.page.admitted(5, new)
    first, second = watched.reader.transitions()
    assert (first.old_word, first.new_word, first.last_old_ns) == (0, old, 0)
    assert (second.slot, second.old_word, second.new_word) == (5, old, new)
    assert (second.last_old_ns, second.first_new_ns) == (last_old_ns, first_new_ns)
    assert watched.reader.transitions(after=1) == [second]
    assert watched.reader.slot(5).first_ns == first_new_ns
    assert watched.reader.worker().counts[WorkerCell.ADMISSIONS] == 4


def test_the_ring_keeps_the_latest_changes(watched: Watched) -> None:
    for number in range(layout.RING_ENTRIES + 10):
        watched.page.admitted(0, number + 1)
    transitions = watched.reader.transitions()
    assert len(transitions) == layout.RING_ENTRIES
    assert (transitions[0].number, transitions[-1].number) == (11, layout.RING_ENTRIES + 10)


def test_batches_states_and_gauges(watched: Watched) -> None:
    page = watched.page
    for rows in (1, 2, 3, 8, 100):
        page.step_started(rows=rows)
        page.step_ended()
    page.step_ended()
    page.beat(queued=12)
    page.set_state(WorkerState.SERVING)
    page.set_cache(entries=3, size_bytes=4096)
    page.count(WorkerCell.RESPONSES_2XX, 5)
    reading = watched.reader.worker()
    assert reading.batch_sizes == (1, 1, 1, 1, 0, 0, 0, 1)
    assert (reading.queued, reading.state, reading.generation) == (12, WorkerState.SERVING, 2)
    assert (reading.cache_entries, reading.cache_bytes, reading.pid) == (3, 4096, os.getpid())
    assert (reading.counts[WorkerCell.STEPS], reading.counts[WorkerCell.BATCH_ROWS]) == (5, 114)
    assert reading.counts[WorkerCell.RESPONSES_2XX] == 5


def test_a_step_counts_as_busy_of_the_revision_that_listeners_heard(watched: Watched) -> None:
    page = watched.page
    page.row(1), page.row(2)
    page.step_started(rows=1)
    time.sleep(0.002)  # what is measured is time
    page.step_ended(spoken_by=1)
    page.step_started(rows=1)
    page.step_ended()
    page.step_started(rows=1)
    page.step_ended(spoken_by=99)
    rows = watched.reader.rows()
    assert rows[1].counters[RowCell.BUSY_US] >= 2000
    assert rows[2].counters[RowCell.BUSY_US] == 0
    assert watched.reader.worker().busy_ns >= rows[1].counters[RowCell.BUSY_US] * 1000


def test_waits_are_counted_by_how_long_they_were(watched: Watched) -> None:
    for delay_s in (0.001, 0.2, 0.25, 100.0):
        watched.page.waited(delay_s)
    reading = watched.reader.worker()
    waits = dict(zip((*layout.BUCKETS_S, None), reading.queue_waits, strict=True))
    assert {bound for bound, count in waits.items() if count} == {0.005, 0.25, None}
    assert waits[0.25] == 2
    assert reading.counts[WorkerCell.QUEUE_WAIT_SUM_US] == 100_451_000
    assert reading.batch_sizes == (0,) * 8, "no cell means two things"


def test_a_step_that_still_runs_counts_as_busy(watched: Watched) -> None:
    watched.page.step_started(rows=1)
    started_ns = watched.reader.worker().heartbeat_ns
    assert watched.reader.worker().busy_ns == 0
    assert watched.reader.worker(now_ns=started_ns + 10**10).busy_ns > 9 * 10**9


def test_a_retired_row_keeps_its_totals_until_it_is_needed(watched: Watched) -> None:
    for handle in range(1, layout.ROWS + 1):
        watched.page.row(handle).admitted()
    with pytest.raises(MemoryError_, match="no further row"):
        watched.page.row(9999)
    watched.page.retire_row(3)
    watched.page.retire_row(2)
    assert watched.reader.rows()[3].retired
    assert watched.row(3)[RowCell.ADMITTED] == 1
    watched.page.row(2)
    assert not watched.reader.rows()[2].retired
    watched.page.row(9999)
    rows = watched.reader.rows()
    assert 3 not in rows
    assert rows[9999].counters == Counters()
    assert len(rows) == layout.ROWS


def test_two_threads_lose_no_count(watched: Watched) -> None:
    row = watched.page.row(1)

    def count() -> None:
        for _ in range(20_000):
            row.admitted()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.row(1)[RowCell.ADMITTED] == 60_000


def test_workers_add_up_and_differences_are_never_negative() -> None:
    pages = [Watched(), Watched()]
    for number, one in enumerate(pages):
        row = one.page.row(4)
        row.ended(Outcome.SUCCESS, latency_s=0.1, audio_ms=10)
        row.spoke(f"text {number}")
        row.spoke("the same text")
    total = add_up(one.reader.rows() for one in pages)[4]
    assert (total.successes, total[RowCell.AUDIO_MS]) == (2, 20)
    assert total.texts.bit_count() == len({text_bit(text) for text in ("text 0", "text 1", "the same text")})
    assert total.since(total).successes == 0
    assert Counters().since(total).successes == 0
    assert total.since(total).texts == total.texts
    for one in pages:
        one.close()


@pytest.mark.parametrize("texts", [1, 20, 100, 400])
def test_distinct_texts_are_estimated_within_a_tenth(texts: int) -> None:
    bitmap = 0
    for number in range(texts):
        bitmap |= 1 << text_bit(f"sentence {number}")
    assert distinct_texts(bitmap) == pytest.approx(texts, rel=0.1, abs=1)


@pytest.mark.process
def test_the_totals_and_what_was_in_flight_outlive_the_worker() -> None:
    fd = create_stats_memfd()
    script = (
        "import os, sys; from segue.memory.stats import StatsPage\n"
        "page = StatsPage(int(sys.argv[1])); row = page.row(3)\n"
        "for _ in range(5): row.admitted()\n"
        "for _ in range(2): row.released()\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(fd)], pass_fds=[fd], check=False).returncode == -9
    reader = StatsReader(fd)
    os.close(fd)
    assert reader.rows()[3].counters.in_flight == 3
    reader.close()


@pytest.mark.process
def test_readings_under_fire_are_whole() -> None:
    """While a worker admits and changes rows as fast as it can, every reading makes sense."""
    watched = Watched()
    stop = threading.Event()

    def write() -> None:
        handle = 1
        while not stop.is_set():
            row = watched.page.row(handle)
            for _ in range(20):
                row.admitted()
                row.released()
            watched.page.retire_row(handle)
            watched.page.admitted(handle % 8000, handle)
            handle += 1

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(20):
        for handle, row in watched.reader.rows().items():
            assert row.handle == handle
            assert 0 <= row.counters[RowCell.ADMITTED] <= 20
            assert row.counters.in_flight <= 1
        for transition in watched.reader.transitions():
            assert transition.slot == transition.new_word % 8000
    stop.set()
    writer.join()
    watched.close()


@pytest.mark.parametrize(
    ("content", "seals", "says"),
    [
        pytest.param(bytes(layout.STATS_BYTES), memfd.SEALS_PAGE, "not a stats page", id="zeros"),
        pytest.param(bytes(4096), memfd.SEALS_PAGE, "bytes instead of", id="size"),
        pytest.param(bytes(layout.STATS_BYTES), 0, "needs", id="could shrink"),
    ],
)
def test_what_is_no_stats_page_is_refused(content: bytes, seals: int, says: str) -> None:
    before = open_fds()
    fd = raw_memfd(content, seals=seals)
    with pytest.raises(ArenaCorrupt, match=says):
        StatsReader(fd)
    os.close(fd)
    assert open_fds() == before


def test_a_page_full_of_nonsense_is_read_without_harm() -> None:
    draw = random.Random(1)
    content = bytearray(draw.randbytes(layout.STATS_BYTES))
    content[:16] = layout.MAGIC.to_bytes(8, sys.byteorder) + layout.SHAPE.to_bytes(8, sys.byteorder)
    fd = raw_memfd(bytes(content), seals=memfd.SEALS_PAGE)
    reader = StatsReader(fd)
    assert reader.worker(now_ns=1).state is None
    assert len(reader.rows()) <= layout.ROWS
    assert len(reader.transitions()) <= layout.RING_ENTRIES
    assert len(reader.transitions(after=2**63)) <= layout.RING_ENTRIES
    assert add_up([reader.rows()])
    reader.close()
    os.close(fd)

"""What the supervisor says of its workers: sums that outlive them, labels that stay bounded."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from segue.memory.stats import StatsPage, create_stats_memfd
from segue.memory.stats_layout import ROWS, Outcome
from segue.memory.stats_reader import Counters, StatsReader
from segue_server.channel import Report
from segue_server.supervisor.ledger import Ledger, RevisionKey
from segue_server.supervisor.metrics import MAX_VOICES, PAST, Snapshot, bounded
from segue_server.supervisor.totals import Totals
from segue_server.supervisor.usage import Usage, usage_of


def counters(*outcomes: Outcome) -> Counters:
    page = StatsPage(create_stats_memfd())
    row = page.row(1)
    for outcome in outcomes:
        row.admitted()
        row.ended(outcome, latency_s=0.2, audio_ms=1500)
        row.released()
    fd = page.export()
    reader = StatsReader(fd)
    found = reader.rows()[1].counters
    reader.close()
    page.close()
    os.close(fd)
    return found


def scraped(totals: Totals) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(Snapshot(totals, living=[], ready=0, restarts=3, usage={}))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_outcomes_and_histograms_are_told_by_voice_and_revision() -> None:
    key = RevisionKey("default/narrator", "a" * 64)
    totals = Totals(revisions={key: counters(Outcome.SUCCESS, Outcome.SILENT)}, resident={key})
    found = scraped(totals)
    labels = (("revision", "a" * 10), ("voice", "default/narrator"))
    assert found["segue_requests_total", (("outcome", "silent"), *labels)] == 1
    assert found["segue_latency_seconds_count", labels] == 2
    assert found["segue_latency_seconds_bucket", (("le", "0.25"), *labels)] == 2
    assert found["segue_audio_seconds_total", labels] == 3.0
    assert found["segue_worker_restarts_total", ()] == 3


def test_revisions_that_nobody_has_any_more_share_a_label() -> None:
    rows = [(RevisionKey("v", f"{number}" * 64), counters(Outcome.SUCCESS)) for number in range(3)]
    found = bounded(rows, current={rows[0][0]})
    assert {key.revision: found[key].successes for key in found} == {"0" * 10: 1, PAST: 2}


def test_voices_beyond_the_bound_share_a_label() -> None:
    one = Counters()
    rows = [(RevisionKey(f"v{number}", "r"), one) for number in range(MAX_VOICES + 50)]
    assert len({key.voice for key in bounded(rows, current=set())}) == MAX_VOICES + 1


def test_rows_of_dead_workers_are_told_as_died() -> None:
    key = RevisionKey("v", "a" * 64)
    totals = Totals(revisions={key: counters(Outcome.SUCCESS)})
    totals.died[key] += 2
    found = scraped(totals)
    assert found["segue_requests_total", (("outcome", "died"), ("revision", PAST), ("voice", "v"))] == 2


def test_rows_of_dead_workers_are_in_no_engine_any_more() -> None:
    key = RevisionKey("v", "a" * 64)
    page = StatsPage(create_stats_memfd())
    for _ in range(3):
        page.row(1).admitted()
    fd = page.export()
    reader = StatsReader(fd)
    totals = Totals(revisions={key: reader.rows()[1].counters}, resident={key})
    totals.died[key] += 2
    assert scraped(totals)["segue_in_flight", (("revision", "a" * 10), ("voice", "v"))] == 1
    reader.close()
    page.close()
    os.close(fd)


def test_a_report_survives_the_channel() -> None:
    report = Report(listening=True, unready="", replace="why", names={3: ("d/v", "r")})
    assert Report.decode(report.encode()) == report


def test_totals_never_go_down_when_a_page_gives_a_row_to_another_revision() -> None:
    page = StatsPage(create_stats_memfd())
    fd = page.export()
    reader = StatsReader(fd)
    os.close(fd)
    ledger = Ledger()
    names = {handle: ("v", f"{handle:x}" * 4) for handle in range(1, 4000)}

    def successes() -> int:
        return sum(entry.counters.successes for entry in ledger.read(reader.rows(), names))

    for handle in range(1, 3000):
        page.row(handle).ended(Outcome.SUCCESS, latency_s=0.1, audio_ms=1)
        page.retire_row(handle)
        if handle % 100 == 0:
            assert successes() == handle
    assert len({entry.key for entry in ledger.read(reader.rows(), names)}) <= ROWS + 1
    reader.close()
    page.close()


def test_what_a_process_costs_is_read_from_the_kernel() -> None:
    mine = usage_of(os.getpid())
    assert mine is not None
    assert mine.cpu_s > 0
    assert mine.private_bytes > 1 << 20
    assert usage_of(2**22 + 1) is None


def test_the_name_of_a_process_may_hold_anything(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    after = " ".join(["S", *("0" for _ in range(10)), "150", "50", *("0" for _ in range(30))])
    (folder / "stat").write_text(f"7 (a) b (c)) {after}\n")
    (folder / "status").write_text("Name:\tx\nRssAnon:\t     12 kB\nRssFile:\t 3 kB\nRssShmem:\t 4 kB\n")
    usage = usage_of(7, proc=tmp_path)
    assert usage == Usage(cpu_s=200 / os.sysconf("SC_CLK_TCK"), private_bytes=12 << 10, shared_bytes=7 << 10)

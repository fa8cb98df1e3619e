"""Promises 1 and 2: nothing fails or mixes while pointers flip at saturation, a flip takes milliseconds, and a preload
does not slow anybody down.

Three runs against one stack: stores seen by another process (idle machine), flips under a closed loop that keeps every
queue full, preloads under an open loop at 70 % of what the run before has served a second. Arrivals of the open loop
are evenly spaced, so that its p99 is the server's and not that of a random crowd.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cast import Cast, enter, find_capacity, make_cast, make_shots
from bench.flipper import Flipper, FlipPlan, FlipTarget
from bench.harness import Commander, Stack, commanding, revision_files, running_stack, uid_of
from bench.store_visible import Visibility, measure_store_visible
from bench.table import Options, at_least, at_most, note, parse_options, print_lines, tell
from segue.memory.stats_reader import StatsReader
from segue.tls import sidecar_name
from segue_cli.measure.effective import FlipDelays, flip_delays, heads_of, read_transitions
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.latency import Comparison, Interval, Spread, compare, longest_silence_s
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.mixed import MixedCount, judge_records
from segue_cli.measure.processes import stats_pages
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.selftest import SelfTest, try_the_detector
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, OpenLoop, Record, Shot, failures
from segue_cli.measure.variants import numbered
from segue_cli.up.configs import FLEET, NAMESPACE

LOAD_SHARE = 0.7
PRELOAD_S = 1800.0
"""Children may get 3 % of a core beside a busy worker: half a minute of their work then takes a quarter of an hour."""

NewVersion = Callable[[int], RevisionFiles]
"""Makes the files of a version that nobody has loaded yet, by its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    requests: int
    flips: int
    compared: int
    """Requests that must overlap a preload, and as many that must not."""
    calibration_s: float
    selftest_shots: int
    listeners: int = 12
    """Of each worker: enough that its queue is never empty."""
    patience_s: float = 30
    """How long a listener waits for an answer."""
    drain_s: float = 20
    """The same for those in flight at the end."""


FULL = Size(requests=20_200, flips=1_080, compared=2_100, calibration_s=10, selftest_shots=16)
SHORT = Size(requests=1_500, flips=120, compared=250, calibration_s=4, selftest_shots=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRun:
    """Flips at saturation."""

    records: list[Record]
    delays: FlipDelays
    queue_full_share: float
    rate_per_s: float


async def run_flips(
    stack: Stack, commander: Commander, cast: Cast, *, shots: Sequence[Shot], size: Size, capacity: float, spool: Path
) -> FlipRun:
    """Saturate, and flip all the while."""
    workers = stack.worker_pids()
    concurrency = size.listeners * len(workers)
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shots),
        pace=ClosedLoop(concurrency=concurrency),
        max_s=1200,
        timeout_s=size.patience_s,
        drain_s=size.drain_s,
        spool=str(spool),
    )
    gap_s = max(0.02, size.requests / capacity / (size.flips * 1.08))
    state = await commander.state()
    slots = {voice: state.voices[voice].slot or 0 for voice in cast.revisions}
    with stats_pages(workers) as pages, LoadProcess(plan, directory=stack.directory / "load", name="flips") as load:
        await asyncio.to_thread(_wait_for_answers, load, 2 * concurrency)
        heads = heads_of(pages)
        flipper = Flipper(_flip_plan(stack, commander, cast, flips=size.flips, gap_s=gap_s), directory=stack.directory)
        try:
            full = asyncio.create_task(_watch_queues(pages, flipper))
            flips = await asyncio.to_thread(flipper.wait, 900)
            queue_full_share = await full
        finally:
            flipper.kill()
        await asyncio.to_thread(_wait_for_answers, load, size.requests)
        records = await asyncio.to_thread(load.stop)
        transitions = read_transitions(pages, heads)
    span_s = (max(r.end_ns for r in records) - records[0].start_ns) / 1e9
    return FlipRun(
        records=records,
        delays=flip_delays(flips, slots=slots, transitions=transitions),
        queue_full_share=queue_full_share,
        rate_per_s=len(records) / span_s,
    )


def _wait_for_answers(load: LoadProcess, count: int) -> None:
    while load.running and (load.latest is None or load.latest.done < count):
        load.wait_for_tick(5)


async def _watch_queues(pages: Mapping[int, StatsReader], flipper: Flipper) -> float:
    """Share of looks at which every worker had a request beside the one it computes."""
    looks = full = 0
    while flipper.running:
        looks += 1
        full += all(sum(row.counters.in_flight for row in page.rows().values()) >= 2 for page in pages.values())
        await asyncio.sleep(0.2)
    return full / max(looks, 1)


def _flip_plan(stack: Stack, commander: Commander, cast: Cast, *, flips: int, gap_s: float) -> FlipPlan:
    first = commander.sequence + 1
    commander.sequence += flips + 1
    targets = [
        FlipTarget(voice=voice, voice_uid=uid_of(voice), revisions=tuple(files.revision for files in revisions))
        for voice, revisions in cast.revisions.items()
    ]
    return FlipPlan(
        host="127.0.0.1",
        port=stack.plan.control_port,
        server_name=sidecar_name(fleet=FLEET, namespace=NAMESPACE),
        cert=stack.operator_tls.cert,
        key=stack.operator_tls.key,
        ca=stack.operator_tls.ca,
        pod_uid=stack.plan.pod_uid,
        term=commander.term,
        first_sequence=first,
        targets=tuple(targets),
        flips=flips,
        gap_s=gap_s,
    )


async def run_preloads(
    stack: Stack,
    commander: Commander,
    *,
    new_version: NewVersion,
    shots: Sequence[Shot],
    size: Size,
    rate: float,
    spool: Path,
) -> tuple[list[Record], list[Interval]]:
    """Open loop at a steady rate; new revisions load and go, with pauses as long as the preloads in between."""
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shots),
        pace=OpenLoop(rate_per_s=rate),
        max_s=2 * PRELOAD_S,
        timeout_s=size.patience_s,
        drain_s=size.drain_s,
        spool=str(spool),
    )
    wanted_s = size.compared / rate
    preloads: list[Interval] = []
    with LoadProcess(plan, directory=stack.directory / "load", name="preloads") as load:
        begin = time.monotonic()
        await asyncio.sleep(1)
        number = 0
        while _total_s(preloads) < wanted_s or time.monotonic() - begin - _total_s(preloads) < wanted_s:
            number += 1
            preloads.append(await _preload(commander, await asyncio.to_thread(new_version, number)))
            rest_s = time.monotonic() - begin - _total_s(preloads)
            await asyncio.sleep(max(0.3, min(_total_s(preloads), wanted_s) - rest_s))
        records = await asyncio.to_thread(load.stop)
    return records, preloads


async def _preload(commander: Commander, files: RevisionFiles) -> Interval:
    begin_ns = time.monotonic_ns()
    await commander.ensure(files.voice, files, within_s=PRELOAD_S)
    end_ns = time.monotonic_ns()
    await commander.drop(files.voice, files.revision)
    return begin_ns, end_ns


def _total_s(intervals: Sequence[Interval]) -> float:
    return sum(end - begin for begin, end in intervals) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Longest stretch in which nobody got an answer; NaN where there was no such time."""

    during_s: float
    besides_s: float

    @classmethod
    def of(cls, records: Sequence[Record], preloads: Sequence[Interval]) -> Silence:
        """Within preloads, and between them and after the last."""
        until = [begin for begin, _ in preloads[1:]] + [max((record.end_ns for record in records), default=0)]
        besides = [(end, begin) for (_, end), begin in zip(preloads, until, strict=False) if end < begin]
        return cls(during_s=_longest(records, preloads), besides_s=_longest(records, besides))


def _longest(records: Sequence[Record], intervals: Sequence[Interval]) -> float:
    return max((longest_silence_s(records, interval) for interval in intervals), default=float("nan"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What came of flips and preloads under load."""

    capacity: float
    flips: FlipRun
    preload_records: list[Record]
    preloads: list[Interval]
    mixed: MixedCount
    selftest: SelfTest
    compared: Comparison
    silence: Silence
    streaming: int

    @property
    def records(self) -> list[Record]:
        """Of both runs."""
        return [*self.flips.records, *self.preload_records]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that was measured."""

    visible: Visibility
    performance: Performance


async def measure(size: Size) -> Result:
    """The three runs, then the judgement of every answer."""
    tell("store to visible, on an idle machine")
    visible = measure_store_visible()
    async with running_stack(name="swap") as stack, commanding(stack) as commander:
        cast = make_cast(stack)
        await enter(commander, cast)
        shots = make_shots(list(cast.revisions))
        voice, (base, *_) = next(iter(cast.revisions.items()))

        def new_version(number: int) -> RevisionFiles:
            out = stack.voices / "preloads" / str(number)
            return revision_files(voice, numbered(base.weights, out, number=200 + number))

        performance = await perform(
            stack, commander, cast, shots=shots, size=size, renderings=cast.renderings, new_version=new_version
        )
    return Result(visible=visible, performance=performance)


async def perform(
    stack: Stack,
    commander: Commander,
    cast: Cast,
    *,
    shots: Sequence[Shot],
    size: Size,
    renderings: Renderings,
    new_version: NewVersion,
) -> Performance:
    """Flips at saturation, preloads under a steady load, and the judgement of every answer."""
    workers = len(stack.worker_pids())
    tell(f"{workers} worker(s); finding the capacity")
    await find_capacity(stack, shots, seconds=1, concurrency=4)
    capacity = await find_capacity(stack, shots, seconds=size.calibration_s, concurrency=size.listeners * workers)
    tell(f"{capacity:.1f} requests a second; {size.requests:,} requests with {size.flips:,} flips")
    spool = stack.directory / "spool"
    flips = await run_flips(stack, commander, cast, shots=shots, size=size, capacity=capacity, spool=spool)
    rate = flips.rate_per_s * LOAD_SHARE
    tell(f"open loop at {rate:.1f} a second, preloads interleaved")
    records, preloads = await run_preloads(
        stack, commander, new_version=new_version, shots=shots, size=size, rate=rate, spool=spool
    )
    tell(f"judging {len(flips.records) + len(records):,} answers window by window")
    mixed = await asyncio.to_thread(
        judge_records, [*flips.records, *records], shots=shots, spool=spool, renderings=renderings
    )
    selftest = _selftest(cast, renderings, shots, size)
    return Performance(
        capacity=capacity,
        flips=flips,
        preload_records=records,
        preloads=preloads,
        mixed=mixed,
        selftest=selftest,
        compared=compare(records, preloads),
        silence=Silence.of(records, preloads),
        streaming=sum(shots[record.shot].mode is not Mode.WHOLE for record in [*flips.records, *records]),
    )


def _selftest(cast: Cast, renderings: Renderings, shots: Sequence[Shot], size: Size) -> SelfTest:
    voice, revisions = next(iter(cast.revisions.items()))
    mine = [shot for shot in shots if shot.voice == voice.partition("/")[2]][: size.selftest_shots]
    return try_the_detector(renderings, mine, one=revisions[0].revision, other=revisions[1].revision)


def report(result: Result) -> dict[str, object]:
    """The figures as JSON."""
    figures, details = report_of(result.performance)
    visible = result.visible
    details |= {"store_visible_samples": visible.samples, "store_visible_preempted": visible.preempted}
    return {**figures, "store_visible_us": visible.spread.as_json(), "details": details}


def report_of(result: Performance) -> tuple[dict[str, object], dict[str, object]]:
    """The figures and their details as JSON."""
    delays = result.flips.delays
    figures = {
        "requests": len(result.records),
        "flips": delays.flips,
        "failed": sum(failures(result.records).values()),
        "mixed": result.mixed.mixed,
        "command_to_effective_ms": delays.command_to_effective_ms.as_json(),
        "p99_latency_ratio_during_preload": round(result.compared.p99_ratio, 3),
    }
    details = {
        "failures": failures(result.records),
        "findings": result.mixed.findings,
        "judged_answers": result.mixed.judged,
        "judged_windows": result.mixed.windows,
        "distinct_answers": result.mixed.distinct_answers,
        "selftest": {"injected": result.selftest.injected, "caught": result.selftest.caught},
        "streaming_requests": result.streaming,
        "capacity_per_s": round(result.capacity, 1),
        "rate_while_flipping_per_s": round(result.flips.rate_per_s, 1),
        "queues_full_share": round(result.flips.queue_full_share, 3),
        "flips_seen_by_workers": delays.seen_by_workers,
        "receive_to_store_ms": delays.receive_to_store_ms.as_json(),
        "store_to_last_old_ms": delays.store_to_last_old_ms.as_json(),
        "round_trip_ms": delays.round_trip_ms.as_json(),
        "preloads": len(result.preloads),
        "preload_s": Spread.of([(end - begin) / 1e9 for begin, end in result.preloads]).as_json(),
        "longest_silence_s": {
            "during_preload": round(result.silence.during_s, 3),
            "besides": round(result.silence.besides_s, 3),
        },
        "requests_during_preload": result.compared.during_count,
        "requests_besides": result.compared.besides_count,
        "latency_during_preload_ms": result.compared.during.as_json(),
        "latency_besides_ms": result.compared.besides.as_json(),
    }
    return figures, details


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("swap", arguments)
    size = SHORT if options.short else FULL
    measured_in = environment()
    result = asyncio.run(measure(size))
    figures = report(result)
    write_report(options.out / "swap.json", figures, measured_in)
    done = result.performance
    delays, compared = done.flips.delays, done.compared
    lines = [
        at_least("requests", len(done.records), size.requests),
        at_least("flips", delays.flips, size.flips),
        at_most("failed", sum(failures(done.records).values()), 0),
        at_most("mixed", done.mixed.mixed, 0),
        at_least("injected faults caught", done.selftest.caught, done.selftest.injected),
        at_most("command to effective, p99", delays.command_to_effective_ms.p99, 5, unit=" ms", needs_full=True),
        note(
            "command to effective, p50 / max",
            _pair(delays.command_to_effective_ms.p50, delays.command_to_effective_ms.max),
        ),
        note("  store to last old admission, p99", f"{delays.store_to_last_old_ms.p99:.3f} ms"),
        at_most("store visible, p99", result.visible.spread.p99, 10, unit=" µs", needs_full=True),
        at_most("p99 latency during preload / besides", compared.p99_ratio, 1.25, needs_full=True),
        note("  p99 during / besides", _pair(compared.during.p99, compared.besides.p99)),
        note("  requests during / besides", f"{compared.during_count:,} / {compared.besides_count:,}"),
        note("throughput while flipping", f"{done.flips.rate_per_s:.0f}/s"),
        note("looks at which every queue was full", f"{done.flips.queue_full_share:.1%}"),
    ]
    return 0 if print_lines("swap", lines, short=options.short) else 1


def _pair(one: float, other: float) -> str:
    return f"{one:.2f} / {other:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())

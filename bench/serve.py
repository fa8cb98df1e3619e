"""What the server itself costs: throughput and latency by concurrency, batching on and off, cache, overhead, overload.

Two stacks that differ in nothing but batching run side by side and are measured in turns, so that a slow minute of the
machine meets both. The overhead is one request against the bare engine call with the same text, again in turns.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.table import Table

from bench.cast import Cast, enter, make_cast, make_shots
from bench.harness import Stack, commanding, running_stack
from bench.table import CONSOLE, Options, at_least, at_most, note, parse_options, print_lines, tell
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.latency import Spread, latencies_ms
from segue_cli.measure.load import LoadGenerator
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.renderings import Renderings
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, OpenLoop, Record, Shot, failures

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)
COMPARED_AT = 16
QUEUE_LIMIT = 32
AT_ONCE_MS = 250.0
"""A refusal that took longer than this was not at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How long each step lasts."""

    step_s: float
    rounds: int
    cache_requests: int
    overhead_pairs: int
    overload_requests: int


FULL = Size(step_s=10, rounds=5, cache_requests=500, overhead_pairs=200, overload_requests=400)
SHORT = Size(step_s=2.5, rounds=2, cache_requests=100, overhead_pairs=40, overload_requests=150)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One concurrency."""

    per_s: float
    latency_ms: Spread
    first_audio_ms: Spread
    """Of streaming answers."""

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "requests_per_s": round(self.per_s, 1),
            "latency_ms": self.latency_ms.as_json(),
            "first_audio_ms": self.first_audio_ms.as_json(),
        }


@dataclass(slots=True)
class Findings:
    """Everything that was measured."""

    steps: dict[int, Step] = field(default_factory=dict)
    on_per_s: list[float] = field(default_factory=list)
    off_per_s: list[float] = field(default_factory=list)
    cache_hit_ms: Spread = field(default_factory=lambda: Spread.of([]))
    overhead_ms: Spread = field(default_factory=lambda: Spread.of([]))
    bare_ms: Spread = field(default_factory=lambda: Spread.of([]))
    overload: Mapping[str, object] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)

    @property
    def batching_speedup(self) -> float:
        """Median throughput with batching over that without, both at 16 listeners, measured in turns."""
        return median(self.on_per_s) / median(self.off_per_s)


async def load_for(stack: Stack, shots: Sequence[Shot], *, concurrency: int, seconds: float) -> list[Record]:
    """A closed loop for so long."""
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shots),
        pace=ClosedLoop(concurrency=concurrency),
        max_s=seconds,
    )
    with LoadProcess(plan, directory=stack.directory / "load", name=f"c{concurrency}") as load:
        return await asyncio.to_thread(load.wait, seconds + 120)


def rate_of(records: Sequence[Record]) -> float:
    """Answers per second."""
    span_s = (max(record.end_ns for record in records) - min(record.start_ns for record in records)) / 1e9
    return sum(record.ok for record in records) / span_s


async def sweep(stack: Stack, shots: Sequence[Shot], findings: Findings, size: Size) -> None:
    """Throughput and latency at each concurrency."""
    streaming = {number for number, shot in enumerate(shots) if shot.mode is not Mode.WHOLE}
    for concurrency in CONCURRENCIES:
        records = await load_for(stack, shots, concurrency=concurrency, seconds=size.step_s)
        first = [record.first_audio_ns / 1e6 for record in records if record.ok and record.shot in streaming]
        findings.steps[concurrency] = Step(
            per_s=rate_of(records), latency_ms=Spread.of(latencies_ms(records)), first_audio_ms=Spread.of(first)
        )
        _count(findings, records)
        tell(f"{concurrency:3} listeners: {rate_of(records):.1f}/s")


async def compare_batching(on: Stack, off: Stack, shots: Sequence[Shot], findings: Findings, size: Size) -> None:
    """Both stacks in turns at 16 listeners; plain requests, the order changing each round."""
    plain = [shot.model_copy(update={"mode": Mode.WHOLE}) for shot in shots]
    for turn in range(size.rounds):
        for stack, rates in _in_turns(turn, (on, findings.on_per_s), (off, findings.off_per_s)):
            records = await load_for(stack, plain, concurrency=COMPARED_AT, seconds=size.step_s)
            rates.append(rate_of(records))
            _count(findings, records)
        tell(f"round {turn + 1}: {findings.on_per_s[-1]:.1f}/s batched, {findings.off_per_s[-1]:.1f}/s one by one")


async def measure_cache(stack: Stack, shots: Sequence[Shot], findings: Findings, size: Size) -> None:
    """The same few requests again and again, one listener; the first round fills."""
    few = [shot.model_copy(update={"cached": True, "mode": Mode.WHOLE}) for shot in shots[:8]]
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(few),
        pace=ClosedLoop(concurrency=1),
        max_requests=size.cache_requests + len(few),
    )
    records = await LoadGenerator(plan).run()
    _count(findings, records)
    findings.cache_hit_ms = Spread.of([r.latency_ns / 1e6 for r in records if r.cache == "hit"])


async def measure_overhead(
    stack: Stack, shots: Sequence[Shot], renderings: Renderings, revision: str, findings: Findings, *, pairs: int
) -> None:
    """One request, one bare call with the same text and seed, and so on; the pair's difference is the overhead."""
    engine = renderings.local(shots[0].voice, revision)
    differences, bare = [], []
    for number in range(pairs):
        shot = shots[number % len(shots)].model_copy(update={"mode": Mode.WHOLE})
        plan = LoadPlan(
            host="127.0.0.1", port=stack.port, shots=(shot,), pace=ClosedLoop(concurrency=1), max_requests=2
        )
        first, second = await LoadGenerator(plan).run()  # the first opens the connection
        begin_ns = time.perf_counter_ns()
        engine.speak(shot.text, seed=shot.seed or 0)
        bare_ms = (time.perf_counter_ns() - begin_ns) / 1e6
        _count(findings, [first, second])
        differences.append(second.latency_ns / 1e6 - bare_ms)
        bare.append(bare_ms)
    findings.overhead_ms, findings.bare_ms = Spread.of(differences), Spread.of(bare)


async def overload(stack: Stack, shots: Sequence[Shot], findings: Findings, size: Size) -> None:
    """Ask far beyond the queue's limit: what does not fit is refused at once, nothing runs into a time-out."""
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shots),
        pace=OpenLoop(rate_per_s=size.overload_requests, max_connections=2048),
        max_requests=size.overload_requests,
        timeout_s=60,
        drain_s=60,
    )
    with LoadProcess(plan, directory=stack.directory / "load", name="overload") as load:
        records = await asyncio.to_thread(load.wait, 180)
    refused = [record for record in records if record.status == 429]
    other = failures([record for record in records if record.status != 429])
    refused_ms = Spread.of([(record.end_ns - record.start_ns) / 1e6 for record in refused])
    findings.overload = {
        "requests": len(records),
        "served": sum(record.ok for record in records),
        "refused_429": len(refused),
        "refused_after_ms": refused_ms.as_json(),
        "other": other,
        "at_once": bool(refused) and refused_ms.p99 < AT_ONCE_MS and not other,
    }


def _count(findings: Findings, records: Sequence[Record]) -> None:
    for error, count in failures(records).items():
        findings.wrong[error] = findings.wrong.get(error, 0) + count


def _in_turns(
    turn: int, one: tuple[Stack, list[float]], other: tuple[Stack, list[float]]
) -> list[tuple[Stack, list[float]]]:
    return [one, other] if turn % 2 == 0 else [other, one]


async def _cast_of(stack: Stack) -> Cast:
    async with commanding(stack) as commander:
        cast = make_cast(stack)
        for revisions in cast.revisions.values():
            del revisions[1:]
        await enter(commander, cast)
    return cast


async def measure(size: Size) -> Findings:
    """All of it, each stack brought up only while it is needed."""
    findings = Findings()
    off_config = {"batching": {"enabled": False}, "cacheBytes": 0}
    async with running_stack(name="serve") as on:
        cast = await _cast_of(on)
        shots = make_shots(list(cast.revisions))
        await load_for(on, shots, concurrency=2, seconds=1)
        await sweep(on, shots, findings, size)
        await measure_cache(on, shots, findings, size)
        voice, revisions = next(iter(cast.revisions.items()))
        mine = [shot for shot in shots if voice.endswith(f"/{shot.voice}")]
        await measure_overhead(on, mine, cast.renderings, revisions[0].revision, findings, pairs=size.overhead_pairs)
        async with running_stack(name="serve-off", server=off_config) as off:
            await _cast_of(off)
            await load_for(off, shots, concurrency=2, seconds=1)
            await compare_batching(on, off, shots, findings, size)
    async with running_stack(name="serve-full", server={"queueLimit": QUEUE_LIMIT}) as small:
        await _cast_of(small)
        await overload(small, shots, findings, size)
    return findings


def print_steps(findings: Findings) -> None:
    """Throughput and latency by the number of listeners."""
    table = Table(title="serve", title_justify="left", title_style="bold", header_style="dim")
    for column in ("listeners", "answers/s", "p50 ms", "p99 ms", "max ms", "first audio p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for number, step in findings.steps.items():
        latency, first = step.latency_ms, step.first_audio_ms
        figures = (latency.p50, latency.p99, latency.max, first.p50, first.p99)
        table.add_row(str(number), f"{step.per_s:.1f}", *(f"{figure:.1f}" for figure in figures))
    CONSOLE.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("serve", arguments)
    size = SHORT if options.short else FULL
    measured_in = environment()
    findings = asyncio.run(measure(size))
    figures = {
        "concurrency": {str(number): step.as_json() for number, step in findings.steps.items()},
        "batching_speedup": round(findings.batching_speedup, 3),
        "cache_hit_ms": findings.cache_hit_ms.as_json(),
        "overhead_ms": findings.overhead_ms.as_json(),
        "overload": findings.overload,
        "failed": sum(findings.wrong.values()),
        "details": {
            "batched_per_s": [round(rate, 1) for rate in findings.on_per_s],
            "one_by_one_per_s": [round(rate, 1) for rate in findings.off_per_s],
            "bare_engine_ms": findings.bare_ms.as_json(),
            "failures": findings.wrong,
        },
    }
    write_report(options.out / "serve.json", figures, measured_in)
    print_steps(findings)
    lines = [
        at_least("batching speed-up at 16", findings.batching_speedup, 1.0, digits=3, needs_full=True),
        at_most("cache hit, p50", findings.cache_hit_ms.p50, 2, unit=" ms", needs_full=True),
        at_most("overhead over the bare engine, p50", findings.overhead_ms.p50, 3, unit=" ms", needs_full=True),
        at_most("failed", sum(findings.wrong.values()), 0),
        at_least("overload refused at once, nothing timed out", int(bool(findings.overload["at_once"])), 1),
        note("overload: served / refused", f"{findings.overload['served']} / {findings.overload['refused_429']}"),
    ]
    return 0 if print_lines("serve", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What Segue saves: the same swap done the usual ways, in the same run, under the same load.

Three contestants take turns under an open loop at half of what a usual server can do: *in place* (the serving process
loads each half and assigns it), *restart* (stop, load, start), and Segue. For each: how long nobody got an answer, how
many requests failed, how many answers held sound of two versions.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.harness import (
    BenchFailed,
    Commander,
    Stack,
    commanding,
    copy_weights,
    example_versions,
    free_ports,
    revision_files,
    running_stack,
)
from bench.table import Options, at_most, note, parse_options, print_lines, tell
from segue.wire import Expected
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.latency import Interval, Spread, latencies_ms, longest_silence_s
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.mixed import judge_records
from segue_cli.measure.renderings import Renderings, RevisionFiles
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, OpenLoop, Record, Shot, failures
from segue_cli.measure.texts import TEXTS
from segue_cli.measure.variants import numbered
from segue_cli.up.configs import NAMESPACE

VOICE = "voice"
AFTER_S = 1.0
"""A swap's interval ends so long after the swap itself: answers delayed by it are still to come."""


SHOTS = tuple(
    Shot(voice=VOICE, text=f"{text} {TEXTS[-1 - number]}", seed=number, mode=Mode.CHUNKED, response_format="pcm")
    for number, text in enumerate(TEXTS[:32])
)
LOAD_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many swaps of each contestant, how far apart."""

    swaps: int
    gap_s: float
    calibration_s: float


FULL = Size(swaps=8, gap_s=2.5, calibration_s=4)
SHORT = Size(swaps=3, gap_s=1.5, calibration_s=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One contestant."""

    stall_s: Spread
    quiet_s: float
    """Longest silence between swaps: what the load itself brings."""
    requests: int
    failed: dict[str, int]
    mixed: int
    findings: list[str]
    latency_ms: Spread

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "stall_seconds": self.stall_s.as_json(),
            "longest_silence_between_swaps_s": round(self.quiet_s, 3),
            "requests": self.requests,
            "failed": sum(self.failed.values()),
            "mixed": self.mixed,
            "failures": self.failed,
            "findings": self.findings[:5],
            "latency_ms": self.latency_ms.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two versions between which all contestants go back and forth."""

    one: RevisionFiles
    other: RevisionFiles

    def turn(self, number: int) -> tuple[RevisionFiles, RevisionFiles]:
        """Old and new of the `number`-th swap."""
        return (self.one, self.other) if number % 2 == 0 else (self.other, self.one)


async def contest(
    port: int, pair: Pair, swap: Callable[[int], Awaitable[None]], *, size: Size, rate_per_s: float, directory: Path
) -> Outcome:
    """Keep the load on, swap again and again, judge."""
    spool = directory / "spool"
    plan = LoadPlan(
        host="127.0.0.1",
        port=port,
        shots=SHOTS,
        pace=OpenLoop(rate_per_s=rate_per_s),
        max_s=600,
        spool=str(spool),
    )
    swaps: list[Interval] = []
    with LoadProcess(plan, directory=directory, name="load") as load:
        await asyncio.sleep(size.gap_s)
        for number in range(size.swaps):
            begin_ns = time.monotonic_ns()
            await swap(number)
            swaps.append((begin_ns, time.monotonic_ns() + int(AFTER_S * 1e9)))
            await asyncio.sleep(size.gap_s + AFTER_S)
        records = await asyncio.to_thread(load.stop)
    renderings = Renderings([pair.one, pair.other])
    count = await asyncio.to_thread(judge_records, records, shots=SHOTS, spool=spool, renderings=renderings)
    return Outcome(
        stall_s=Spread.of([longest_silence_s(records, interval) for interval in swaps]),
        quiet_s=max(longest_silence_s(records, interval) for interval in _between(swaps, records)),
        requests=len(records),
        failed=failures(records),
        mixed=count.mixed,
        findings=count.findings,
        latency_ms=Spread.of(latencies_ms(records)),
    )


def _between(swaps: Sequence[Interval], records: Sequence[Record]) -> list[Interval]:
    edges = [records[0].end_ns, *(edge for interval in swaps for edge in interval)]
    return list(zip(edges[::2], edges[1::2], strict=False))


# --- the usual ways -------------------------------------------------------------------------------------------------


class UsualServer:
    """A usual server in a process of its own."""

    def __init__(self, port: int, *, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._log = directory / "usual.log"
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self, files: RevisionFiles) -> None:
        """Start with these weights; returns once it answers."""
        child = self._launch(files)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client, asyncio.timeout(60):
            while True:
                try:
                    if (await client.get("/healthz")).status_code == 200:
                        return
                except httpx.TransportError:
                    if child.poll() is not None:
                        raise BenchFailed(f"the usual server ended: {self._log.read_text()[-2000:]}") from None
                await asyncio.sleep(0.02)

    def _launch(self, files: RevisionFiles) -> subprocess.Popen[bytes]:
        options = [f"--{half}={path}" for half, path in files.weights.items()]
        with self._log.open("ab") as log:
            self._child = child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "bench.usual_server",
                    f"--port={self.port}",
                    f"--version={files.revision}",
                    *options,
                ],
                stderr=log,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        return child

    async def stop(self) -> None:
        """SIGTERM: uvicorn finishes what is in flight."""
        if self._child is not None:
            self._child.terminate()
            try:
                await asyncio.to_thread(self._child.wait, 30)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    async def reload(self, files: RevisionFiles) -> None:
        """One call for each half, as there is one setting for each."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            for half, path in files.weights.items():
                wanted = {"half": half, "path": str(path), "version": files.revision}
                (await client.post("/set_weights", json=wanted)).raise_for_status()


async def usual_capacity(pair: Pair, *, seconds: float, directory: Path) -> float:
    """Answers per second of a usual server with two listeners."""
    server = UsualServer(free_ports(1)[0], directory=directory)
    await server.start(pair.one)
    plan = LoadPlan(
        host="127.0.0.1", port=server.port, shots=SHOTS, pace=ClosedLoop(concurrency=2), max_s=seconds, timeout_s=60
    )
    try:
        with LoadProcess(plan, directory=directory, name="capacity") as load:
            records = await asyncio.to_thread(load.wait, seconds + 90)
    finally:
        await server.stop()
    span_s = (max(record.end_ns for record in records) - records[0].start_ns) / 1e9
    return sum(record.ok for record in records) / span_s


async def usual(pair: Pair, *, size: Size, rate_per_s: float, directory: Path, restart: bool) -> Outcome:
    """One of the two usual ways."""
    server = UsualServer(free_ports(1)[0], directory=directory)

    async def in_place(number: int) -> None:
        await server.reload(pair.turn(number)[1])

    async def stop_load_start(number: int) -> None:
        await server.stop()
        await server.start(pair.turn(number)[1])

    await server.start(pair.one)
    try:
        return await contest(
            server.port,
            pair,
            stop_load_start if restart else in_place,
            size=size,
            rate_per_s=rate_per_s,
            directory=directory,
        )
    finally:
        await server.stop()


async def with_segue(pair: Pair, stack: Stack, commander: Commander, *, size: Size, rate_per_s: float) -> Outcome:
    """Load beside, flip, let go."""
    voice = f"{NAMESPACE}/{VOICE}"

    async def flip(number: int) -> None:
        old, new = pair.turn(number)
        await commander.ensure(voice, new)
        await commander.point(voice, new.revision, expected=Expected(active=old.revision))
        await commander.drop(voice, old.revision)

    await commander.ensure(voice, pair.one)
    await commander.point(voice, pair.one.revision)
    return await contest(stack.port, pair, flip, size=size, rate_per_s=rate_per_s, directory=stack.directory / "segue")


async def measure(size: Size) -> dict[str, Outcome]:
    """All three, one after the other."""
    async with running_stack(name="reload", workers=1) as stack, commanding(stack) as commander:
        weights = copy_weights(example_versions()[0], stack.voices / "v1")
        other = numbered(weights, stack.voices / "v2", number=300)
        pair = Pair(one=revision_files(VOICE, weights), other=revision_files(VOICE, other))
        outcomes: dict[str, Outcome] = {}
        capacity = await usual_capacity(pair, seconds=size.calibration_s, directory=stack.directory / "capacity")
        rate_per_s = capacity * LOAD_SHARE
        tell(f"a usual server answers {capacity:.1f}/s; everybody gets {rate_per_s:.1f}/s")
        tell("in place: the serving process loads each half and assigns it")
        outcomes["in_place"] = await usual(
            pair, size=size, rate_per_s=rate_per_s, directory=stack.directory / "in-place", restart=False
        )
        tell("restart: stop, load, start")
        outcomes["restart"] = await usual(
            pair, size=size, rate_per_s=rate_per_s, directory=stack.directory / "restart", restart=True
        )
        tell("segue: load beside, prove, flip, let go")
        outcomes["segue"] = await with_segue(pair, stack, commander, size=size, rate_per_s=rate_per_s)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where Segue itself failed or mixed a request."""
    options: Options = parse_options("reload", arguments)
    size = SHORT if options.short else FULL
    measured_in = environment()
    outcomes = asyncio.run(measure(size))
    figures = {name: outcome.as_json() for name, outcome in outcomes.items()} | {"swaps": size.swaps}
    write_report(options.out / "reload.json", figures, measured_in)
    lines = []
    for name, outcome in outcomes.items():
        failed = sum(outcome.failed.values())
        lines.append(note(f"{name}: longest stall", f"{outcome.stall_s.max:.2f} s (else {outcome.quiet_s:.2f} s)"))
        if name == "segue":
            lines += [at_most("segue: failed", failed, 0), at_most("segue: mixed", outcome.mixed, 0)]
        else:
            lines += [note(f"{name}: failed", f"{failed}"), note(f"{name}: mixed", f"{outcome.mixed}")]
    return 0 if print_lines(f"reload, {size.swaps} swaps each", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())

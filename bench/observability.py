"""What it costs to be looked at: throughput with metrics scraped and every request traced, over that with neither.

Two stacks that differ in nothing else run side by side and are measured in turns, so that a slow minute of the machine
meets both. That is done again with new processes, because two equal ones differ: of four stacks without metrics or
traces one stayed 4 % faster than another one as long as they ran, which is more than what is looked for.

The stack that is looked at has its server and its sidecar scraped every `SCRAPE_S` (a PodMonitor of the chart does so
every 30 s) and sends five spans a request over OTLP to a receiver in this process, which throws them away. Scrapes
pause in the other one's turns, or it would bear a part of them. What workers count they count in both: it cannot be
switched off.

* `throughput_ratio`: the median over all rounds of all pairs of stacks, each at 16 listeners.
* `cpu_ratio`: CPU seconds of the server's processes by answer, unobserved over observed. No promise: scrapes and the
  sending of spans cost the same by second however little is spoken, so it falls where a machine has other work.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import urlsplit

from tests.support.web import QuietHandler, web_server

from bench.cast import enter, make_cast, make_shots
from bench.harness import Stack, commanding, running_stack
from bench.serve import load_for, rate_of
from bench.table import Options, at_least, at_most, note, parse_options, print_lines, tell
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.processes import descendants
from segue_cli.measure.shots import Mode, Shot, failures
from segue_server.supervisor.usage import usage_of

LISTENERS = 16
SCRAPE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How long, and how often."""

    step_s: float
    rounds: int
    pairs: int


FULL = Size(step_s=8, rounds=2, pairs=6)
SHORT = Size(step_s=2.5, rounds=2, pairs=2)


@dataclass(slots=True)
class Findings:
    """What was measured; answers a second, round by round."""

    on_per_s: list[float] = field(default_factory=list)
    off_per_s: list[float] = field(default_factory=list)
    on_cpu_s: list[float] = field(default_factory=list)
    off_cpu_s: list[float] = field(default_factory=list)
    scrapes: int = 0
    scraped_bytes: int = 0
    spans_bytes: int = 0
    wrong: int = 0

    @property
    def ratio(self) -> float:
        """Of each pair of rounds, the median."""
        return median(on / off for on, off in zip(self.on_per_s, self.off_per_s, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """Of each pair of rounds, the median."""
        return median(off / on for on, off in zip(self.on_cpu_s, self.off_cpu_s, strict=True))


@contextlib.contextmanager
def receiving(findings: Findings) -> Iterator[str]:
    """Where traces go; they are read and thrown away."""

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            findings.spans_bytes += len(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with web_server(Handler) as address:
        yield address


@contextlib.asynccontextmanager
async def scraping(stack: Stack, findings: Findings) -> AsyncIterator[None]:
    """Read the figures of server and sidecar again and again."""

    async def scrape() -> None:
        while True:
            for name in ("server", "sidecar"):
                findings.scraped_bytes += await asyncio.to_thread(_size_of, stack.plan.metrics[name])
                findings.scrapes += 1
            await asyncio.sleep(SCRAPE_S)

    task = asyncio.create_task(scrape())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _size_of(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("GET", parts.path)
        return len(connection.getresponse().read())
    finally:
        connection.close()


async def measure(size: Size) -> Findings:
    """All pairs of stacks, one after the other."""
    findings = Findings()
    with receiving(findings) as endpoint:
        for pair in range(size.pairs):
            tell(f"pair {pair + 1} of {size.pairs}")
            await _measure_pair(endpoint, findings, size)
    return findings


async def _measure_pair(endpoint: str, findings: Findings, size: Size) -> None:
    """Both stacks in turns, the order changing each round."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    async with (
        running_stack(name="observed", environment=traced) as on,
        running_stack(name="unobserved") as off,
    ):
        shots = await _shots_of(on)
        await _shots_of(off)
        for stack in (on, off):
            await load_for(stack, shots, concurrency=2, seconds=1)
        await _in_turns(on, off, shots, findings, size)


async def _in_turns(on: Stack, off: Stack, shots: Sequence[Shot], findings: Findings, size: Size) -> None:
    sides = [(on, findings.on_per_s, findings.on_cpu_s), (off, findings.off_per_s, findings.off_cpu_s)]
    for turn in range(size.rounds):
        for stack, rates, cpu_s in sides if turn % 2 == 0 else reversed(sides):
            before_s = _cpu_s(stack)
            async with scraping(on, findings) if stack is on else contextlib.nullcontext():
                records = await load_for(stack, shots, concurrency=LISTENERS, seconds=size.step_s)
            rates.append(rate_of(records))
            cpu_s.append((_cpu_s(stack) - before_s) / len(records))
            findings.wrong += sum(failures(records).values())
        tell(f"round {turn + 1}: {findings.on_per_s[-1]:.1f}/s observed, {findings.off_per_s[-1]:.1f}/s not")


def _cpu_s(stack: Stack) -> float:
    """Of the server: the supervisor, which is scraped, and its workers, which speak."""
    supervisor = stack.services["server"].pid
    assert supervisor is not None
    found = (usage_of(pid) for pid in (supervisor, *descendants(supervisor)))
    return sum(usage.cpu_s for usage in found if usage is not None)


async def _shots_of(stack: Stack) -> list[Shot]:
    async with commanding(stack) as commander:
        cast = make_cast(stack)
        for revisions in cast.revisions.values():
            del revisions[1:]
        await enter(commander, cast)
    return [shot.model_copy(update={"mode": Mode.WHOLE}) for shot in make_shots(list(cast.revisions))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("observability", arguments)
    measured_in = environment()
    findings = asyncio.run(measure(SHORT if options.short else FULL))
    figures = {
        "throughput_ratio": round(findings.ratio, 3),
        "cpu_ratio": round(findings.cpu_ratio, 3),
        "failed": findings.wrong,
        "details": {
            "observed_per_s": [round(rate, 1) for rate in findings.on_per_s],
            "unobserved_per_s": [round(rate, 1) for rate in findings.off_per_s],
            "observed_cpu_s": [round(each, 4) for each in findings.on_cpu_s],
            "unobserved_cpu_s": [round(each, 4) for each in findings.off_cpu_s],
            "scrapes": findings.scrapes,
            "scraped_bytes": findings.scraped_bytes,
            "spans_bytes": findings.spans_bytes,
        },
    }
    write_report(options.out / "observability.json", figures, measured_in)
    lines = [
        at_least("throughput, observed over not", findings.ratio, 0.97, digits=3, needs_full=True),
        at_most("failed", findings.wrong, 0),
        at_least("bytes of spans that arrived", findings.spans_bytes, 1),
        note("CPU by answer, not over observed", f"{findings.cpu_ratio:.3f}"),
        note("scrapes", str(findings.scrapes)),
    ]
    return 0 if print_lines("observability", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())

"""20 voices in a budget for 8, requests over all of them, through a real `segue up`.

What must hold: no request fails, the pool stays within its budget, no process dies, voices leave memory and come back.
What is reported: how often a voice was there already, and how long it took to come up, by where it came from.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.harness import BenchFailed
from bench.residency.alone import measure_alone
from bench.residency.asking import Visit, ask_all, who_is_asked
from bench.residency.rises import Rise, by_source, rises_in, summary
from bench.residency.voices import SLACK_BYTES, make_company, read_company
from bench.table import Line, at_least, at_most, note, parse_options, print_lines
from segue.model import Phase
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.processes import descendants, footprint
from segue_cli.measure.running_up import RunningUp
from segue_cli.up.memory import parse_bytes

MIB = 1 << 20
ROLLOUT_S = 60.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of it."""

    voices: int
    room: int
    requests: int
    listeners: int
    alone: int


FULL = Size(voices=20, room=8, requests=1200, listeners=4, alone=30)
SHORT = Size(voices=6, room=3, requests=90, listeners=2, alone=2)


@dataclass(slots=True)
class Watch:
    """What was seen of the processes meanwhile."""

    pss_bytes: list[int] = field(default_factory=list)
    peak_bytes: int = 0
    budget_bytes: int = 0
    pids: set[int] = field(default_factory=set)


async def measure(size: Size, *, folder: Path | None, memory: str) -> dict[str, Any]:
    """Bring up, let every voice be rolled out, ask, look."""
    directory = Path(tempfile.mkdtemp(prefix="segue-bench-residency-"))
    try:
        if folder is not None:
            voices, budget_bytes = read_company(folder), parse_bytes(memory)
        else:
            company = make_company(directory / "voices", count=size.voices)
            folder, voices = company.folder, company.voices
            budget_bytes = parse_bytes(memory) if memory else size.room * company.largest_bytes + SLACK_BYTES
        up = RunningUp(folder, directory / "state", memory=str(budget_bytes))
        await up.start()
        try:
            return await _visit(up, voices, size=size)
        finally:
            await up.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _visit(up: RunningUp, voices: Mapping[str, str], *, size: Size) -> dict[str, Any]:
    await up.until(
        lambda: all(_is_served(up, name) for name in voices),
        within_s=ROLLOUT_S * len(voices),
        what="every voice was rolled out",
    )
    before, rose_before = _metrics(up), len(_rises(up))
    watch = Watch()
    looking = asyncio.create_task(_look(up, watch))
    order = list(who_is_asked(list(voices), count=size.requests))
    try:
        visit = await ask_all(up.address, order, listeners=size.listeners)
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    await _look_once(up, watch)
    grown = {name: value - before.get(name, 0.0) for name, value in _metrics(up).items()}
    return _figures(visit, watch, grown, _rises(up)[rose_before:], voices=voices, size=size)


def _is_served(up: RunningUp, name: str) -> bool:
    status = up.status(f"default/{name}")
    return status.stable_revision is not None and status.phase is Phase.IDLE


async def _look(up: RunningUp, watch: Watch) -> None:
    while True:
        await _look_once(up, watch)
        await asyncio.sleep(LOOK_EVERY_S)


async def _look_once(up: RunningUp, watch: Watch) -> None:
    mains = up.children()
    watch.pids.update(mains.values())
    pids = {*mains.values(), *(child for pid in mains.values() for child in descendants(pid))}
    watch.pss_bytes.append(await asyncio.to_thread(lambda: sum(footprint(pid).total for pid in pids)))
    state = await up.state()
    if state is not None:
        watch.peak_bytes = max(watch.peak_bytes, state.pool.peak_bytes)
        watch.budget_bytes = state.pool.budget_bytes


def _metrics(up: RunningUp) -> dict[str, float]:
    """The sidecar's counters of cold starts and evictions."""
    with urllib.request.urlopen(f"{up.about()['sidecarStatus']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = ("segue_sidecar_cold_starts_total", "segue_sidecar_cold_start_failures_total", "segue_sidecar_evictions")
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted)}


def _rises(up: RunningUp) -> list[Rise]:
    return rises_in(up.layout.logs / "sidecar.log")


def _figures(
    visit: Visit,
    watch: Watch,
    grown: Mapping[str, float],
    rises: Sequence[Rise],
    *,
    voices: Mapping[str, str],
    size: Size,
) -> dict[str, Any]:
    failed = Counter(each.failure for each in visit.asked if each.failure)
    waits_ms = [each.wait_s * 1e3 for each in visit.asked if not each.failure]
    if not waits_ms:
        raise BenchFailed(f"no request was answered: {dict(failed)}")
    evictions = {_label(name): int(value) for name, value in grown.items() if "evictions_total" in name}
    return {
        "voices": len(voices),
        "tiers": dict(Counter(voices.values())),
        "room_for": size.room,
        "budget_mib": round(watch.budget_bytes / MIB, 2),
        "requests": len(visit.asked),
        "listeners": size.listeners,
        "failed": failed.total(),
        "failures": dict(failed),
        "turned_away_503": sum(len(each.turned_away) for each in visit.asked),
        "turned_away_with": Counter(said for each in visit.asked for said in each.turned_away).most_common(5),
        "cold_starts": len(rises),
        "hit_ratio": round(1 - len(rises) / len(visit.asked), 4),
        "evictions": evictions,
        "gave_up": {_label(name): int(value) for name, value in grown.items() if "failures_total" in name},
        "on_demand_ms": by_source(rises),
        "request_ms": summary(waits_ms),
        "peak_over_budget": round(watch.peak_bytes / watch.budget_bytes, 4),
        "pss_peak_mib": round(max(watch.pss_bytes) / MIB, 1),
        "processes_that_died": len(watch.pids) - 3,
    }


def _label(metric: str) -> str:
    return metric.partition('="')[2].partition('"')[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.residency", add_help=False)
    parser.add_argument("--voices", type=int)
    parser.add_argument("--room", type=int)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--listeners", type=int)
    parser.add_argument("--alone", type=int, help="how often one voice by itself is brought up from each source")
    parser.add_argument("--folder", type=Path, help="voices of any engine, made by somebody; needs --memory")
    parser.add_argument("--memory", default="", help="budget, such as 2Gi; default: room for --room demo voices")
    own, rest = parser.parse_known_args(arguments)
    options = parse_options("residency", rest)
    if own.folder is not None and not own.memory:
        parser.error("--folder needs --memory: what its voices take is not known before")
    size = SHORT if options.short else FULL
    chosen = {name: getattr(own, name) for name in ("voices", "room", "requests", "listeners", "alone")}
    size = replace(size, **{name: value for name, value in chosen.items() if value is not None})
    measured_in = environment()
    figures = asyncio.run(measure(size, folder=own.folder, memory=own.memory))
    figures["alone_ms"] = asyncio.run(measure_alone(size.alone)) if size.alone else {}
    write_report(options.out / "residency.json", figures, measured_in)
    return 0 if print_lines("residency", _lines(figures), short=options.short) else 1


def _lines(figures: Mapping[str, Any]) -> list[Line]:
    came_up = [
        note(f"came up from {source}, p50 / p99", f"{each['p50']:,.0f} / {each['p99']:,.0f} ms ({each['count']:.0f})")
        for source, each in figures["on_demand_ms"].items()
    ]
    came_up += [
        note(f"alone, from {source}, p50 / p99", f"{each['p50']:,.0f} / {each['p99']:,.0f} ms ({each['count']:.0f})")
        for source, each in figures["alone_ms"].items()
    ]
    return [
        at_most("requests failed", figures["failed"], 0),
        at_most("turned away with 503 first", figures["turned_away_503"], 0, needs_full=True),
        at_most("arena peak / budget", figures["peak_over_budget"], 1.0, digits=3),
        at_most("processes that died", figures["processes_that_died"], 0),
        at_least("evictions", sum(figures["evictions"].values()), 1),
        at_least("cold starts", figures["cold_starts"], 1),
        *came_up,
        note("the voice was there already", f"{figures['hit_ratio']:.1%}"),
        note("request, p50 / p99", f"{figures['request_ms']['p50']:,.0f} / {figures['request_ms']['p99']:,.0f} ms"),
        note("PSS of all processes at most", f"{figures['pss_peak_mib']} MiB"),
    ]

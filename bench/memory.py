"""Promise 5: memory is bounded and flat over a thousand swaps with real preloads.

Each swap loads weights that were never loaded before, flips to them, speaks a few sentences with them, and lets the
old ones go. Two voices swap side by side; when both are done, all processes of the stack are looked at. The figure is
their proportional set size together, which counts what they share once; mapped files are in it, so another program
that starts or ends meanwhile and uses the same libraries moves it. The last hundred swaps are compared with the second
hundred (in the first, caches and allocators still fill).
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from bench.cast import Cast, enter, make_cast, make_shots
from bench.harness import BenchFailed, Commander, Stack, commanding, revision_files, running_stack
from bench.table import Options, at_least, at_most, note, parse_options, print_lines, tell
from segue.wire import Expected
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.load import LoadGenerator
from segue_cli.measure.processes import Footprint, footprint, open_descriptors
from segue_cli.measure.renderings import RevisionFiles
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, Shot, failures
from segue_cli.measure.variants import numbered

MIB = 1 << 20
BUDGET_BYTES = 192 * MIB
REQUESTS_A_SWAP = 4
LANES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many swaps, and how many of them make a window."""

    swaps: int
    window: int


FULL = Size(swaps=1000, window=100)
SHORT = Size(swaps=60, window=14)


@dataclass(slots=True)
class Ledger:
    """What was seen after each round of swaps."""

    swaps: int = 0
    seen: list[dict[str, Footprint]] = field(default_factory=list)
    """By process."""
    descriptors: list[int] = field(default_factory=list)
    used_bytes: list[int] = field(default_factory=list)
    budget_bytes: int = 0
    peak_bytes: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    spoken: int = 0

    @property
    def own_bytes(self) -> list[int]:
        """Of all processes together, without mapped files."""
        return [sum(each.own for each in seen.values()) for seen in self.seen]

    @property
    def total_bytes(self) -> list[int]:
        """Of all processes together."""
        return [sum(each.total for each in seen.values()) for seen in self.seen]


async def swap_all(stack: Stack, commander: Commander, cast: Cast, *, size: Size) -> Ledger:
    """Swap two voices side by side, so that both cores have work; look at all processes after each round."""
    ledger = Ledger()
    base = {voice: revisions[0] for voice, revisions in list(cast.revisions.items())[:LANES]}
    active = dict(base)
    shots = make_shots(list(cast.revisions))
    while ledger.swaps < size.swaps:
        swaps = [
            _swap(stack, commander, base[voice], old=active[voice], number=ledger.swaps + lane)
            for lane, voice in enumerate(base)
        ]
        active = dict(zip(base, await asyncio.gather(*swaps), strict=True))
        ledger.swaps += len(swaps)
        for voice in base:
            mine = [shot for shot in shots if voice.endswith(f"/{shot.voice}")]
            await _speak(stack, ledger, mine[:REQUESTS_A_SWAP])
        await _look(stack, commander, ledger)
        if ledger.swaps % max(size.swaps // 10, 1) < LANES:
            tell(f"{ledger.swaps:,} swaps, {ledger.total_bytes[-1] / MIB:.1f} MiB")
    return ledger


async def _swap(
    stack: Stack, commander: Commander, base: RevisionFiles, *, old: RevisionFiles, number: int
) -> RevisionFiles:
    """Load, flip, let the old one go, delete its files."""
    out = stack.voices / "swaps" / str(number)
    files = revision_files(base.voice, await asyncio.to_thread(numbered, base.weights, out, number=1000 + number))
    await commander.ensure(base.voice, files)
    await commander.point(base.voice, files.revision, expected=Expected(active=old.revision))
    await commander.drop(base.voice, old.revision)
    if old.weights["prosody"].parent.parent.name == "swaps":
        for path in old.weights.values():
            path.unlink()
    return files


async def _speak(stack: Stack, ledger: Ledger, shots: Sequence[Shot]) -> None:
    plan = LoadPlan(
        host="127.0.0.1",
        port=stack.port,
        shots=tuple(shot.model_copy(update={"mode": Mode.WHOLE}) for shot in shots),
        pace=ClosedLoop(concurrency=2),
        max_requests=len(shots),
    )
    records = await LoadGenerator(plan).run()
    ledger.failed.update(failures(records))
    ledger.spoken += len(records)


async def _look(stack: Stack, commander: Commander, ledger: Ledger) -> None:
    workers = {f"worker {number}": pid for number, pid in enumerate(stack.worker_pids())}
    pids = {"sidecar": stack.pid("sidecar"), "server": stack.pid("server"), **workers}
    state = await commander.state()
    others = (pid for pid in stack.all_pids() if pid not in pids.values())
    pids |= {f"child {number}": pid for number, pid in enumerate(others)}
    ledger.seen.append({name: footprint(pid) for name, pid in pids.items()})
    ledger.descriptors.append(sum(map(open_descriptors, pids.values())))
    ledger.used_bytes.append(state.pool.used_bytes)
    ledger.budget_bytes = state.pool.budget_bytes
    ledger.peak_bytes = max(ledger.peak_bytes, state.pool.peak_bytes)


def figures_of(ledger: Ledger, size: Size) -> dict[str, object]:
    """The report."""
    rounds = size.window // LANES
    second, last = slice(rounds, 2 * rounds), slice(-rounds, None)
    if len(ledger.seen) < 3 * rounds:
        raise BenchFailed(f"only {ledger.swaps} swaps: too few to compare windows of {size.window}")
    own, total = ledger.own_bytes, ledger.total_bytes
    lasting = set.intersection(*(set(seen) for seen in ledger.seen[second] + ledger.seen[last]))
    return {
        "swaps": ledger.swaps,
        "pss_growth_ratio": round(mean(total[last]) / mean(total[second]), 5),
        "fds_growth": int(median(ledger.descriptors[last]) - median(ledger.descriptors[second])),
        "peak_over_budget": round(ledger.peak_bytes / ledger.budget_bytes, 4),
        "details": {
            "pss_second_window_mib": round(mean(total[second]) / MIB, 2),
            "pss_last_window_mib": round(mean(total[last]) / MIB, 2),
            "pss_mib_each_tenth": [round(size_bytes / MIB, 2) for size_bytes in total[:: max(len(total) // 10, 1)]],
            "growth_by_process": {name: round(_growth(ledger, name, second, last), 5) for name in sorted(lasting)},
            "without_mapped_files": {
                "growth_ratio": round(mean(own[last]) / mean(own[second]), 5),
                "second_window_mib": round(mean(own[second]) / MIB, 2),
                "last_window_mib": round(mean(own[last]) / MIB, 2),
            },
            "descriptors_second_window": median(ledger.descriptors[second]),
            "descriptors_last_window": median(ledger.descriptors[last]),
            "arena_used_mib_last": round(ledger.used_bytes[-1] / MIB, 2),
            "arena_peak_mib": round(ledger.peak_bytes / MIB, 2),
            "budget_mib": ledger.budget_bytes / MIB,
            "requests": ledger.spoken,
            "failures": dict(ledger.failed),
        },
    }


def _growth(ledger: Ledger, process: str, second: slice, last: slice) -> float:
    def average(window: slice) -> float:
        return mean(seen[process].total for seen in ledger.seen[window] if process in seen)

    return average(last) / average(second)


async def measure(size: Size) -> Ledger:
    """Bring up, swap, look."""
    limits = {"limits": {"preloads": LANES}}
    async with (
        running_stack(name="memory", budget_bytes=BUDGET_BYTES, sidecar=limits) as stack,
        commanding(stack) as commander,
    ):
        cast = make_cast(stack)
        for revisions in cast.revisions.values():
            del revisions[1:]
        await enter(commander, cast)
        return await swap_all(stack, commander, cast, size=size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("memory", arguments)
    size = SHORT if options.short else FULL
    measured_in = environment()
    ledger = asyncio.run(measure(size))
    figures = figures_of(ledger, size)
    write_report(options.out / "memory.json", figures, measured_in)
    lines = [
        at_least("swaps", ledger.swaps, size.swaps),
        at_most(
            "PSS, last window / second window", float(str(figures["pss_growth_ratio"])), 1.01, digits=4, needs_full=True
        ),
        at_most("growth of open descriptors", int(str(figures["fds_growth"])), 0),
        at_most("arena peak / budget", float(str(figures["peak_over_budget"])), 1.0, digits=3),
        at_most("requests failed meanwhile", ledger.failed.total(), 0),
        note("PSS of all processes at the end", f"{ledger.total_bytes[-1] / MIB:.1f} MiB"),
    ]
    return 0 if print_lines("memory", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())

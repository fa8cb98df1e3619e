"""One operator and thousands of pods: how soon, how much memory, how much CPU.

What is measured, and how. The operator is the real `Controller` with the real `SidecarFleet` in a process of its own
(`bench/simulated/leader.py`), over VoiceModels in memory that answer after 2 ms. The pods are simulated sidecars in
another process (`bench/simulated/pods.py`): each has its own loopback address and uid, speaks the control API over real
mutual TLS, and loads and probes within half a second. One fleet; 1,000 voices, of which ten live on every pod and the
others on one pod in a hundred, so that each pod holds about twenty. In fleets so small that a voice looks at every pod
(`FEW_PODS`) the other pods know it at rest, as their desired sets tell them.

* `reconcile_s`: from the change of a voice's spec to the arrival of its first command at a pod, while the operator
  polls all pods and looks after all voices; two steps with a status write in between lie in it.
* `fanout_s`: from the persisted commit point of a voice that lives on every pod to the answer of the last pod to the
  pointer command; the decision over all pods lies in it.
* `operator_rss_mb`: the highest resident memory of the operator's process in the whole run (VmHWM), with what the
  Kubernetes adapter imports.
* `idle_cpu`: CPU seconds of that process per second, while nothing is rolled out and nothing is guarded.
* `api_requests_per_rollout`: reads and status writes from the change until the voice is promoted.
* `growth`: each figure with all pods over the same with a tenth of them, divided by ten: at most 1 is linear.
* `together_spread_ms`: see `bench/together.py`.

Times are CLOCK_MONOTONIC, memory and CPU are read from /proc by the bench. `--short` has a tenth of the pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.simulated.cluster import document_of
from bench.simulated.leader import FLEET
from bench.simulated.lines import Process
from bench.table import Line, at_most, note, parse_options, print_lines, tell
from bench.together import measure_together
from segue.errors import SegueError
from segue.model import VoiceModel, revision_of
from segue.tls import OPERATOR_NAME, Authority, sidecar_name
from segue_operator.fleet.group import FEW_PODS

VOICES = 1000
EVERYWHERE = 10
ONE_POD_IN = 100
IDLE_POLL_S = 60.0
SETTLES_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of it."""

    pods: int
    idle_s: float
    changes: int
    fanouts: int


FULL = (
    Size(pods=500, idle_s=75, changes=60, fanouts=5),
    Size(pods=5000, idle_s=75, changes=200, fanouts=10),
)
SHORT = (Size(pods=50, idle_s=5, changes=10, fanouts=2), Size(pods=500, idle_s=5, changes=20, fanouts=3))


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of one size."""

    pods: int
    start_s: float = 0.0
    idle_cpu: float = 0.0
    idle_rss_mb: float = 0.0
    peak_rss_mb: float = 0.0
    reconcile_s: list[float] = field(default_factory=list)
    fanout_s: list[float] = field(default_factory=list)
    rollout_cpu_s: list[float] = field(default_factory=list)
    api_requests_per_rollout: float = 0.0
    refused: int = 0


class FleetBenchFailed(SegueError):
    """Something that should be measured never happened."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write `fleet.json`; 1 where a promise that binds is broken."""
    options = parse_options("fleet", arguments)
    small, large = [asyncio.run(measure(size)) for size in (SHORT if options.short else FULL)]
    together = asyncio.run(measure_together(flips=4 if options.short else 20))
    report = _report(small, large, together)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fleet.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    return (
        0
        if print_lines(f"one operator, {large.pods:,} pods, {VOICES:,} voices", _lines(report), short=options.short)
        else 1
    )


# --- one size -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The two processes, and who is where."""

    pods: Process
    operator: Process
    everywhere: tuple[str, ...]
    some: tuple[str, ...]

    async def facts(self) -> dict[str, Any]:
        """The operator's counts."""
        return await self.operator.ask({})

    async def noted(self) -> dict[str, Any]:
        """What the pods were told since the last time."""
        return await self.pods.ask({})


async def measure(size: Size) -> Figures:
    """All figures of one size."""
    found = Figures(pods=size.pods)
    began = time.monotonic()
    async with _stage(size) as stage:
        await _until(stage, lambda facts: facts["inReach"] == size.pods, within_s=180)
        found.start_s = time.monotonic() - began
        tell(f"{size.pods} pods in reach after {found.start_s:.1f} s")
        await _idle(stage, size, found)
        await _reconcile(stage, size, found)
        await _fan_out(stage, size, found)
        found.peak_rss_mb = _memory_mb(stage.operator.pid, "VmHWM")
    return found


async def _idle(stage: Stage, size: Size, found: Figures) -> None:
    """Let the first looks pass, then watch it do nothing."""
    await asyncio.sleep(size.idle_s / 5)
    before_s, began = _cpu_s(stage.operator.pid), time.monotonic()
    await asyncio.sleep(size.idle_s)
    found.idle_cpu = (_cpu_s(stage.operator.pid) - before_s) / (time.monotonic() - began)
    found.idle_rss_mb = _memory_mb(stage.operator.pid, "VmRSS")
    tell(f"idle: {found.idle_cpu:.1%} of a core, {found.idle_rss_mb:.0f} MB")


async def _reconcile(stage: Stage, size: Size, found: Figures) -> None:
    """Change voices now and then; each is rolled out while the next ones change."""
    await stage.noted()
    before = (await stage.facts())["requests"]
    changed: dict[str, tuple[int, str]] = {}
    for key in random.sample(stage.some, size.changes):
        answer = await stage.operator.ask({"change": [key]})
        began_ns, revision = answer["changed"][key]
        changed[key] = (began_ns, revision)
        await asyncio.sleep(random.expovariate(1.0))
    await _until(stage, lambda facts: all(facts["phases"].get(key) == "Idle" for key in changed), within_s=300)
    noted, after = await stage.noted(), (await stage.facts())["requests"]
    missing = [key for key, (_, revision) in changed.items() if f"{key} {revision}" not in noted["first"]]
    if missing:
        raise FleetBenchFailed(f"no command ever came for {missing[:3]}")
    found.reconcile_s = [
        (noted["first"][f"{key} {revision}"] - began) / 1e9 for key, (began, revision) in changed.items()
    ]
    found.refused += noted["refused"]
    spent = sum(after[key] - before.get(key, 0) for key in changed)
    found.api_requests_per_rollout = spent / size.changes
    tell(f"reconcile: p50 {_percentile(found.reconcile_s, 50):.3f} s, worst {max(found.reconcile_s):.3f} s")


async def _fan_out(stage: Stage, size: Size, found: Figures) -> None:
    """Roll voices out that live on every pod, one after the other, each until its watch is over."""
    for index in range(size.fanouts):
        key = stage.everywhere[index % len(stage.everywhere)]
        before_s, pods_before_s = _cpu_s(stage.operator.pid), _cpu_s(stage.pods.pid)
        answer = await stage.operator.ask({"change": [key]})
        what = f"{key} {answer['changed'][key][1]}"
        await _until(stage, lambda facts, what=what: what in facts["flipping"], within_s=180)
        await _until(stage, lambda facts, key=key: facts["phases"][key] == "Idle", within_s=120)
        await asyncio.sleep(SETTLES_S)
        noted, facts = await stage.noted(), await stage.facts()
        _, last_ns, pods = noted["rounds"][f"{what} None 0"]
        if pods != size.pods:
            raise FleetBenchFailed(f"{pods} of {size.pods} pods were told of {what}")
        found.refused += noted["refused"]
        found.fanout_s.append((last_ns - facts["flipping"][what]) / 1e9)
        found.rollout_cpu_s.append(_cpu_s(stage.operator.pid) - before_s)
        tell(
            f"fan-out {index + 1}: {found.fanout_s[-1]:.2f} s; the rollout took {found.rollout_cpu_s[-1]:.1f} CPU s of "
            f"the operator and {_cpu_s(stage.pods.pid) - pods_before_s:.1f} of the pods; {noted['connections']} "
            f"connections, {_memory_mb(stage.operator.pid, 'VmRSS'):.0f} MB"
        )


async def _until(stage: Stage, condition: Any, *, within_s: float) -> dict[str, Any]:
    ends = time.monotonic() + within_s
    while True:
        facts = await stage.facts()
        if condition(facts):
            return facts
        if time.monotonic() > ends:
            counts: dict[str, int] = {}
            for phase in facts["phases"].values():
                counts[phase] = counts.get(phase, 0) + 1
            raise FleetBenchFailed(
                f"not within {within_s:.0f} s: {facts['inReach']} pods in reach, {counts}, {facts['events']}"
            )
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def _stage(size: Size) -> AsyncIterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="segue-bench-fleet-"))
    try:
        authority = Authority.create(directory / "ca")
        name = sidecar_name(fleet=FLEET.name, namespace=FLEET.namespace)
        authority.issue(name, server=True, directory=directory / "sidecar")
        authority.issue(OPERATOR_NAME, server=False, directory=directory / "operator")
        async with (
            Process("bench.simulated.pods", log=directory / "pods.log") as pods,
            Process("bench.simulated.leader", log=directory / "operator.log") as operator,
        ):
            yield await _begin(size, directory, pods, operator)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _begin(size: Size, directory: Path, pods: Process, operator: Process) -> Stage:
    everywhere = tuple(f"voices/everywhere-{index}" for index in range(EVERYWHERE))
    some = tuple(f"voices/some-{index}" for index in range(VOICES - EVERYWHERE))
    described = _describe_pods(size, everywhere, some)
    answer = await pods.ask({"tls": str(directory / "sidecar"), "pods": described})
    await operator.ask(
        {
            "tls": str(directory / "operator"),
            "state": str(directory),
            "port": answer["port"],
            "idlePollS": IDLE_POLL_S,
            "pods": [{name: each[name] for name in ("uid", "name", "address")} for each in described],
            "voices": [*((key, "hot") for key in everywhere), *((key, "warm") for key in some)],
        }
    )
    return Stage(pods=pods, operator=operator, everywhere=everywhere, some=some)


def _describe_pods(size: Size, everywhere: Sequence[str], some: Sequence[str]) -> list[dict[str, Any]]:
    """Who holds what: all of the ones, and of the others each on one pod in a hundred."""
    revisions = {key: _first_revision(key) for key in (*everywhere, *some)}
    held: list[list[str]] = [list(everywhere) for _ in range(size.pods)]
    for key in some:
        for index in random.sample(range(size.pods), max(1, size.pods // ONE_POD_IN)):
            held[index].append(key)
    at_rest: list[list[str]] = [[] for _ in range(size.pods)]
    if size.pods <= FEW_PODS:
        at_rest = [sorted(set(some) - set(here)) for here in held]
    return [
        {
            "uid": f"{index:08x}-pod",
            "name": f"pod-{index}",
            "address": f"127.{1 + index // 62_500}.{index // 250 % 250}.{index % 250 + 1}",
            "voices": [(key, f"uid-{key.partition('/')[2]}", revisions[key]) for key in held[index]],
            "atRest": [(key, f"uid-{key.partition('/')[2]}", revisions[key]) for key in at_rest[index]],
        }
        for index in range(size.pods)
    ]


def _first_revision(key: str) -> str:
    return revision_of(VoiceModel.parse(document_of(key, version=1, tier="hot")).spec)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


# --- the report -----------------------------------------------------------------------------------------------------


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": _percentile(values, 50), "p99": _percentile(values, 99), "max": max(values), "count": len(values)}


def _report(small: Figures, large: Figures, together: dict[str, Any]) -> dict[str, Any]:
    times = large.pods / small.pods
    growth = {
        "fanout": _percentile(large.fanout_s, 50) / _percentile(small.fanout_s, 50) / times,
        "idle_cpu": large.idle_cpu / max(small.idle_cpu, 1e-3) / times,
        "rss": large.peak_rss_mb / small.peak_rss_mb / times,
    }
    return {
        "pods": large.pods,
        "voices": VOICES,
        "reconcile_s": _spread(large.reconcile_s),
        "fanout_5000_s": _spread(large.fanout_s),
        "operator_rss_mb": large.peak_rss_mb,
        "operator_idle_rss_mb": large.idle_rss_mb,
        "api_requests_per_rollout": large.api_requests_per_rollout,
        "idle_cpu": large.idle_cpu,
        "start_s": large.start_s,
        "refused": small.refused + large.refused,
        "growth": {**growth, "worst": max(growth.values())},
        "smaller": {
            "pods": small.pods,
            "reconcile_s": _spread(small.reconcile_s),
            "fanout_s": _spread(small.fanout_s),
            "operator_rss_mb": small.peak_rss_mb,
            "idle_cpu": small.idle_cpu,
        },
        "together_spread_ms": together,
    }


def _lines(report: dict[str, Any]) -> list[Line]:
    reconcile, fanout, together = report["reconcile_s"], report["fanout_5000_s"], report["together_spread_ms"]
    return [
        at_most("change of a voice to its command, p99", reconcile["p99"], 1, unit=" s", digits=3, needs_full=True),
        at_most(f"pointer to {report['pods']:,} pods, p99", fanout["p99"], 5, unit=" s", needs_full=True),
        at_most("operator's memory at its highest", report["operator_rss_mb"], 500, unit=" MB", digits=0),
        at_most("commands that were refused", report["refused"], 0),
        at_most("growth, worst figure", report["growth"]["worst"], 1, needs_full=True),
        at_most(f"together flip of {together['pages']} pages, p99", together["p99"], 20, unit=" ms", needs_full=True),
        at_most("pages that did not flip together", together["missed"], 0),
        note("idle CPU", f"{report['idle_cpu']:.1%} of a core"),
        note("API requests per rollout", f"{report['api_requests_per_rollout']:.1f}"),
        note("all pods read after a start", f"{report['start_s']:.1f} s"),
    ]


if __name__ == "__main__":
    sys.exit(main())

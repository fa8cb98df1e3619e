"""Promises 1, 6 and 7: SIGKILL at every named step of a rollout, to each process and to several at once.

A real `segue up` under steady traffic rolls out one new version after the other. Each case waits until its rollout
stands at the step, kills, and waits until everything agrees again: YAML, status, pointer, workers. Whatever request was
not answered from the kill until then is counted against what was killed; a killed worker may lose what it had in
flight, and nothing that was asked later.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shutil import rmtree

from rich.table import Table
from ruamel.yaml import YAML

from bench.cast import make_shots
from bench.harness import BenchFailed, copy_weights, example_versions, revision_files
from bench.table import CONSOLE, Options, at_least, at_most, note, parse_options, print_lines, tell
from segue.model import Phase, Status
from segue.wire import RevisionPhase, StateDocument
from segue_cli.measure.environment import environment, write_report
from segue_cli.measure.load_process import LoadProcess
from segue_cli.measure.processes import alive, kill
from segue_cli.measure.running_up import RunningUp
from segue_cli.measure.shots import LoadPlan, OpenLoop, Record, failures
from segue_cli.measure.variants import numbered

VOICES = ("one", "two", "three")
CHANGED = "default/one"
WORKERS = 2
RATE_PER_S = 16.0
CONVERGE_S = 60.0
STEP_S = 120.0
ON_THE_WIRE_NS = 20_000_000
"""A request that was sent within 20 ms of a worker's death may have been written to its socket."""
DIE_S = 5.0
"""A killed process still has to be scheduled to die; on a busy machine that takes a moment."""


class Step(StrEnum):
    """Where a rollout stands when somebody dies. The first six are the sidecar's, the others the operator's."""

    FETCHING = "fetching"
    PREPARING = "preparing"
    PROVING = "proving"
    OFFERING = "offering"
    READY = "ready"
    VERIFYING = "verifying"
    CANARY = "canary"
    FLIPPING = "flipping"
    WATCHING = "watching"
    CONFIRMED = "confirmed"


class Victim(StrEnum):
    """Who dies."""

    SIDECAR = "sidecar"
    OPERATOR = "operator"
    WORKER_1 = "worker 1"
    WORKER_2 = "worker 2"


SINGLE = tuple((victim,) for victim in Victim)
SEVERAL = (
    (Victim.SIDECAR, Victim.OPERATOR),
    (Victim.SIDECAR, Victim.WORKER_1),
    (Victim.SIDECAR, Victim.OPERATOR, Victim.WORKER_1),
)
SEVERAL_AT = (Step.PREPARING, Step.CANARY, Step.WATCHING)

SHORT_CASES: tuple[tuple[Step, tuple[Victim, ...]], ...] = (
    (Step.PREPARING, (Victim.SIDECAR,)),
    (Step.CANARY, (Victim.OPERATOR,)),
    (Step.WATCHING, (Victim.SIDECAR,)),
    (Step.CANARY, (Victim.WORKER_1,)),
    (Step.FLIPPING, (Victim.SIDECAR, Victim.OPERATOR)),
)
FULL_CASES = (
    *((step, victims) for step in Step for victims in SINGLE),
    *((step, victims) for step in SEVERAL_AT for victims in SEVERAL),
)


@dataclass(slots=True, kw_only=True)
class Case:
    """One kill and what came of it."""

    step: Step
    victims: tuple[Victim, ...]
    stood_at: str = ""
    """Where the rollout really stood: short steps may be over before the signal arrives."""
    killed_ns: int = 0
    gone_ns: int = 0
    """When the kernel had closed the last socket of the last victim."""
    converged_ns: int = 0
    outcome: str = ""
    lost: int = 0
    lost_later: int = 0

    @property
    def names(self) -> str:
        """Who died."""
        return " + ".join(self.victims)

    @property
    def converged(self) -> bool:
        """Whether everything agreed again in time."""
        return bool(self.converged_ns)

    @property
    def kills_worker(self) -> bool:
        """Whether a worker was among them."""
        return any(victim in (Victim.WORKER_1, Victim.WORKER_2) for victim in self.victims)


# --- the fleet under test -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Fleet:
    """The voices' folder and the running `segue up`."""

    up: RunningUp
    weights: dict[str, Path]
    number: int = 0

    def roll(self) -> str:
        """Write the YAML of a version that was never seen before; returns its revision."""
        self.number += 1
        out = self.up.voices / "versions" / str(self.number)
        weights = numbered(self.weights, out, number=2000 + self.number)
        write_voice(self.up.voices, "one", weights)
        return revision_files(CHANGED, weights).revision


def write_voice(folder: Path, name: str, weights: dict[str, Path]) -> None:
    """A VoiceModel whose rollouts take seconds: few cases, small canary, short watch."""
    document = {
        "apiVersion": "segue.dev/v1alpha1",
        "kind": "VoiceModel",
        "metadata": {"name": name},
        "spec": {
            "engine": "demo",
            "weights": {half: {"uri": path.as_uri()} for half, path in weights.items()},
            "verification": {"cases": [{"text": "The train to the coast leaves at ten past nine from platform two."}]},
            "rollout": {
                "canary": {
                    "steps": ["50%"],
                    "successes": 3,
                    "maxErrors": 100,
                    "timeout": "8s",
                    "insufficientTraffic": "Proceed",
                },
                "consistency": "utterance",
                "progressDeadline": "60s",
            },
            "watch": {"duration": "2s", "sustainedFor": "1s", "minErrors": 50, "insufficientTraffic": "Proceed"},
            "rollback": {"keepWarm": "0s"},
        },
    }
    partial = folder / f".{name}.partial"
    with partial.open("w", encoding="utf-8") as stream:
        YAML(typ="safe", pure=True).dump(document, stream)
    partial.replace(folder / f"{name}.yaml")


def prepare(directory: Path) -> Fleet:
    """Three voices from the examples."""
    voices = directory / "voices"
    folders = example_versions()
    weights = {
        name: copy_weights(folders[number % len(folders)], voices / "base" / name) for number, name in enumerate(VOICES)
    }
    for name in VOICES:
        write_voice(voices, name, weights[name])
    return Fleet(RunningUp(voices, directory / "state", workers=WORKERS), weights["one"])


# --- where a rollout stands -----------------------------------------------------------------------------------------

_SIDECAR_STEPS = {
    Step.FETCHING: (RevisionPhase.FETCHING, RevisionPhase.VERIFYING),
    Step.PREPARING: (RevisionPhase.PREPARING,),
    Step.PROVING: (RevisionPhase.PROVING,),
    Step.OFFERING: (RevisionPhase.OFFERING,),
    Step.READY: (RevisionPhase.READY,),
}
_OPERATOR_STEPS = {
    Step.VERIFYING: Phase.VERIFYING,
    Step.CANARY: Phase.CANARY,
    Step.FLIPPING: Phase.FLIPPING,
    Step.WATCHING: Phase.WATCHING,
}


def stands_at(state: StateDocument | None, status: Status, *, target: str) -> str:
    """The furthest step that the rollout of `target` is seen at; empty before it began."""
    if status.stable_revision == target and status.phase is Phase.IDLE:
        return Step.CONFIRMED
    if status.target_revision != target:
        return ""
    if status.phase in _OPERATOR_STEPS.values():
        return str(next(step for step, phase in _OPERATOR_STEPS.items() if phase is status.phase))
    if state is None or CHANGED not in state.voices or target not in state.voices[CHANGED].revisions:
        return ""
    phase = state.voices[CHANGED].revisions[target].phase
    return str(next((step for step, phases in _SIDECAR_STEPS.items() if phase in phases), ""))


async def wait_for(fleet: Fleet, step: Step, *, target: str) -> str:
    """Until the rollout stands at the step or has passed it; returns where it stands.

    Raises
    ------
    BenchFailed
        It does not get there; says what its status says.
    """
    wanted = list(Step).index(step)
    state: StateDocument | None = None
    standing = ""
    try:
        async with asyncio.timeout(STEP_S):
            while True:
                since = state.etag if state is not None else None
                state = await fleet.up.state(since=since, wait_s=0.02) or state
                standing = stands_at(state, fleet.up.status(CHANGED), target=target)
                if standing and list(Step).index(Step(standing)) >= wanted:
                    return standing
    except TimeoutError as error:
        status = fleet.up.status(CHANGED)
        raise BenchFailed(
            f"the rollout did not get to {step} within {STEP_S:.0f} s: it stands at {standing or 'nothing'}; "
            f"the status says {status.phase}: {status.reason} {status.message}"
        ) from error


# --- one case -------------------------------------------------------------------------------------------------------


async def run_case(fleet: Fleet, case: Case) -> None:
    """Roll, wait, kill, wait until all agree."""
    target = await asyncio.to_thread(fleet.roll)
    try:
        case.stood_at = await wait_for(fleet, case.step, target=target)
    except BenchFailed as error:
        case.outcome = str(error)
        return
    pids = [_pid_of(fleet.up, victim) for victim in case.victims]
    case.killed_ns = time.monotonic_ns()
    for pid in pids:
        kill(pid)
    case.gone_ns = await _when_gone(pids)
    difference = "nobody looked"
    try:
        async with asyncio.timeout(CONVERGE_S):
            while difference:
                await asyncio.sleep(0.05)
                difference = await _difference(fleet, target=target, gone=pids)
    except TimeoutError:
        case.outcome = f"not agreed: {difference}"
        return
    case.converged_ns = time.monotonic_ns()
    status = fleet.up.status(CHANGED)
    case.outcome = "promoted" if status.stable_revision == target else f"back: {status.reason}"


async def _when_gone(pids: Sequence[int]) -> int:
    """CLOCK_MONOTONIC ns at which none of the processes is alive any more."""
    async with asyncio.timeout(DIE_S):
        while True:
            if not any(alive(pid) for pid in pids):
                return time.monotonic_ns()
            await asyncio.sleep(0.001)


def _pid_of(up: RunningUp, victim: Victim) -> int:
    match victim:
        case Victim.SIDECAR | Victim.OPERATOR:
            return up.children()[victim.value]
        case Victim.WORKER_1 | Victim.WORKER_2:
            workers = up.worker_pids()
            return workers[0 if victim is Victim.WORKER_1 else -1]


async def _difference(fleet: Fleet, *, target: str, gone: Sequence[int]) -> str:
    """What does not agree yet among YAML, status, pointer and workers; empty when all do."""
    if not fleet.up.all_ready() or any(alive(pid) for pid in gone):
        return "not every process is back"
    status = fleet.up.status(CHANGED)
    ended = status.stable_revision == target or any(each.revision == target for each in status.failed_revisions)
    if status.phase is not Phase.IDLE or not ended:
        return f"the status says {status.phase}: {status.reason} {status.message}"
    state = await fleet.up.state()
    if state is None or CHANGED not in state.voices:
        return "the sidecar does not know the voice"
    voice = state.voices[CHANGED]
    if voice.pointer.active != status.stable_revision or voice.pointer.candidate is not None:
        return f"the pointer says {voice.pointer}, the status {status.stable_revision}"
    if voice.watch is not None:
        return "a watch is open"
    serving = {worker.pid for worker in state.workers if worker.phase == "serving"}
    if len(serving) != WORKERS or serving & set(gone):
        return f"the sidecar lists {state.workers}"
    return ""


def charge(cases: Sequence[Case], records: Sequence[Record]) -> None:
    """Count each unanswered request against the latest kill before it ended."""
    for record in records:
        before = [case for case in cases if 0 < case.killed_ns < record.end_ns]
        if record.ok or not before:
            continue
        before[-1].lost += 1
        before[-1].lost_later += record.start_ns > before[-1].gone_ns + ON_THE_WIRE_NS


# --- all of them ----------------------------------------------------------------------------------------------------


async def measure(
    wanted: Sequence[tuple[Step, tuple[Victim, ...]]], directory: Path, on_case: Callable[[Case], None]
) -> tuple[list[Case], list[Record]]:
    """Run all cases under one load; stops at the first that does not converge (what follows would say nothing)."""
    fleet = prepare(directory)
    cases: list[Case] = []
    try:
        await fleet.up.start()
        await fleet.up.until(
            lambda: all(fleet.up.status(f"default/{name}").stable_revision for name in VOICES),
            within_s=90,
            what="all voices speak",
        )
        host, port = fleet.up.address
        shots = [shot.model_copy(update={"seed": None}) for shot in make_shots([f"default/{name}" for name in VOICES])]
        plan = LoadPlan(host=host, port=port, shots=tuple(shots), pace=OpenLoop(rate_per_s=RATE_PER_S), max_s=3000)
        with LoadProcess(plan, directory=directory, name="load") as load:
            for step, victims in wanted:
                case = Case(step=step, victims=victims)
                cases.append(case)
                await run_case(fleet, case)
                on_case(case)
                if not case.converged:
                    break
            records = await asyncio.to_thread(load.stop)
    finally:
        await fleet.up.stop()
    charge(cases, records)
    return cases, records


def figures_of(cases: Sequence[Case], records: Sequence[Record]) -> dict[str, object]:
    """The report."""
    lost_by: Counter[str] = Counter()
    for case in cases:
        lost_by[case.names] += case.lost_later if case.kills_worker else case.lost
    return {
        "cases": len(cases),
        "lost_by_sidecar_kill": lost_by[Victim.SIDECAR],
        "lost_by_operator_kill": lost_by[Victim.OPERATOR],
        "lost_by_worker_kill_beyond_in_flight": lost_by[Victim.WORKER_1] + lost_by[Victim.WORKER_2],
        "lost_by_several_beyond_in_flight": sum(n for who, n in lost_by.items() if "+" in who),
        "unconverged": sum(not case.converged for case in cases),
        "details": {
            "requests": len(records),
            "failures": failures(records),
            "in_flight_lost_with_workers": sum(case.lost for case in cases if case.kills_worker),
            "table": [_row(case) for case in cases],
        },
    }


def _row(case: Case) -> dict[str, object]:
    return {
        "step": case.step,
        "killed": case.names,
        "stood_at": case.stood_at,
        "outcome": case.outcome,
        "seconds_to_agree": round((case.converged_ns - case.killed_ns) / 1e9, 2) if case.converged else None,
        "lost": case.lost,
        "lost_later": case.lost_later,
    }


def print_cases(cases: Sequence[Case]) -> None:
    """The table of steps."""
    table = Table(title="SIGKILL at each step", title_justify="left", title_style="bold", header_style="dim")
    for column in ("step", "killed", "stood at", "agreed after", "outcome", "lost", "of those asked later"):
        table.add_column(column)
    for case in cases:
        row = _row(case)
        table.add_row(
            *(str(row[key]) for key in ("step", "killed", "stood_at", "seconds_to_agree", "outcome")),
            str(case.lost),
            str(case.lost_later),
        )
    CONSOLE.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("crash", arguments)
    wanted = SHORT_CASES if options.short else FULL_CASES
    measured_in = environment()
    directory = Path(tempfile.mkdtemp(prefix="segue-bench-crash-"))

    def on_case(case: Case) -> None:
        tell(f"{case.names} at {case.step} (stood at {case.stood_at}): {case.outcome}")

    try:
        cases, records = asyncio.run(measure(wanted, directory, on_case))
    finally:
        rmtree(directory, ignore_errors=True)
    figures = figures_of(cases, records)
    write_report(options.out / "crash.json", figures, measured_in)
    print_cases(cases)
    names = (
        "lost_by_sidecar_kill",
        "lost_by_operator_kill",
        "lost_by_worker_kill_beyond_in_flight",
        "lost_by_several_beyond_in_flight",
        "unconverged",
    )
    lines = [
        at_least("cases", len(cases), len(wanted)),
        *(at_most(name.replace("_", " "), int(str(figures[name])), 0) for name in names),
        note("requests", f"{len(records):,}"),
    ]
    return 0 if print_lines("crash", lines, short=options.short) else 1


if __name__ == "__main__":
    sys.exit(main())

"""How close to one instant many pods flip, though each has a clock of its own.

Separate from the fleet bench because here the sidecars' side is the real one: 200 pages, each behind the sidecar's
command code and its control API over TLS, in four processes whose clocks are up to five seconds wrong
(`bench/simulated/pages.py`). The operator's side is the real `SidecarFleet`: it learns each clock from the answers it
gets anyway, names the instant in it, and arms. What is taken is when each sidecar says that it stored the word, with
the shift of its clock, which the bench knows, taken off. The 200 share the machine's cores, as pods of a cluster do
not: the spread contains the time that they wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.simulated.cluster import document_of
from bench.simulated.lines import Process
from bench.simulated.pages import REVISIONS, VOICE, VOICE_UID
from bench.table import tell
from segue.errors import SegueError
from segue.model import VoiceModel
from segue.rollout import Event, PodFacts, SetPointer
from segue.tls import OPERATOR_NAME, Authority, sidecar_name
from segue.wire import ArmedOutcome, Expected, Fence
from segue_operator.fleet.dialing import Dialer
from segue_operator.fleet.listening import Latest
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.fleet.sidecars import SidecarFleet

PAGES = 200
PROCESSES = 4
WORST_CLOCK_NS = 5_000_000_000
LEAD = timedelta(seconds=2)
SETTLES_S = 1.0
FLEET = FleetKey(namespace="default", name="default")


class TogetherFailed(SegueError):
    """The pages did not come up."""


@dataclass(slots=True, kw_only=True)
class _Leader:
    """The fleet, and what its pods say.

    Attributes
    ----------
    shifts_ns
        By uid: what the bench set each clock wrong by.
    """

    fleet: SidecarFleet
    latest: Latest
    voice: VoiceModel
    shifts_ns: dict[str, int]
    term: int
    sequence: int = 0
    on_arrival: int = 0

    def heard(self, _voice: str | None, event: Event) -> None:
        """Pods whose clock is not known well enough flip when they are told."""
        self.on_arrival += event.reason == "FlipsOnArrival"

    def next_fence(self) -> Fence:
        """The next one."""
        self.sequence += 1
        return Fence(self.term, self.sequence)


async def measure_together(*, flips: int) -> dict[str, Any]:
    """Flip to and fro; milliseconds between the first page and each of the others, over all flips."""
    behind_ms: list[float] = []
    off_ms: list[float] = []
    missed = 0
    async with _leader() as leader:
        await _look(leader, lambda: all(pod.identity is not None for pod in leader.fleet.pods.values()))
        for index in range(flips):
            at = datetime.now(UTC) + LEAD
            stored_ns = await _flip(leader, at, to=REVISIONS[(index + 1) % 2], was=REVISIONS[index % 2])
            missed += PAGES - len(stored_ns)
            first_ns = min(stored_ns, default=0)
            behind_ms += [(each - first_ns) / 1e6 for each in stored_ns]
            off_ms += [each / 1e6 - at.timestamp() * 1e3 for each in stored_ns]
    tell(f"together: {flips} flips of {PAGES} pages, spread p99 {_percentile(behind_ms, 99):.1f} ms")
    return {
        "pages": PAGES,
        "flips": flips,
        "worst_clock_s": WORST_CLOCK_NS / 1e9,
        "p50": _percentile(behind_ms, 50),
        "p99": _percentile(behind_ms, 99),
        "max": max(behind_ms, default=math.inf),
        "earliest_to_instant": min(off_ms, default=math.inf),
        "latest_to_instant": max(off_ms, default=math.inf),
        "missed": missed,
        "on_arrival": leader.on_arrival,
    }


async def _flip(leader: _Leader, at: datetime, *, to: str, was: str) -> list[int]:
    """Arm every page and wait; when each stored the word, by the one true clock, in nanoseconds."""
    uids = tuple(leader.fleet.pods)
    command = SetPointer(pods=uids, active=to, expected=Expected(active=was), at=at)
    sends = [leader.fleet.send(command, uid, voice=leader.voice, next_fence=leader.next_fence) for uid in uids]
    fences = {uid: str(fence) for uid, fence in zip(uids, await asyncio.gather(*sends), strict=True)}
    await asyncio.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()) + SETTLES_S)
    with contextlib.suppress(TogetherFailed):
        await _look(leader, lambda: all(_stored(leader, uid, fences[uid]) is not None for uid in uids), within_s=5)
    stored = (_stored(leader, uid, fences[uid]) for uid in uids)
    return [each for each in stored if each is not None]


def _stored(leader: _Leader, uid: str, fence: str) -> int | None:
    state = leader.latest.states.get(uid)
    outcome: ArmedOutcome | None = state.voices[VOICE].armed_outcome if state is not None else None
    if outcome is None or outcome.fence != fence or outcome.stored_ns is None:
        return None
    return outcome.stored_ns - leader.shifts_ns[uid]


async def _look(leader: _Leader, condition: Any, *, within_s: float = 60.0) -> None:
    """Keep observing, as the loop does, until it is so."""
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            raise TogetherFailed(f"not within {within_s:g} s")
        await leader.fleet.observe(leader.voice, evidence=False)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _leader() -> AsyncIterator[_Leader]:
    document = document_of(VOICE, version=1, tier="hot")
    document["metadata"]["uid"] = VOICE_UID
    latest, term = Latest(), int(time.time())
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-together-")))
        operator = _certificates(directory)
        records, shifts_ns = await _pages(directory, stack)
        fleet = SidecarFleet(
            select=lambda _voice: FLEET, connect=Dialer(operator).connect, term=lambda: term, listener=latest
        )
        fleet.update(records)
        fleet.follow(VOICE, closely=True)
        polling = asyncio.create_task(fleet.run())
        try:
            voice = VoiceModel.parse(document)
            leader = _Leader(fleet=fleet, latest=latest, voice=voice, shifts_ns=shifts_ns, term=term)
            fleet.report = leader.heard
            yield leader
        finally:
            polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await polling


def _certificates(directory: Path) -> Any:
    authority = Authority.create(directory / "ca")
    authority.issue(
        sidecar_name(fleet=FLEET.name, namespace=FLEET.namespace), server=True, directory=directory / "sidecar"
    )
    return authority.issue(OPERATOR_NAME, server=False, directory=directory / "operator")


async def _pages(directory: Path, stack: contextlib.AsyncExitStack) -> tuple[list[PodRecord], dict[str, int]]:
    """All pages, each process with a clock of its own; records and shifts by uid."""
    records: list[PodRecord] = []
    shifts_ns: dict[str, int] = {}
    for number in range(PROCESSES):
        shift_ns = round(WORST_CLOCK_NS * (2 * number / (PROCESSES - 1) - 1))
        pods = [
            {
                "uid": f"page-{number}-{index}",
                "name": f"page-{number}-{index}",
                "address": f"127.9.{number}.{index + 1}",
            }
            for index in range(PAGES // PROCESSES)
        ]
        process = await stack.enter_async_context(
            Process("bench.simulated.pages", log=directory / f"pages-{number}.log")
        )
        description = {
            "shiftNs": shift_ns,
            "directory": str(directory / "state"),
            "tls": str(directory / "sidecar"),
            "pods": pods,
        }
        answer = await process.ask(description)
        for pod, url in zip(pods, answer["urls"], strict=True):
            facts = PodFacts(uid=pod["uid"], name=pod["name"], created_at=datetime.now(UTC))
            records.append(PodRecord(facts=facts, fleet=FLEET, url=url))
            shifts_ns[pod["uid"]] = shift_ns
    return records, shifts_ns


def _percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.inf

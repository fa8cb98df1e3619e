"""The operator under measurement: the real controller and the real fleet adapter, over a cluster in memory.

`python -m bench.simulated.leader`, a JSON description on its stdin; from then on a line in, a line out. Separate as a
process, so that its memory and its CPU are read from outside. What the Kubernetes adapter imports is imported here as
well where it is installed: it is a part of what a real operator weighs.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.simulated.cluster import MemoryCluster
from bench.simulated.lines import read_lines
from segue.garbage import settle_garbage
from segue.rollout import Event, PodFacts
from segue.tls import KeyPairFiles
from segue.wire import Fence
from segue_operator.clock import SystemClock
from segue_operator.controller import Controller
from segue_operator.fleet.dialing import Dialer
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.leader import FileFences
from segue_operator.logs import configure_logging
from segue_operator.slots import SlotBook

FLEET = FleetKey(namespace="segue-bench", name="simulated")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Heard:
    """Events, counted."""

    counts: dict[str, int] = field(default_factory=dict)

    def publish(self, voice: str | None, event: Event) -> None:
        """See `ports.Events`."""
        self.counts[event.reason] = self.counts.get(event.reason, 0) + 1


class Operator:
    """Everything that leads."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.cluster, self.heard = MemoryCluster(), Heard()
        fences = FileFences(Path(description["state"]) / "leader.json")
        fences.raise_term(above=Fence(1, 1).term)
        dialer = Dialer(KeyPairFiles.of(Path(description["tls"])))
        self.fleet = SidecarFleet(
            select=lambda _voice: FLEET,
            connect=dialer.connect,
            lull=dialer.lull,
            term=lambda: fences.term,
            report=self.heard.publish,
            idle_poll_s=description["idlePollS"],
        )
        self.controller = Controller(
            cluster=self.cluster,
            fleet=self.fleet,
            clock=SystemClock(),
            events=self.heard,
            fences=fences,
            slots=SlotBook(10),
        )
        self.fleet.on_change = self.controller.wake
        for key, tier in description["voices"]:
            self.cluster.seed(key, tier=tier)
        self._port = description["port"]
        self.fleet.update([self._record(pod) for pod in description["pods"]])

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """`{"change": [KEY, …]}`, or anything for the counts."""
        changed = {}
        for key in question.get("change", ()):
            began_ns = time.monotonic_ns()
            changed[key] = [began_ns, self.cluster.change(key)]
        if changed:
            return {"changed": changed}
        return {
            "inReach": sum(pod.identity is not None for pod in self.fleet.pods.values()),
            "requests": self.cluster.requests,
            "flipping": self.cluster.flipping_ns,
            "phases": {key: phase.value for key, phase in self.cluster.phases.items()},
            "events": self.heard.counts,
        }

    async def run(self) -> None:
        """Lead until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fleet.run(), name="fleet")
            group.create_task(self.controller.run(), name="controller")

    def _record(self, pod: dict[str, str]) -> PodRecord:
        facts = PodFacts(uid=pod["uid"], name=pod["name"], created_at=LONG_AGO, ready_since=LONG_AGO)
        return PodRecord(facts=facts, fleet=FLEET, url=f"https://{pod['address']}:{self._port}")


async def lead() -> None:
    """Until stdin ends."""
    lines = read_lines(sys.stdin)
    operator = Operator(json.loads(await anext(lines)))
    working = asyncio.create_task(operator.run())
    print(json.dumps({"started": True}), flush=True)
    async for line in lines:
        if working.done():
            break
        print(json.dumps(operator.answer(json.loads(line))), flush=True)
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


if __name__ == "__main__":
    with suppress(ModuleNotFoundError):
        importlib.import_module("segue_operator.kubernetes.run")
    configure_logging("json")
    settle_garbage()
    asyncio.run(lead())

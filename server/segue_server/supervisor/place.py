"""One place among the workers, always filled: started again when its worker dies, refilled before it is replaced."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable

from segue.memory.handoff import Backoff
from segue_server.supervisor.child import Child, Orders

LIVED_LONG_S = 30.0
SUCCESSOR_PATIENCE_S = 60.0
SILENT_FOR_S = 30.0
"""A loop that does not turn for so long will not turn again."""

_BACKOFF = Backoff(first_s=0.1, most_s=10.0)

log = logging.getLogger(__name__)


class Place:
    """Keeps one worker running."""

    def __init__(
        self,
        name: str,
        *,
        orders: Orders,
        drain_s: float,
        changed: Callable[[], None],
        buried: Callable[[Child], None],
    ) -> None:
        """`changed` is called when anything is new, `buried` with each child that died, before it is closed."""
        self.name = name
        self.children: list[Child] = []
        self.restarts = 0
        self._orders = orders
        self._drain_s = drain_s
        self._changed = changed
        self._buried = buried
        self._generation = 0
        self._stopping = False
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Child | None:
        """Who fills the place now."""
        return self.children[-1] if self.children else None

    async def keep(self) -> None:
        """Fill the place until `stop`."""
        failures = 0
        while not self._stopping:
            child = await self._start()
            replaced = await self._until_over(child)
            if replaced or self._stopping:
                failures = 0
                continue
            self.restarts += 1
            failures = 0 if time.monotonic() - child.started_s > LIVED_LONG_S else failures + 1
            delay_s = _BACKOFF.delay_s(failures)
            log.warning("worker %s is started again in %.1f s", self.name, delay_s)
            await asyncio.sleep(delay_s)

    async def stop(self) -> None:
        """Drain whoever is there."""
        self._stopping = True
        await asyncio.gather(*(self._end(child, signal.SIGTERM) for child in list(self.children)))

    async def _start(self) -> Child:
        self._generation += 1
        # The sidecar takes a second worker of one name for the first one's successor: dead.
        name = f"{self.name}-{self._generation}" if self.children else self.name
        child = Child(name, self._generation, changed=self._changed)
        self.children.append(child)
        await child.start(self._orders)
        log.info("worker %s started: pid %d", self.name, child.pid)
        return child

    async def _until_over(self, child: Child) -> bool:
        """Until the child died (False), or its successor should be started because it asked for one (True)."""
        death = asyncio.create_task(child.wait())
        while not death.done():
            await asyncio.wait((death,), timeout=0.2)
            if child.report.replace and not self._stopping and not death.done():
                log.warning("worker %s (pid %d) is replaced: %s", self.name, child.pid, child.report.replace)
                self._replace(child, death)
                return True
            self._kill_if_silent(child)
        self._bury(child, death.result())
        return False

    def _replace(self, child: Child, death: asyncio.Task[int]) -> None:
        task = asyncio.create_task(self._leave_after_successor(child, death))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave_after_successor(self, child: Child, death: asyncio.Task[int]) -> None:
        """Its successor is being started: let this one go when that one is ready, or when it takes too long."""
        deadline_s = time.monotonic() + SUCCESSOR_PATIENCE_S
        while time.monotonic() < deadline_s and not death.done() and not self._stopping:
            successor = self.current
            if successor is not None and successor is not child and successor.ready:
                break
            await asyncio.sleep(0.05)
        if not death.done():
            await self._end(child, signal.SIGUSR1)
        self._bury(child, await death)

    async def _end(self, child: Child, number: signal.Signals) -> None:
        await child.end(number, within_s=self._drain_s + 5.0)

    def _kill_if_silent(self, child: Child) -> None:
        stats = child.stats
        if stats is None:
            return
        silent_s = (time.monotonic_ns() - stats.worker().heartbeat_ns) / 1e9
        if silent_s > SILENT_FOR_S:
            log.error("worker %s (pid %d) has been silent for %.0f s: killed", self.name, child.pid, silent_s)
            child.send(signal.SIGKILL)

    def _bury(self, child: Child, status: int) -> None:
        if child not in self.children:
            return
        self.children.remove(child)
        level = logging.INFO if status == 0 else logging.ERROR
        log.log(level, "worker %s (pid %d) ended with status %d", self.name, child.pid, status)
        self._buried(child)
        child.close()
        self._changed()

"""The server's workers: who is there, what each can speak with, and talking to them.

A worker is *joining* until it is ready for every handle that a word names, then *serving*. One that was serving when
the sidecar (or its connection) was lost still answers listeners, so it counts for every store from its first message
on: it is *live*. One whose connection is lost and that is not known to be dead is *lost*: it still maps and serves,
so its memory stays counted, but no store waits for it (it falls back to the last word that it could resolve).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from segue.errors import HandoffError
from segue.memory.handoff import Connection, ConnectionLost
from segue.memory.messages import FromSidecar, Hello
from segue.memory.stats_reader import StatsReader

logger = logging.getLogger(__name__)

_SILENT_AFTER_S = 10.0


class WorkerPhase(StrEnum):
    """Where a worker stands. The state shows `lost` as `stuck`: both need somebody to look at them."""

    JOINING = "joining"
    SERVING = "serving"
    STUCK = "stuck"
    LOST = "lost"


@dataclass(slots=True)
class Worker:
    """One worker process.

    Attributes
    ----------
    live
        It answers listeners: a store must not name a handle that it is not ready for.
    offered
        Handle to when it was offered (monotonic seconds), for those that it has not answered yet.
    ready
        Handles that it resolves.
    held
        Handles that it said it maps when it introduced itself, and has not answered for since.
    retiring
        Handles that it was told to let go and has not let go yet.
    """

    id: str
    pid: int
    started: int
    generation: int
    connection: Connection
    stats: StatsReader
    phase: WorkerPhase = WorkerPhase.JOINING
    live: bool = False
    offered: dict[int, float] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    retiring: set[int] = field(default_factory=set)

    @property
    def holds(self) -> set[int]:
        """Handles whose memory it may map."""
        return self.ready | self.held | self.retiring | set(self.offered)

    def send(self, message: FromSidecar, fds: Iterable[int] = ()) -> bool:
        """Send or queue; takes `fds` over. False: it is gone, or was disconnected for not reading."""
        try:
            self.connection.send(message, tuple(fds))
        except ConnectionLost:
            return False
        except HandoffError:
            logger.exception("a message for worker %s could not be sent", self.id)
            return False
        return True


class Roster:
    """All workers by the name of their place."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker: str) -> Worker | None:
        """The worker at this place."""
        return self._workers.get(worker)

    def add(self, worker: Worker) -> None:
        """Put a worker at its place."""
        self._workers[worker.id] = worker

    def remove(self, worker: Worker) -> None:
        """Take it away; another one at its place stays."""
        if self._workers.get(worker.id) is worker:
            del self._workers[worker.id]

    def connected(self) -> list[Worker]:
        """Those that we can talk to."""
        return [worker for worker in self if not worker.connection.closed]

    def live(self) -> list[Worker]:
        """Those that we can talk to and that answer listeners: what a store waits for."""
        return [worker for worker in self.connected() if worker.live]

    def holders(self, handle: int) -> list[Worker]:
        """Those that may map this revision."""
        return [worker for worker in self if handle in worker.holds]


def make_worker(hello: Hello, connection: Connection, stats: StatsReader) -> Worker:
    """A worker as it introduced itself. The pid is the kernel's, where the kernel can see it."""
    pid = connection.peer.pid
    return Worker(
        id=hello.worker,
        pid=pid or hello.pid,
        started=start_ticks(pid) if pid else 0,
        generation=hello.generation,
        connection=connection,
        stats=stats,
        live=hello.serving,
    )


def is_alive(pid: int, *, started: int) -> bool:
    """Whether this very process still runs; a zombie does not."""
    return started != 0 and start_ticks(pid) == started


def may_live(pid: int, *, started: int) -> bool:
    """Whether this process may still run: it does, or its pid cannot be seen (another pid namespace)."""
    return started == 0 or is_alive(pid, started=started)


def is_dead(worker: Worker, *, now_ns: int | None = None) -> bool:
    """Whether a worker whose connection is lost is gone for good.

    Where its pid cannot be seen (another pid namespace), a stats page that nobody beat for 10 s says so.
    """
    if worker.started:
        return not is_alive(worker.pid, started=worker.started)
    now_ns = time.monotonic_ns() if now_ns is None else now_ns
    return (now_ns - worker.stats.worker().heartbeat_ns) / 1e9 > _SILENT_AFTER_S


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 where there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])

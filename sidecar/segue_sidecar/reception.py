"""The door for workers: hears them out, keeps the roster, passes on what they say.

A worker that breaks the protocol is disconnected, with an event that says how; it may come back. Its memory counts as
held until it says otherwise or is dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from segue.errors import HandoffError, MemoryError_
from segue.memory.adoption import Introduction, receive_introduction
from segue.memory.handoff import Connection, ConnectionLost, HandoffListener
from segue.memory.messages import (
    Bye,
    Failed,
    Ready,
    Retired,
    Stuck,
    Want,
)
from segue.memory.stats_reader import StatsReader
from segue_sidecar.books import Books
from segue_sidecar.evidence import Evidence
from segue_sidecar.handover import Handover
from segue_sidecar.recovery import Recovery
from segue_sidecar.tiers.rising import Rising
from segue_sidecar.workers import Roster, Worker, WorkerPhase, is_dead, make_worker

logger = logging.getLogger(__name__)

_INTRODUCTION_S = 10.0


class Reception:
    """Accepts workers for as long as the sidecar runs."""

    def __init__(
        self,
        *,
        listener: HandoffListener,
        books: Books,
        handover: Handover,
        roster: Roster,
        evidence: Evidence,
        recovery: Recovery,
        rising: Rising,
        on_change: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._books = books
        self._handover = handover
        self._roster = roster
        self._evidence = evidence
        self._recovery = recovery
        self._rising = rising
        self._on_change = on_change

    async def run(self) -> None:
        """Accept until cancelled; each worker has a task of its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                connection = await self._listener.accept()
                group.create_task(self._attend(connection), name=f"worker pid {connection.peer.pid}")

    def bury_the_dead(self) -> None:
        """Once a second: of those whose connection is lost, who is really gone?"""
        for worker in self._roster:
            if worker.connection.closed and is_dead(worker):
                self._bury(worker)

    def hung(self, *, now_s: float, deadline_s: float) -> list[tuple[Worker, int]]:
        """Who has not answered which offer for longer than `deadline_s`."""
        return [
            (worker, handle)
            for worker in self._roster.connected()
            for handle, offered_s in worker.offered.items()
            if now_s - offered_s > deadline_s
        ]

    async def _attend(self, connection: Connection) -> None:
        """One worker, from its first word to its last. Nothing that it does may end the sidecar."""
        worker: Worker | None = None
        try:
            worker = await self._register(connection)
            while True:
                with await connection.receive() as received:
                    self._hear(worker, received.message)
        except ConnectionLost as error:
            logger.info("worker %s: %s", worker.id if worker else connection.peer.pid, error)
        except (HandoffError, MemoryError_) as error:
            name = worker.id if worker else f"pid {connection.peer.pid}"
            self._books.event("WorkerTalkedNonsense", f"worker {name} was disconnected: {error}", warning=True)
        except Exception:  # a worker's boundary: a mistake of ours in hearing one must not end the others
            logger.exception("worker %s was disconnected", worker.id if worker else connection.peer.pid)
        finally:
            connection.close()
            if worker is not None:
                self._part_from(worker)

    async def _register(self, connection: Connection) -> Worker:
        with await receive_introduction(connection, timeout_s=_INTRODUCTION_S) as introduction:
            worker = self._make(introduction, connection)
            try:
                self._take_place(worker)
                self._recovery.heard(worker, introduction)
            except BaseException:
                self._roster.remove(worker)
                worker.stats.close()
                raise
            page_id = introduction.hello.page_id
        await self._recovery.settled.wait()
        await self._handover.welcome(worker, page_id=page_id)
        self._on_change()
        return worker

    def _make(self, introduction: Introduction, connection: Connection) -> Worker:
        fd = introduction.take_stats()
        try:
            return make_worker(introduction.hello, connection, StatsReader(fd))
        finally:
            os.close(fd)

    def _take_place(self, worker: Worker) -> None:
        """Put the worker at its place; whoever was there is dead, or the same process under an older connection."""
        before = self._roster.get(worker.id)
        if before is not None:
            before.connection.close()
            if _incarnation(before) != _incarnation(worker):
                self._bury(before)
            else:
                before.stats.close()
        self._roster.add(worker)
        self._evidence.meet(worker)
        self._books.record_worker(worker.id, pid=worker.pid, started=worker.started)
        self._books.touch()

    def _hear(self, worker: Worker, message: object) -> None:
        match message:
            case Ready():
                # Its row counts again from before this message on, and what looked meanwhile found it closed.
                self._evidence.reopen(message.handle)
                self._handover.answered_ready(worker, message.handle)
            case Failed():
                self._handover.answered_failed(worker, message.handle, reason=message.reason, message=message.message)
            case Retired():
                self._handover.answered_retired(worker, message.handle)
            case Stuck():
                worker.phase = WorkerPhase.STUCK
                self._books.event(
                    "WorkerStuck",
                    f"worker {worker.id} cannot let handle {message.handle} go: {message.message}",
                    warning=True,
                )
            case Want():
                self._rising.want(worker, message.voice)
            case Bye():
                worker.live = False
                self._books.touch()
            case _:
                raise HandoffError(f"{type(message).__name__} is not what a worker says once it is introduced")
        self._on_change()

    def _part_from(self, worker: Worker) -> None:
        if self._roster.get(worker.id) is not worker:
            return
        worker.phase = WorkerPhase.LOST
        self._handover.part_from(worker)
        if is_dead(worker):
            self._bury(worker)
        self._on_change()

    def _bury(self, worker: Worker) -> None:
        lost = self._evidence.bury(worker)
        for (voice, revision), count in lost.items():
            logger.warning("worker %s died with %d requests of %s %s open", worker.id, count, voice, revision[:10])
        self._books.event(
            "WorkerDied",
            f"worker {worker.id} (pid {worker.pid}) died with {sum(lost.values())} requests open",
            warning=True,
        )
        self._handover.bury(worker, lost)
        self._books.forget_worker(worker.id)
        worker.stats.close()
        self._on_change()


def _incarnation(worker: Worker) -> tuple[int, int, int]:
    """Tells two processes at one place apart, also where their pids mean nothing here and may well be the same."""
    return worker.pid, worker.started, worker.generation

"""The worker's end of the hand-off: hears what the sidecar says, does it, and answers.

Separate from the roster because it comes and goes: a sidecar that dies takes the connection with it and nothing else.
Whatever is mapped stays mapped and goes on serving; the link tries again with back-off, says hello, and gives the next
sidecar everything back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.errors import HandoffError, SegueError
from segue.memory import memfd
from segue.memory.adoption import introduce
from segue.memory.handoff import Backoff, Connection, ConnectionLost, Received, connect_patiently
from segue.memory.messages import (
    Bye,
    Failed,
    Forget,
    FromWorker,
    Hello,
    Offer,
    Page,
    Purge,
    Ready,
    Retire,
    Retired,
    RevisionRef,
    Serve,
    Stuck,
    Unavailable,
    Voice,
    VoiceName,
    Want,
)
from segue.memory.stats import StatsPage
from segue.memory.stats_layout import WorkerCell, WorkerState
from segue_server.revisions.builder import Builder, BuildFailed
from segue_server.revisions.resident import Resident
from segue_server.revisions.roster import Roster
from segue_server.synthesis.engine_thread import EngineThread

MESSAGE_CHARS = 1500
_AGAIN_AFTER_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvents:
    """Whom the link tells.

    Attributes
    ----------
    changed
        Serving, or able to speak with other revisions than before.
    purge
        A revision (digest) failed: forget what it said.
    replace
        This worker cannot go on like this and should be drained and replaced; with the reason.
    """

    changed: Callable[[], None]
    purge: Callable[[str], None]
    replace: Callable[[str], None]


class SidecarLink:
    """Keeps the connection to whatever sidecar there is."""

    def __init__(
        self,
        path: Path,
        *,
        worker: str,
        generation: int,
        roster: Roster,
        builder: Builder,
        engine: EngineThread,
        stats: StatsPage,
        events: LinkEvents,
    ) -> None:
        """Connect to the socket at `path` as `worker`, the `generation`-th to fill that place."""
        self._path = path
        self._worker = worker
        self._generation = generation
        self._roster = roster
        self._builder = builder
        self._engine = engine
        self._stats = stats
        self._events = events
        self._connection: Connection | None = None
        self._work: dict[int, asyncio.Task[None]] = {}
        self._wants: dict[VoiceName, asyncio.Future[Unavailable]] = {}
        self._detached = False

    async def run(self) -> None:
        """Connect, listen, and do it again. Cancel it to stop."""
        attempt = 0
        while not self._detached:
            began_s = time.monotonic()
            try:
                await self._one_connection()
            except SegueError as error:
                log.warning("lost the sidecar: %s; serving on without", error)
            attempt = 0 if time.monotonic() - began_s > 1.0 else attempt + 1
            self._stats.count(WorkerCell.RECONNECTS)
            await asyncio.sleep(Backoff(first_s=_AGAIN_AFTER_S).delay_s(attempt))

    def bye(self, reason: str) -> None:
        """Say that this worker drains; it listens on, but will not join again."""
        self._detached = True
        self._send(Bye(reason=reason))

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._detached = True
        if self._connection is not None:
            self._connection.close()
        for task in self._work.values():
            task.cancel()

    async def refused(self, voice: VoiceName) -> Unavailable:
        """Ask for a cold voice, and wait until the sidecar says that it cannot be had; cancel when it came up."""
        waiter = self._wants.get(voice)
        if waiter is None:
            waiter = self._wants[voice] = asyncio.get_running_loop().create_future()
            self._send(Want(voice=voice))
        try:
            return await asyncio.shield(waiter)
        finally:
            if self._wants.get(voice) is waiter:
                del self._wants[voice]

    # --- the connection ---------------------------------------------------------------------------------------------

    async def _one_connection(self) -> None:
        connection = await connect_patiently(self._path)
        self._connection = connection
        try:
            await self._settle()
            await self._introduce(connection)
            pid = connection.peer.pid  # 0 where it is in another container, whose processes we cannot see
            log.info("joined the sidecar (%s)", f"pid {pid}" if pid else "in another container")
            while True:
                with await connection.receive() as received:
                    self._hear(received)
        finally:
            self._connection = None
            connection.close()

    async def _settle(self) -> None:
        """Let builds and farewells end, so that what is told about holdings is all there is."""
        building = [task for handle, task in self._work.items() if self._roster.resident(handle) is None]
        if building:
            await asyncio.wait(building, timeout=10.0)

    async def _introduce(self, connection: Connection) -> None:
        holdings = self._roster.held()
        page_id = self._roster.page_id
        fds = [self._stats.export()]
        if page_id:
            fds.append(self._roster.page_descriptor())
        hello = Hello(
            worker=self._worker,
            pid=os.getpid(),
            generation=self._generation,
            page_id=page_id,
            holding=len(holdings),
            serving=self._roster.serving,
        )
        await introduce(connection, hello, fds=fds, holdings=holdings)

    def _send(self, message: FromWorker) -> None:
        """Send if there is somebody; a sidecar that is not there will ask again."""
        if self._connection is None:
            return
        with contextlib.suppress(ConnectionLost):
            self._connection.send(message)

    def _hear(self, received: Received) -> None:
        message = received.message
        match message:
            case Page():
                self._on_page(message, received)
            case Voice():
                self._roster.describe(message)
            case Forget():
                self._roster.forget(message.slot)
            case Offer():
                self._on_offer(message.offered, received)
            case Serve():
                self._roster.serving = True
                self._stats.set_state(WorkerState.SERVING)
                self._events.changed()
            case Retire():
                self._start(message.handle, self._retire(message.handle))
            case Purge():
                self._on_purge(message.handle)
            case Unavailable():
                waiter = self._wants.pop(message.voice, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(message)
            case _:
                raise HandoffError(f"the sidecar sent {message.kind!r}, which only workers say")

    def _on_page(self, message: Page, received: Received) -> None:
        if message.page_id == self._roster.page_id:
            return
        if self._roster.page_id:
            # Handles mean other revisions there. A fresh process joins the new page while this one drains.
            self._detached = True
            self._events.replace("the sidecar came back with another pointer page")
            raise HandoffError("the sidecar came back with another pointer page")
        (fd,) = received.take()
        self._roster.set_page(fd)
        self._stats.set_state(WorkerState.JOINING)

    def _on_offer(self, ref: RevisionRef, received: Received) -> None:
        resident = self._roster.resident(ref.handle)
        if resident is not None and resident.ref.revision == ref.revision:
            self._send(Ready(handle=ref.handle))
            return
        if ref.handle in self._work and self._roster.resident(ref.handle) is None:
            log.info("revision %s is being built or let go; the new offer waits", ref.revision[:10])
        self._start(ref.handle, self._take_on(ref, received.take()))

    def _on_purge(self, handle: int) -> None:
        resident = self._roster.resident(handle)
        if resident is not None:
            self._events.purge(resident.ref.revision)

    # --- what takes time --------------------------------------------------------------------------------------------

    def _start(self, handle: int, work: Coroutine[Any, Any, None]) -> None:
        """Do things about one handle in the order in which they were said."""
        task = asyncio.create_task(self._after(self._work.get(handle), work))
        self._work[handle] = task
        task.add_done_callback(lambda done: self._forget_work(handle, done))

    async def _after(self, before: asyncio.Task[None] | None, work: Coroutine[Any, Any, None]) -> None:
        if before is not None:
            await asyncio.wait([before])
        await work

    def _forget_work(self, handle: int, task: asyncio.Task[None]) -> None:
        if self._work.get(handle) is task:
            del self._work[handle]
        if not task.cancelled() and task.exception() is not None:
            log.error("handling revision handle %d failed", handle, exc_info=task.exception())

    async def _take_on(self, ref: RevisionRef, fds: list[int]) -> None:
        if self._roster.resident(ref.handle) is not None:
            memfd.close_all(fds)
            self._send(Ready(handle=ref.handle))
            return
        began_s = time.monotonic()
        try:
            built = await self._builder.build(ref, fds)
        except BuildFailed as error:
            self._send(Failed(handle=ref.handle, reason="BuildFailed", message=str(error)[:MESSAGE_CHARS]))
            return
        if built.synthesizer is None:
            raise AssertionError("Builder.build returned without a synthesizer")
        resident = Resident(
            ref,
            synthesizer=built.synthesizer,
            parts=built.parts,
            engine_build=built.engine_build,
            stats=self._stats.row(ref.handle),
        )
        self._roster.add(resident)
        self._events.changed()
        build_ms = (time.monotonic() - began_s) * 1e3
        log.info("ready for revision %s of %s (%d) after %.0f ms", ref.revision[:10], ref.voice, ref.handle, build_ms)
        self._send(Ready(handle=ref.handle, build_ms=build_ms))

    async def _retire(self, handle: int) -> None:
        resident = self._roster.withdraw(handle)
        if resident is not None:
            await resident.let_go(self._engine.dispose, on_stuck=lambda reason: self._on_stuck(handle, reason))
            self._roster.gone(handle)
            self._stats.retire_row(handle)
            self._events.purge(resident.ref.revision)
            self._events.changed()
            log.info("let revision %s of %s go", resident.ref.revision[:10], resident.ref.voice)
        self._send(Retired(handle=handle))

    def _on_stuck(self, handle: int, reason: str) -> None:
        self._send(Stuck(handle=handle, message=reason[:MESSAGE_CHARS]))
        self._events.replace(f"revision handle {handle} cannot be unmapped: {reason}")

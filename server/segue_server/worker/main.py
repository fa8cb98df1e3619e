"""A worker, put together: who knows whom, and in what order things begin and end.

Separate from its parts so that none of them knows the process. The order of the end matters: accept no more, let the
sidecar know, let what is under way finish, close what is idle, then stop the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from segue.engine import Device
from segue.memory.mapped_once import MapOnce
from segue.memory.stats import StatsPage
from segue.memory.stats_layout import WorkerState
from segue.tracing import make_tracing
from segue_server.api.acceptor import Acceptor
from segue_server.api.app import Counted, make_app
from segue_server.api.keys import LOOK_EVERY_S, KeyRing
from segue_server.api.protocol import BoundedProtocol
from segue_server.api.speech import SpeechApi
from segue_server.channel import Report
from segue_server.config import ServerConfig, load_config
from segue_server.logs import LogFormat, configure_logging
from segue_server.revisions.builder import Builder
from segue_server.revisions.link import LinkEvents, SidecarLink
from segue_server.revisions.roster import Roster
from segue_server.synthesis.cache import ResultCache
from segue_server.synthesis.cold import ColdStart
from segue_server.synthesis.desk import Desk
from segue_server.synthesis.engine_thread import EngineThread
from segue_server.synthesis.measuring import MeasuringRoom
from segue_server.synthesis.recordings import Shelf
from segue_server.synthesis.studio import Backlog, Studio
from segue_server.worker.engines import EngineFinder
from segue_server.worker.memory import worker_memory

SWITCH_INTERVAL_S = 0.0005
"""How long the engine's Python code may keep the loop waiting; CPython's default of 5 ms would be most of a request."""

BEAT_S = 0.2
JOIN_S = 10.0
"""How long a replacement leaves all connections to the others while it joins; then it answers 503 itself."""
GRACE_S = 0.25
"""How long idle connections of a worker that stops may still send what is on its way."""
POLITE_GRACE_S = 10.0
"""The same for a worker that is replaced: clients get a `Connection: close` with their next answer."""
HESITATE_S = 0.00025
MOST_HESITATIONS = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What the supervisor gave this process: its place's name, how often it was filled, and descriptors."""

    name: str
    generation: int
    listen_fd: int
    stats_fd: int
    channel_fd: int


class Worker:
    """All parts of one worker. Make it inside a running loop."""

    def __init__(self, config: ServerConfig, inheritance: Inheritance) -> None:
        self._config = config
        self._inheritance = inheritance
        self._stats = StatsPage(inheritance.stats_fd, generation=inheritance.generation)
        self._roster = Roster()
        self._engine = EngineThread(max_rows=config.batching.rows, stats=self._stats)
        self._codec = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segue-codec")
        memory = worker_memory(config.device, config.gpu)
        self._builder = Builder(
            find_engine=EngineFinder(config.engines, config.engine_settings),
            mapper=MapOnce(memory.mapper),
            device=Device(name=memory.engine_device, threads=config.threads),
            engine=self._engine,
        )
        self._link = SidecarLink(
            config.socket_path,
            worker=inheritance.name,
            generation=inheritance.generation,
            roster=self._roster,
            builder=self._builder,
            engine=self._engine,
            stats=self._stats,
            events=LinkEvents(changed=self._report, purge=self._purge, replace=self._ask_to_be_replaced),
        )
        self._ears = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segue-measure")
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="segue-recordings")
        self._studio = Studio(
            Desk(self._roster, stats=self._stats),
            engine=self._engine,
            measuring=MeasuringRoom(
                submit=self._engine.submit, executor=self._ears, cache_bytes=config.references.cache_bytes
            ),
            codec=self._codec,
            cache=ResultCache(config.worker_cache_bytes),
            stats=self._stats,
            backlog=Backlog(limit=config.worker_queue_limit, max_wait_s=config.max_queue_wait_s),
            deadline_s=config.request_deadline_s,
            busy_s=lambda: self._engine.busy_s,
        )
        self._tracing = make_tracing("segue-server")
        self._keys = KeyRing(config.keys_file, default_namespace=config.default_namespace)
        self._app = Counted(self._make_app(), stats=self._stats)
        self._connections = ServerState()
        self._acceptor = self._make_acceptor()
        self._names: dict[int, tuple[str, str]] = {}
        self._listening = False
        self._replace = ""
        self._told = b""
        self._supervisor: asyncio.StreamWriter | None = None
        self._leave = asyncio.Event()
        self._served = asyncio.Event()
        self._grace_s = GRACE_S

    async def run(self) -> None:
        """Serve until told to leave, then drain."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_leave, GRACE_S)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # of the terminal's group: the supervisor decides
        loop.add_signal_handler(signal.SIGUSR1, self._on_leave, POLITE_GRACE_S)
        channel = socket.socket(fileno=self._inheritance.channel_fd)
        reader, self._supervisor = await asyncio.open_unix_connection(sock=channel)
        self._engine.start()
        self._stats.set_state(WorkerState.JOINING)
        tasks = [
            asyncio.create_task(self._link.run()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._watch_keys()),
            asyncio.create_task(self._outlive_nobody(reader)),
        ]
        if self._inheritance.generation == 1:
            self._acceptor.start()
        else:
            tasks.append(asyncio.create_task(self._accept_once_serving()))
        self._listening = True
        self._report()
        gc.collect()
        gc.freeze()  # what is here now stays: later collections need not look at it
        await self._leave.wait()
        await self._drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    # --- beginning --------------------------------------------------------------------------------------------------

    def _make_app(self) -> ASGIApp:
        speech = SpeechApi(
            self._studio,
            cold=ColdStart(self._roster, self._link, wait_s=self._config.timeouts.cold_start_s),
            shelf=Shelf(self._config.references, executor=self._readers),
            config=self._config,
            tracing=self._tracing,
        )
        return make_app(speech, roster=self._roster, keys=self._keys, config=self._config, started_s=int(time.time()))

    async def _accept_once_serving(self) -> None:
        """A replacement has the fewest connections of all: it must not attract any before it can speak."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_S):
                await self._served.wait()
        if not self._leave.is_set():
            self._acceptor.start()

    def _make_acceptor(self) -> Acceptor:
        config = uvicorn.Config(
            self._app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=self._config.trust_forwarded,
            forwarded_allow_ips="*" if self._config.trust_forwarded else None,
            timeout_keep_alive=int(self._config.timeouts.keep_alive_s),
        )
        config.load()
        BoundedProtocol.head_timeout_s = self._config.timeouts.head_s
        self._connections.default_headers = [(b"server", b"segue")]

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(config=config, server_state=self._connections, app_state={})

        sock = socket.socket(fileno=self._inheritance.listen_fd)
        return Acceptor(sock, protocol=protocol, hesitate_s=self._hesitate_s)

    def _hesitate_s(self) -> float:
        """Leave a connection to the others for a moment for each one that is here already: who has fewest is first."""
        held = min(MOST_HESITATIONS, len(self._connections.connections))
        return HESITATE_S * held if self._config.workers > 1 else 0.0

    # --- while it lives ---------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._stats.beat(queued=self._studio.waiting)
            self._roster.remember_words()
            stalled_s = self._engine.step_age_s()
            if stalled_s > self._config.timeouts.engine_stall_s:
                self._ask_to_be_replaced(f"the engine has been in one step for {stalled_s:.0f} s")
            self._report()
            await asyncio.sleep(BEAT_S)

    async def _watch_keys(self) -> None:
        while self._keys.required:
            await asyncio.sleep(LOOK_EVERY_S)
            self._keys.reload_if_changed()

    async def _outlive_nobody(self, reader: asyncio.StreamReader) -> None:
        """The end of the channel is the end of the supervisor: drain, nobody will start us again."""
        await reader.read()
        log.warning("the supervisor is gone: draining")
        self._on_leave(GRACE_S)

    def _report(self) -> None:
        """Tell the supervisor, if there is anything new."""
        if self._roster.serving:
            self._served.set()
        names = {one.handle: (str(one.ref.voice), one.ref.revision) for one in self._roster.residents()}
        fresh = {handle: name for handle, name in names.items() if handle not in self._names}
        unready = "draining" if self._leave.is_set() else self._roster.unready_reason(now_s=time.monotonic())
        report = Report(listening=self._listening, unready=unready, replace=self._replace, names=fresh).encode()
        if report != self._told and self._supervisor is not None and not self._supervisor.is_closing():
            self._told = report
            self._names = names
            self._supervisor.write(report)

    def _purge(self, revision: str) -> None:
        self._studio.purge(revision)

    def _ask_to_be_replaced(self, reason: str) -> None:
        if not self._replace:
            log.error("this worker should be replaced: %s", reason)
            self._replace = reason
            self._report()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _on_leave(self, grace_s: float) -> None:
        self._grace_s = grace_s if not self._leave.is_set() else min(self._grace_s, grace_s)
        self._leave.set()

    async def _drain(self) -> None:
        """Finish what is under way, then close what is idle; cut what is left at the deadline."""
        self._app.draining = True
        self._acceptor.stop()
        os.close(self._inheritance.listen_fd)
        self._stats.set_state(WorkerState.DRAINING)
        self._link.bye("draining")
        self._report()
        began_s = time.monotonic()
        log.info("draining %d connections", len(self._connections.connections))
        while self._connections.connections:
            now_s = time.monotonic()
            if now_s - began_s > self._config.drain_s:
                break
            if now_s - began_s > self._grace_s:
                self._close_idle()
            await asyncio.sleep(0.02)
        left = list(self._connections.connections)
        if left:
            log.warning("cutting %d connections that did not end within %g s", len(left), self._config.drain_s)
        for connection in left:
            _bounded(connection).abort()

    def _close_idle(self) -> None:
        for connection in list(self._connections.connections):
            protocol = _bounded(connection)
            if protocol.idle and not protocol.transport.is_closing():
                protocol.transport.close()

    async def _close(self) -> None:
        self._link.close()
        self._builder.close()
        for executor in (self._codec, self._ears, self._readers):
            executor.shutdown(wait=False, cancel_futures=True)
        if self._tracing is not None:
            self._tracing.close()
        if self._supervisor is not None:
            self._supervisor.close()
        if not self._engine.stop(timeout_s=2.0):
            # A step that does not end cannot be waited for; the thread would crash in a dying interpreter.
            log.warning("the engine is still in a step: leaving without it")
            logging.shutdown()
            os._exit(0)
        self._stats.beat(queued=0)


def run_worker(inheritance: Inheritance, *, config_path: Path, log_format: str) -> int:
    """Be a worker; returns the exit status."""
    configure_logging(LogFormat(log_format), process=inheritance.name)
    config = load_config(config_path)
    os.nice(config.nice)
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    async def serve() -> None:
        await Worker(config, inheritance).run()

    asyncio.run(serve())
    return 0


def _bounded(connection: object) -> BoundedProtocol:
    if not isinstance(connection, BoundedProtocol):
        raise TypeError(f"a connection is a BoundedProtocol, not {type(connection).__name__}")
    return connection

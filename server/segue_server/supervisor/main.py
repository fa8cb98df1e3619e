"""The supervisor, put together.

A process of its own that computes nothing and holds the listening socket: a worker that dies takes no connection with
it that was not its own, and the next one finds the socket as it was.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any

from segue.memory.stats_layout import RowCell
from segue_server.api.keys import load_keys
from segue_server.config import InvalidConfig, ServerConfig, load_config, split_address
from segue_server.logs import LogFormat, configure_logging
from segue_server.supervisor.child import Child, Orders
from segue_server.supervisor.metrics import Snapshot
from segue_server.supervisor.place import Place
from segue_server.supervisor.status import make_status_app, serve_status
from segue_server.supervisor.totals import Totals, living
from segue_server.supervisor.usage import Usage, usage_of

LISTEN_BACKLOG = 4096

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps the workers. Make it inside a running loop."""

    def __init__(self, config: ServerConfig, *, config_path: Path, log_format: LogFormat) -> None:
        self._config = config
        self._listener = bind(config.listen)
        self._status = bind(config.status_listen)
        self._buried = Totals()
        self._leave = asyncio.Event()
        self._told_ready = False
        orders = Orders(
            config_path=config_path,
            listen_fd=self._listener.fileno(),
            threads=config.threads,
            log_format=log_format.value,
        )
        self._places = [
            Place(f"w{i}", orders=orders, drain_s=config.drain_s, changed=self._on_change, buried=self._buried.bury)
            for i in range(config.workers)
        ]

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave.set)
        app = make_status_app(snapshot=self._snapshot, unready=self._unready, stats=self._stats)
        status, status_task = serve_status(app, self._status)
        keeping = [asyncio.create_task(place.keep()) for place in self._places]
        log.info("speech API on http://%s, status on http://%s", _name(self._listener), _name(self._status))
        try:
            await self._until_leave(keeping)
        finally:
            self._listener.close()
            await asyncio.gather(*(place.stop() for place in self._places))
            await asyncio.wait(keeping, timeout=5.0)
            status.should_exit = True
            await status_task
            self._status.close()
            self._forget_ready_file()

    async def _until_leave(self, keeping: list[asyncio.Task[None]]) -> None:
        leaving = asyncio.create_task(self._leave.wait())
        done, _ = await asyncio.wait([leaving, *keeping], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        for task in done:
            if task is not leaving:
                task.result()  # a place never ends by itself: this raises why it did

    # --- what is told -----------------------------------------------------------------------------------------------

    def _children(self) -> list[Child]:
        return [child for place in self._places for child in place.children]

    def _on_change(self) -> None:
        if self._told_ready or self._config.ready_file is None:
            return
        current = [place.current for place in self._places]
        if all(child is not None and child.report.listening for child in current):
            self._told_ready = True
            document = {
                "pid": os.getpid(),
                "listen": f"http://{_name(self._listener)}",
                "statusListen": f"http://{_name(self._status)}",
                "workers": [child.pid for child in self._children()],
            }
            write_atomically(self._config.ready_file, json.dumps(document) + "\n")

    def _forget_ready_file(self) -> None:
        if self._config.ready_file is not None:
            self._config.ready_file.unlink(missing_ok=True)

    def _unready(self) -> str:
        """Why no traffic should come; one worker that can serve is enough."""
        children = self._children()
        if any(child.ready for child in children):
            return ""
        reasons = sorted({child.report.unready or "starting" for child in children})
        return "; ".join(reasons) or "no worker is running"

    def _totals(self) -> Totals:
        totals = self._buried.copy()
        for child in self._children():
            totals.add(child)
        return totals

    def _snapshot(self) -> Snapshot:
        children = self._children()
        return Snapshot(
            self._totals(),
            living=list(living(children).values()),
            ready=sum(child.ready for child in children),
            restarts=sum(place.restarts for place in self._places),
            usage=self._usage(),
        )

    def _usage(self) -> dict[str, Usage]:
        """By place: a worker that replaces another one goes on under the same label."""
        current = {place.name: place.current for place in self._places}
        found = {name: usage_of(child.pid) for name, child in current.items() if child is not None}
        return {name: usage for name, usage in found.items() if usage is not None}

    def _stats(self) -> dict[str, Any]:
        totals = self._totals()
        return {
            "workers": [_worker_line(child) for child in self._children()],
            "restarts": {place.name: place.restarts for place in self._places},
            "counts": {cell.name.lower(): count for cell, count in totals.counts.items()},
            "revisions": [
                {
                    "voice": key.voice,
                    "revision": key.revision,
                    "successes": counters.successes,
                    "errors": dict(counters.errors_by_kind),
                    "died": totals.died[key],
                    "shielded": counters[RowCell.SHIELDED],
                    "cancelled": counters[RowCell.CANCELLED],
                    "rejected": counters[RowCell.REJECTED],
                    "cacheHits": counters[RowCell.CACHE_HITS],
                    "mirrored": {
                        "successes": counters[RowCell.MIRROR_SUCCESSES],
                        "errors": counters[RowCell.MIRROR_ERRORS],
                    },
                    "inFlight": counters.in_flight - totals.died[key],
                    "audioS": counters[RowCell.AUDIO_MS] / 1000,
                }
                for key, counters in totals.revisions.items()
            ],
        }


def run_supervisor(config_path: Path, *, log_format: LogFormat) -> int:
    """Be the supervisor; returns the exit status."""
    configure_logging(log_format, process="supervisor")
    try:
        config = load_config(config_path)
        if config.keys_file is not None:
            load_keys(config.keys_file)
    except InvalidConfig as error:
        log.error("%s", error)
        return 2
    _raise_descriptor_limit()

    async def serve() -> None:
        await Supervisor(config, config_path=config_path, log_format=log_format).run()

    try:
        asyncio.run(serve())
    except OSError as error:
        log.error("cannot serve: %s", error)
        return 1
    return 0


def bind(address: str) -> socket.socket:
    """A listening socket that workers can inherit.

    Raises
    ------
    OSError
        The address is taken or cannot be had; the message names it.
    """
    host, port = split_address(address)
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return sock


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _name(sock: socket.socket) -> str:
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def _worker_line(child: Child) -> dict[str, Any]:
    stats = child.stats
    reading = stats.worker() if stats is not None else None
    return {
        "name": child.name,
        "generation": child.generation,
        "pid": child.pid,
        "state": reading.state.name.lower() if reading is not None and reading.state is not None else "starting",
        "unready": child.report.unready,
        "queued": reading.queued if reading is not None else 0,
        "busyS": reading.busy_ns / 1e9 if reading is not None else 0.0,
    }


def _raise_descriptor_limit() -> None:
    """Each connection is a descriptor; workers inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

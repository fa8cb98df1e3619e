"""The sidecar as a whole: every part made once, tied together, started in order and stopped in the other.

The order of a start matters: first the lock (only one sidecar), then the journal, then the door for workers, then what
they bring back; the control API opens at once but stores nothing before the page is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.types import ASGIApp

from segue.errors import SegueError
from segue.garbage import settle_garbage
from segue.memory.handoff import HandoffListener
from segue.tls import server_context
from segue.tracing import make_tracing
from segue_sidecar.api.app import make_app
from segue_sidecar.assembly import Parts, assemble
from segue_sidecar.books import Books
from segue_sidecar.child import ChildFailed, ChildKind
from segue_sidecar.config import Config
from segue_sidecar.engines import all_places
from segue_sidecar.journal import Journal, Replayed
from segue_sidecar.listener import HttpListener
from segue_sidecar.metrics import Metrics
from segue_sidecar.readiness import Readiness
from segue_sidecar.rounds import PACE_EVERY_S, every, keep_spares
from segue_sidecar.status import make_status_app
from segue_sidecar.traces import CommandTraces

logger = logging.getLogger(__name__)

SOCKET_NAME = "sidecar.sock"
_ASK_AGAIN_S = 30.0


class Sidecar:
    """One sidecar. `run` is its whole life."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._listener = HandoffListener(
            config.handoff_directory / SOCKET_NAME, allowed_uids={os.geteuid(), *config.server_uids}
        )
        self._closer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="give-memory-back")
        self._journal = Journal(config.journal_directory / "journal.log")
        self._windows = Journal(config.journal_directory / "windows.log")
        self._books = Books(self._journal)
        self._metrics = Metrics()
        self._tracing = make_tracing("segue-sidecar")

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises
        ------
        SegueError
            It cannot start: another sidecar holds the socket, a file or a certificate cannot be used.
        OSError
            An address is taken.
        """
        self._config.handoff_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._listener.open()
        try:
            self._restore()
            await self._serve(stop)
        finally:
            self._listener.close()
            self._journal.close()
            self._windows.close()
            self._closer.shutdown(wait=True)

    def _restore(self) -> None:
        replayed = self._journal.open()
        try:
            self._books.restore(replayed.records)
        except (ValueError, KeyError, TypeError) as error:
            raise SegueError(
                f"the journal in {self._config.journal_directory} cannot be understood ({error}): move it away to "
                "start from nothing"
            ) from error
        self._tell_damage(replayed)

    def _tell_damage(self, replayed: Replayed) -> None:
        if replayed.damaged_lines:
            self._books.event(
                "JournalDamaged", f"{replayed.damaged_lines} lines of the journal were unreadable", warning=True
            )

    async def _serve(self, stop: asyncio.Event) -> None:
        parts = self._assemble()
        try:
            async with asyncio.TaskGroup() as group, self._listening(parts):
                tasks = [group.create_task(work, name=name) for name, work in self._rounds(parts).items()]
                settle_garbage()
                await stop.wait()
                logger.info("stopping: children end, workers go on")
                await parts.services.probing.close()
                await parts.core.residency.close()
                await parts.core.store.close()
                for task in tasks:
                    task.cancel()
        finally:
            _let_go_of_memory(parts)
            if self._tracing is not None:
                self._tracing.close()

    def _traced(self, app: ASGIApp) -> ASGIApp:
        """The application, with its commands and the phases of revisions in the operator's traces where wanted."""
        if self._tracing is None:
            return app
        traces = CommandTraces(self._tracing)
        self._books.on_left = traces.left
        return traces.around(app)

    def _rounds(self, parts: Parts) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on for as long as the sidecar runs."""
        return {
            "reception": parts.reception.run(),
            "recovery": self._recover(parts),
            "builds": self._ask_engines(parts),
            "models": parts.core.shared.run(),
            "prepared": parts.core.store.look(),
            "desired": parts.following.run(parts.recovery.settled),
            "upkeep": every(1.0, parts.upkeep.second),
            "pacing": every(PACE_EVERY_S, parts.pacing.round),
            "pacer": parts.core.pacer.run(),
            "spares": keep_spares(parts.core.memory, parts.core.pacer),
        }

    def _assemble(self) -> Parts:
        return assemble(
            self._config,
            books=self._books,
            journals=(self._journal, self._windows),
            listener=self._listener,
            metrics=self._metrics,
            background=self._closer.submit,
        )

    async def _recover(self, parts: Parts) -> None:
        deadlines = self._config.deadlines
        await parts.recovery.run(deadline_s=deadlines.hello_s, hash_deadline_s=deadlines.prove_s)
        parts.services.commands.rearm()

    async def _ask_engines(self, parts: Parts) -> None:
        """Engines are only ever imported in children; what the journal says of them stands until they have answered.

        Those with shared models first: voices may wait for them, and another engine can take seconds to import.
        """
        places = all_places(self._config.engines)
        sharing = {name: place for name, place in places.items() if name in self._config.shared_models}
        parts.core.shared.engines_answered(await self._answers(parts, sharing))
        await self._answers(parts, {name: place for name, place in places.items() if name not in sharing})

    async def _answers(self, parts: Parts, places: Mapping[str, str]) -> Mapping[str, Any]:
        while places:
            try:
                answer = await parts.core.nursery.run(
                    ChildKind.BUILDS, {"places": places}, deadline_s=self._config.deadlines.prove_s
                )
            except ChildFailed as error:
                logger.error("the build ids of %s are not known: %s", ", ".join(places), error)
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                self._record_builds(answer)
                return answer
        return {}

    def _record_builds(self, answer: Mapping[str, Any]) -> None:
        gone = self._books.builds.keys() - all_places(self._config.engines).keys() | answer["errors"].keys()
        kept = {name: build for name, build in self._books.builds.items() if name not in gone}
        self._books.record_builds({**kept, **answer["builds"]})

    @contextlib.asynccontextmanager
    async def _listening(self, parts: Parts) -> AsyncIterator[None]:
        config, readiness = self._config, Readiness(parts)
        tls = server_context(config.tls.files, client_name=config.tls.client_name)
        control = HttpListener(self._traced(make_app(parts.services)), tls=tls, request_s=config.deadlines.request_s)
        status = HttpListener(
            make_status_app(metrics=self._metrics, waiting_for=readiness.waiting_for),
            request_s=config.deadlines.request_s,
        )
        control_at = await control.open(config.control_listen)
        try:
            status_at = await status.open(config.status_listen)
            try:
                self._write_ready_file(control_at, status_at)
                logger.info("control on https://%s:%d, status on http://%s:%d", *control_at, *status_at)
                yield
            finally:
                await status.close(deadline_s=config.deadlines.stop_s)
        finally:
            await control.close(deadline_s=config.deadlines.stop_s)

    def _write_ready_file(self, control: tuple[str, int], status: tuple[str, int]) -> None:
        path = self._config.ready_file
        if path is None:
            return
        document = {
            "pid": os.getpid(),
            "control": f"https://{_shown(control)}",
            "status": f"http://{_shown(status)}",
            "handoff": str(self._config.handoff_directory / SOCKET_NAME),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(document))
        temporary.replace(path)


def _let_go_of_memory(parts: Parts) -> None:
    """Close every descriptor; what workers map lives on."""
    for worker in parts.core.roster:
        worker.connection.close()
        worker.stats.close()
    if parts.core.switchboard.page is not None:
        parts.core.switchboard.page.close()
    parts.core.memory.close()


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

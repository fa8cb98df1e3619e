"""The sidecar as a whole: every part made once, tied together, started in order and stopped in the other.

The order of a start matters: first the lock (only one sidecar), then the journal, then the door for workers, then what
they bring back; the control API opens at once but stores nothing before the page is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from segue.errors import SegueError
from segue.memory.handoff import HandoffListener
from segue.memory.host import HostMemory
from segue.tls import server_context
from segue.wire import RevisionPhase, Tier
from segue_sidecar.api.app import make_app
from segue_sidecar.api.services import Services
from segue_sidecar.books import Books, RevisionEntry, VoiceEntry
from segue_sidecar.child import ChildFailed, ChildKind, Nursery
from segue_sidecar.commands import Commands
from segue_sidecar.config import Config
from segue_sidecar.contact import Contact
from segue_sidecar.engines import all_places
from segue_sidecar.evidence import Evidence
from segue_sidecar.feed import StateFeed
from segue_sidecar.journal import Journal, Replayed
from segue_sidecar.listener import HttpListener
from segue_sidecar.metrics import BooksCollector, Metrics
from segue_sidecar.probing import Probing
from segue_sidecar.reception import Reception
from segue_sidecar.recovery import Recovery, reconcile
from segue_sidecar.residency import Residency
from segue_sidecar.rounds import PACE_EVERY_S, Pacing, Upkeep, every, keep_spares
from segue_sidecar.status import make_status_app
from segue_sidecar.switchboard import Switchboard
from segue_sidecar.throttle import Pacer

logger = logging.getLogger(__name__)

SOCKET_NAME = "sidecar.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What `_serve` starts and stops."""

    memory: HostMemory
    pacer: Pacer
    nursery: Nursery
    switchboard: Switchboard
    residency: Residency
    recovery: Recovery
    reception: Reception
    services: Services
    upkeep: Upkeep
    pacing: Pacing


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
                _settle_garbage()
                await stop.wait()
                logger.info("stopping: children end, workers go on")
                await parts.services.probing.close()
                await parts.residency.close()
                for task in tasks:
                    task.cancel()
        finally:
            _let_go_of_memory(parts)

    def _rounds(self, parts: _Parts) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on for as long as the sidecar runs."""
        return {
            "reception": parts.reception.run(),
            "recovery": self._recover(parts),
            "builds": self._ask_engines(parts),
            "upkeep": every(1.0, parts.upkeep.second),
            "pacing": every(PACE_EVERY_S, parts.pacing.round),
            "pacer": parts.pacer.run(),
            "spares": keep_spares(parts.memory, parts.pacer),
        }

    async def _recover(self, parts: _Parts) -> None:
        deadlines = self._config.deadlines
        await parts.recovery.run(deadline_s=deadlines.hello_s, hash_deadline_s=deadlines.prove_s)
        parts.services.commands.rearm()

    async def _ask_engines(self, parts: _Parts) -> None:
        """Engines are only ever imported in children; what the journal says of them stands until one has answered."""
        places = all_places(self._config.engines)
        try:
            answer = await parts.nursery.run(
                ChildKind.BUILDS, {"places": places}, deadline_s=self._config.deadlines.prove_s
            )
        except ChildFailed as error:
            logger.error("the engines' build ids are not known: %s", error)
            return
        self._books.record_builds(answer["builds"])

    # --- putting it together ----------------------------------------------------------------------------------------

    def _assemble(self) -> _Parts:
        """Make every part, the lower ones first."""
        config, books, pacer = self._config, self._books, Pacer()
        pool = config.pool
        memory = HostMemory(pool.budget_bytes, spares=pool.spares, background=self._closer.submit)
        child_bytes = config.limits.child_memory_bytes
        nursery = Nursery(pacer=pacer, memory_bytes=child_bytes, on_end=self._metrics.child_ended)
        switchboard = Switchboard(books=books, memory=memory, pod_uid=config.pod.uid)
        evidence = Evidence(owner_of=books.handles.get, journal=self._windows)
        evidence.restore(self._windows.open().records)
        residency = Residency(
            config=config, books=books, memory=memory, switchboard=switchboard, nursery=nursery, uses=evidence.uses
        )
        recovery = Recovery(books=books, memory=memory, switchboard=switchboard, residency=residency, nursery=nursery)
        reception = Reception(
            listener=self._listener,
            books=books,
            switchboard=switchboard,
            evidence=evidence,
            recovery=recovery,
            on_change=residency.advance,
        )
        services = self._services(memory, switchboard, residency, nursery, evidence)
        self._tie(switchboard, residency, services.commands, services.probing)
        collector = BooksCollector(
            books=books, memory=memory, switchboard=switchboard, pacer=pacer, silent_s=services.contact.silent_s
        )
        self._metrics.registry.register(collector)
        upkeep = Upkeep(
            config=config,
            books=books,
            journals=(self._journal, self._windows),
            memory=memory,
            switchboard=switchboard,
            reception=reception,
            residency=residency,
            commands=services.commands,
            evidence=evidence,
            contact=services.contact,
        )
        return _Parts(
            memory=memory,
            pacer=pacer,
            nursery=nursery,
            switchboard=switchboard,
            residency=residency,
            recovery=recovery,
            reception=reception,
            services=services,
            upkeep=upkeep,
            pacing=Pacing(config=config, pacer=pacer, switchboard=switchboard, evidence=evidence),
        )

    def _services(
        self,
        memory: HostMemory,
        switchboard: Switchboard,
        residency: Residency,
        nursery: Nursery,
        evidence: Evidence,
    ) -> Services:
        config, books = self._config, self._books
        commands = Commands(books=books, switchboard=switchboard, residency=residency, extra_engines=config.engines)
        probing = Probing(
            config=config, books=books, commands=commands, memory=memory, residency=residency, nursery=nursery
        )
        feed = StateFeed(
            pod=config.pod, books=books, switchboard=switchboard, memory=memory, engine_builds=lambda: books.builds
        )
        highest = max((voice.fence.term for voice in books.voices.values()), default=0)
        return Services(
            pod_uid=config.pod.uid,
            commands=commands,
            probing=probing,
            feed=feed,
            evidence=evidence,
            contact=Contact(term=highest),
            metrics=self._metrics,
        )

    def _tie(self, switchboard: Switchboard, residency: Residency, commands: Commands, probing: Probing) -> None:
        """Who is told what: the parts themselves do not know each other."""

        def ready(entry: RevisionEntry) -> None:
            reconcile(self._books.voices[str(entry.voice)], switchboard, self._books)

        def deaths(voice: VoiceEntry, count: int) -> None:
            commands.mute_candidate(voice, why=f"{count} workers died with requests of the candidate open")

        switchboard.on_ready = ready
        switchboard.on_failed = residency.fail
        switchboard.on_deaths = deaths
        commands.on_let_go = probing.let_go

    def _readiness(self, recovery: Recovery, switchboard: Switchboard) -> Callable[[], list[str]]:
        def waiting_for() -> list[str]:
            if not recovery.settled.is_set():
                return ["workers to hand back what they hold"]
            hot = [
                v for v in self._books.voices.values() if any(r.request.tier is Tier.HOT for r in v.revisions.values())
            ]
            return [str(voice.name) for voice in hot if not _is_active(voice, switchboard)]

        return waiting_for

    @contextlib.asynccontextmanager
    async def _listening(self, parts: _Parts) -> AsyncIterator[None]:
        config, waiting_for = self._config, self._readiness(parts.recovery, parts.switchboard)
        tls = server_context(config.tls.files, client_name=config.tls.client_name)
        control = HttpListener(make_app(parts.services), tls=tls, request_s=config.deadlines.request_s)
        status = HttpListener(
            make_status_app(metrics=self._metrics, waiting_for=waiting_for), request_s=config.deadlines.request_s
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


def _is_active(voice: VoiceEntry, switchboard: Switchboard) -> bool:
    if voice.said.active is None or switchboard.page is None:
        return False
    entry = voice.revisions.get(voice.said.active)
    return entry is not None and entry.phase is RevisionPhase.READY and switchboard.says(voice)


def _let_go_of_memory(parts: _Parts) -> None:
    """Close every descriptor; what workers map lives on."""
    for worker in parts.switchboard.roster:
        worker.connection.close()
        worker.stats.close()
    if parts.switchboard.page is not None:
        parts.switchboard.page.close()
    parts.memory.close()


def _settle_garbage() -> None:
    """What exists now lives as long as the process: no collection needs to walk it, in the middle of a flip or ever."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

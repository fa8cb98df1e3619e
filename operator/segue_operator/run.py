"""The operator's process: wires the folder adapter to the loop, and runs until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from segue.certificate_expiry import CertificateExpiry
from segue.rollout import PodFacts
from segue.tls import KeyPairFiles
from segue.tracing import make_tracing
from segue_operator.api import ApiServer, Board, bind, make_server, serve_on
from segue_operator.changes import Changes
from segue_operator.clock import SystemClock
from segue_operator.config import OperatorConfig
from segue_operator.console.app import build_console
from segue_operator.console.news import News
from segue_operator.console.serving import ServedConsole, open_console
from segue_operator.controller import Controller
from segue_operator.events import EventLog
from segue_operator.files import write_atomically
from segue_operator.fleet.dialing import Dialer
from segue_operator.fleet.listening import Latest, Listener
from segue_operator.fleet.records import FleetKey, PodRecord
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.folder.cluster import FolderCluster
from segue_operator.folder.console import FolderConsole
from segue_operator.folder.digests import DigestCache
from segue_operator.folder.store import Store
from segue_operator.folder.watching import folder_wakeups
from segue_operator.leader import Fences, Leadership, take_leadership
from segue_operator.listener import address_of, bind_address, make_plain_app, make_plain_server
from segue_operator.metrics import Overview, overview_registry
from segue_operator.reports import ReportBook
from segue_operator.rollout_traces import RolloutTraces
from segue_operator.slots import SlotBook
from segue_operator.tallies import Tallies
from segue_operator.triggers.wiring import ExternalTriggers, build_triggers
from segue_operator.voice_figures import figures_of_status

ALWAYS_THERE = datetime.fromtimestamp(0, UTC)
"""A pod of one machine was there before any rollout: a sidecar that is started again still belongs to it."""

logger = logging.getLogger(__name__)


async def run(config: OperatorConfig) -> None:
    """Lead, until SIGTERM or SIGINT.

    Raises
    ------
    NotLeader
        Another operator leads on this state directory.
    StoreCorrupt
        A status file cannot be read.
    """
    leadership = take_leadership(config.state_directory)
    try:
        await _lead(config, leadership)
    finally:
        leadership.release()


async def _lead(config: OperatorConfig, leadership: Leadership) -> None:
    tracing = make_tracing("segue-operator")
    changes, clock = Changes(), SystemClock()
    events = EventLog.open(config.state_directory / "events.jsonl", changes=changes, now=clock.now)
    cluster = _cluster(config, changes)
    reports = ReportBook(config.state_directory / "reports")
    latest = Latest(on_state=reports.note)
    news = News((latest,))
    fleet = _fleet(config, leadership.fences, latest if config.console is None else news, events)
    controller = Controller(
        cluster=cluster,
        fleet=fleet,
        clock=clock,
        events=events,
        fences=leadership.fences,
        slots=SlotBook(config.fleet.max_concurrent_rollouts),
        traces=RolloutTraces(tracing) if tracing is not None else None,
    )
    has_read = asyncio.Event()
    controller.triggers = triggers = _triggers(config, cluster, controller, has_read)

    def first_reading() -> None:
        has_read.set()
        _write_ready_file(config, listening, console)

    def pod_changed(keys: frozenset[str] | None) -> None:
        changes.bump()
        controller.wake(keys)

    controller.on_first_reading = first_reading
    fleet.on_change = pod_changed
    fleet.update(_records(config))
    board = Board(cluster=cluster, fleet=fleet, latest=latest, events=events, changes=changes, reports=reports)
    listening = _listen(
        config,
        board,
        triggers,
        overview=_overview(config, cluster, fleet, controller.tallies),
        waiting_for=lambda: () if has_read.is_set() else ("the folder",),
    )
    console = _console(config, board, news)
    try:
        await _run_until_stopped(board, controller, triggers, listening, console)
    finally:
        config.socket.unlink(missing_ok=True)
        if tracing is not None:
            tracing.close()


def _triggers(
    config: OperatorConfig, cluster: FolderCluster, controller: Controller, has_read: asyncio.Event
) -> ExternalTriggers:
    return build_triggers(
        hooks=config.hooks,
        prometheus=config.prometheus,
        voice_exists=lambda key: key in cluster.store.records,
        wake=controller.wake,
        now=controller.clock.now,
        is_ready=has_read.is_set,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A server and the socket that it is to serve on."""

    server: ApiServer
    socket: socket.socket


def _overview(config: OperatorConfig, cluster: FolderCluster, fleet: SidecarFleet, tallies: Tallies) -> Overview:
    """Whoever has come so far leads: there is one operator for each state directory."""
    return Overview(
        leading=lambda: True,
        voices=lambda: (figures_of_status(voice.key, voice.status) for voice in cluster.voices()),
        unusable=lambda: len(cluster.problems()),
        pods=lambda: len(fleet.pods),
        unreachable=fleet.unreachable,
        tallies=tallies,
        certificate_ends_s=CertificateExpiry(config.tls.cert).at_s if config.tls is not None else lambda: None,
    )


def _listen(
    config: OperatorConfig,
    board: Board,
    triggers: ExternalTriggers,
    *,
    overview: Overview,
    waiting_for: Callable[[], Sequence[str]],
) -> list[Served]:
    """The local API, and the plain listener where one is configured."""
    listening = []
    if config.listen is not None:
        registry = overview_registry(overview)
        registry.register(triggers.calls)
        app = make_plain_app(waiting_for=waiting_for, registry=registry, routes=triggers.routes)
        listening.append(Served(make_plain_server(app), bind_address(config.listen)))
    return [Served(make_server(board), bind(config.socket)), *listening]


def _console(config: OperatorConfig, board: Board, news: News) -> ServedConsole | None:
    if config.console is None:
        return None
    source = FolderConsole(cluster=board.cluster, fleet=board.fleet, log=board.events, kept=board.reports)
    return open_console(build_console(config.console, source=source, editor=source, news=news), config.console)


async def _run_until_stopped(
    board: Board,
    controller: Controller,
    triggers: ExternalTriggers,
    listening: Sequence[Served],
    console: ServedConsole | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    served: list[Served | ServedConsole] = [*listening, *([console] if console is not None else [])]
    serving = [asyncio.create_task(serve_on(each.server, [each.socket]), name="listener") for each in served]
    working = asyncio.create_task(_work(board.fleet, controller, triggers), name="control loop")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({*serving, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        logger.info("stopping" if stop.is_set() else "stopping after a failure")
    finally:
        working.cancel()
        stopping.cancel()
        if console is not None:
            console.close()
        for each in served:
            each.server.should_exit = True
        board.changes.close()
        results = await asyncio.gather(*serving, working, return_exceptions=True)
        for each in served:
            each.socket.close()
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _work(fleet: SidecarFleet, controller: Controller, triggers: ExternalTriggers) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.run(), name="fleet")
        group.create_task(controller.run(), name="controller")
        group.create_task(triggers.run(), name="triggers")


def _cluster(config: OperatorConfig, changes: Changes) -> FolderCluster:
    again = asyncio.Event()
    return FolderCluster(
        folder=config.voices,
        store=Store.open(config.status_directory, on_change=changes.bump),
        digests=DigestCache(config.state_directory / "digests.json"),
        wakeups=partial(folder_wakeups, config.voices, again=again),
        clock=time.monotonic,
        again=again,
        on_change=changes.bump,
    )


def _fleet(config: OperatorConfig, fences: Fences, listener: Listener, events: EventLog) -> SidecarFleet:
    tls = config.tls
    files = KeyPairFiles(cert=tls.cert, key=tls.key, ca=tls.ca) if tls is not None else None
    key = _key(config)
    dialer = Dialer(files)
    return SidecarFleet(
        select=lambda _voice: key,
        connect=dialer.connect,
        lull=dialer.lull,
        term=lambda: fences.term,
        report=events.publish,
        listener=listener,
        idle_poll_s=config.idle_poll_s,
    )


def _records(config: OperatorConfig) -> list[PodRecord]:
    """The pods of one machine: always the same."""
    return [
        PodRecord(
            facts=PodFacts(uid=pod.uid, name=pod.name or pod.uid, created_at=ALWAYS_THERE),
            fleet=_key(config),
            url=pod.url,
        )
        for pod in config.fleet.pods
    ]


def _key(config: OperatorConfig) -> FleetKey:
    return FleetKey(namespace=config.fleet.namespace, name=config.fleet.name)


def _write_ready_file(config: OperatorConfig, listening: Sequence[Served], console: ServedConsole | None) -> None:
    if config.ready_file is not None:
        addresses = {"socket": str(config.socket)}
        for each in listening:
            if each.socket.family != socket.AF_UNIX:
                addresses["http"] = address_of(each.socket)
        if console is not None:
            addresses["console"] = console.address
        content = {"pid": os.getpid(), "addresses": addresses}
        write_atomically(config.ready_file, json.dumps(content))
    logger.info("operator reads %s and serves on %s", config.voices, config.socket)

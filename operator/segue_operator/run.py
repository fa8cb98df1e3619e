"""The operator's process: wires the folder adapter to the loop, and runs until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial

from segue.control import SidecarClient
from segue.tls import KeyPairFiles, client_context, sidecar_name
from segue_operator.api import Board, bind, make_server, serve_on
from segue_operator.changes import Changes
from segue_operator.clock import SystemClock
from segue_operator.config import OperatorConfig, PodAddress
from segue_operator.controller import Controller
from segue_operator.events import EventLog
from segue_operator.files import write_atomically
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.folder.cluster import FolderCluster
from segue_operator.folder.digests import DigestCache
from segue_operator.folder.store import Store
from segue_operator.folder.watching import folder_wakeups
from segue_operator.leader import Fences, Leadership, take_leadership
from segue_operator.reports import ReportBook
from segue_operator.slots import SlotBook

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
    changes, clock = Changes(), SystemClock()
    events = EventLog.open(config.state_directory / "events.jsonl", changes=changes, now=clock.now)
    cluster = _cluster(config, changes)
    reports = ReportBook(config.state_directory / "reports")
    slots = SlotBook(config.fleet.max_concurrent_rollouts)
    fleet = SidecarFleet({})
    controller = Controller(
        cluster=cluster,
        fleet=fleet,
        clock=clock,
        events=events,
        fences=leadership.fences,
        slots=slots,
        on_first_reading=partial(_write_ready_file, config),
    )

    def pod_changed(keys: frozenset[str] | None) -> None:
        for state in fleet.states().values():
            if state is not None:
                reports.note(state)
        changes.bump()
        controller.wake(keys)

    fleet.add(_pod(config, address, leadership.fences, pod_changed) for address in config.fleet.pods)
    board = Board(cluster=cluster, fleet=fleet, events=events, changes=changes, reports=reports)
    await _run_until_stopped(config, board, controller)


async def _run_until_stopped(config: OperatorConfig, board: Board, controller: Controller) -> None:
    server = make_server(board)
    listening = bind(config.socket)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(serve_on(server, [listening]), name="api")
    working = asyncio.create_task(_work(board.fleet, controller), name="control loop")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({serving, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        logger.info("stopping" if stop.is_set() else "stopping after a failure")
    finally:
        working.cancel()
        stopping.cancel()
        server.should_exit = True
        board.changes.close()
        results = await asyncio.gather(serving, working, return_exceptions=True)
        listening.close()
        config.socket.unlink(missing_ok=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _work(fleet: SidecarFleet, controller: Controller) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.run(), name="fleet")
        group.create_task(controller.run(), name="controller")


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


def _pod(
    config: OperatorConfig, address: PodAddress, fences: Fences, on_change: Callable[[frozenset[str] | None], None]
) -> Pod:
    tls = None
    if config.tls is not None:
        files = KeyPairFiles(cert=config.tls.cert, key=config.tls.key, ca=config.tls.ca)
        name = sidecar_name(fleet=config.fleet.name, namespace=config.fleet.namespace)
        tls = client_context(files, server_name=name)
    return Pod(
        uid=address.uid,
        name=address.name or address.uid,
        client=SidecarClient(address.url, pod_uid=address.uid, tls=tls),
        term=lambda: fences.term,
        idle_poll_s=config.idle_poll_s,
        on_change=on_change,
    )


def _write_ready_file(config: OperatorConfig) -> None:
    if config.ready_file is not None:
        content = {"pid": os.getpid(), "addresses": {"socket": str(config.socket)}}
        write_atomically(config.ready_file, json.dumps(content))
    logger.info("operator reads %s and serves on %s", config.voices, config.socket)

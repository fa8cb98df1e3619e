"""From the engine's commands to calls of a sidecar, and to words for the log.

Separate from the fleet, which decides when a command goes out and under which fence.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import assert_never

from segue.control import SidecarClient
from segue.model import VoiceModel
from segue.rollout import (
    Command,
    ConfirmWatch,
    DropRevision,
    EnsureRevision,
    RunProbe,
    SetPointer,
    pointer_request,
    probe_request,
    revision_request,
)
from segue.wire import Fence, PointerResult
from segue_operator.fleet.clock_offset import ClockOffset

TOLD_POD_BY_POD = 50

logger = logging.getLogger(__name__)


async def carry_out(
    command: Command, client: SidecarClient, *, voice: VoiceModel, fence: Fence, clock: ClockOffset
) -> None:
    """One call.

    Raises
    ------
    SegueError
        What the sidecar answered, or that it did not.
    """
    key, uid = voice.key, voice.metadata.uid
    match command:
        case EnsureRevision():
            request = revision_request(command.source, voice.spec, resident=command.resident)
            await client.ensure_revision(key, command.source.revision, request, fence=fence, voice_uid=uid)
        case RunProbe():
            await client.probe(key, command.revision, probe_request(command), fence=fence, voice_uid=uid)
        case SetPointer():
            ahead = clock_ahead(clock) if command.at is not None else None
            await _point(command, client, key=key, uid=uid, fence=fence, ahead=ahead)
        case ConfirmWatch():
            await client.confirm(key, fence=fence, voice_uid=uid)
        case DropRevision():
            await client.drop_revision(key, command.revision, fence=fence, voice_uid=uid)
        case _:
            assert_never(command)


def clock_ahead(clock: ClockOffset) -> timedelta | None:
    """The pod's clock minus ours; None: not known well enough to name an instant in it."""
    return timedelta(microseconds=clock.offset_ns / 1000) if clock.usable(time.time_ns()) else None


async def _point(
    command: SetPointer, client: SidecarClient, *, key: str, uid: str, fence: Fence, ahead: timedelta | None
) -> None:
    sent_ns: list[int] = []
    request = pointer_request(command, clock_ahead=ahead)
    result = await client.set_pointer(key, request, fence=fence, voice_uid=uid, on_write=sent_ns.append)
    _log_store(key, sent_ns[-1] if sent_ns else 0, result, level=log_level(command))


def log_level(command: Command) -> int:
    """A command to a few pods is told pod by pod; one to thousands is not, unless somebody asks for it."""
    return logging.INFO if len(command.pods) <= TOLD_POD_BY_POD else logging.DEBUG


def _log_store(key: str, sent_ns: int, result: PointerResult, *, level: int) -> None:
    """Say when a flip was commanded and when it was stored; on one machine both clocks are the same."""
    logger.log(
        level,
        "pointer of %s: epoch %d, sent %d, received %d, stored %d (CLOCK_MONOTONIC ns; 0: later)",
        key,
        result.pointer.epoch,
        sent_ns,
        result.received_monotonic_ns or 0,
        result.stored_monotonic_ns or 0,
        extra={"voice": key},
    )


def describe(command: Command) -> str:
    """A command in few words, for the log."""
    match command:
        case EnsureRevision():
            return f"{'have' if command.resident else 'know of'} {command.source.revision[:10]}"
        case RunProbe():
            return f"probe {command.revision[:10]} ({command.kind.value})"
        case SetPointer():
            candidate = f", {command.weight / 100:g} % to {command.candidate[:10]}" if command.candidate else ""
            return f"point at {command.active[:10] if command.active else 'nothing'}{candidate}"
        case ConfirmWatch():
            return "close the watch"
        case DropRevision():
            return f"let {command.revision[:10]} go"
        case _:
            assert_never(command)


def revision_in(command: Command) -> str | None:
    """The revision that a command is about, for the log."""
    match command:
        case EnsureRevision():
            return command.source.revision
        case RunProbe() | DropRevision():
            return command.revision
        case SetPointer():
            return command.candidate or command.active
        case ConfirmWatch():
            return None
        case _:
            assert_never(command)

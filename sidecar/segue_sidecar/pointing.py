"""What a pointer command means, and when it means nothing.

Pure; separate from `commands`, which holds it against what this pod has.
"""

from __future__ import annotations

import time

from segue.errors import Conflict, InvalidCommand
from segue.wire import PointerRequest, WatchState
from segue_sidecar.entries import Said, VoiceEntry

LATEST_AFTER_S = 2.0
"""A flip that is this late is refused: the others flipped without this pod, and the operator has moved on."""

FARTHEST_AHEAD_S = 3600.0
"""A flip is armed seconds ahead; an hour is a mistake in the units or in a clock."""


def said_by(request: PointerRequest) -> Said:
    """What the word is to say."""
    weight = request.weight if request.candidate else 0
    return Said(request.active, request.candidate, request.mode, weight)


def require_meaning(request: PointerRequest) -> None:
    """Raises `InvalidCommand` naming the field that makes no sense beside the others."""
    if request.candidate is not None and request.active is None:
        raise InvalidCommand("candidate: needs an active revision beside it")
    if request.weight and request.candidate is None:
        raise InvalidCommand(f"weight: {request.weight} means nothing without a candidate")
    if request.candidate is not None and request.candidate == request.active:
        raise InvalidCommand("candidate: is the active revision")
    if request.watch is not None and request.active is None:
        raise InvalidCommand("watch: needs an active revision to be watched")
    if request.at_ns is not None and request.at_ns - time.time_ns() > FARTHEST_AHEAD_S * 1e9:
        raise InvalidCommand(
            f"atNs: {request.at_ns} is more than {FARTHEST_AHEAD_S:g} s ahead of this pod's clock ({time.time_ns()})"
        )


def require_in_time(request: PointerRequest) -> None:
    """Raises `Conflict` for a flip whose time is too long past."""
    late_ms = lateness_ms(request, stored_ns=time.time_ns())
    if late_ms is not None and late_ms > LATEST_AFTER_S * 1e3:
        raise Conflict(
            f"atNs: {request.at_ns} is {late_ms / 1e3:.1f} s ago, more than {LATEST_AFTER_S:g} s: too late to flip"
        )


def lateness_ms(request: PointerRequest, *, stored_ns: int) -> float | None:
    """How long after its time a flip was stored; `None` for one without a time."""
    return None if request.at_ns is None else round((stored_ns - request.at_ns) / 1e6, 3)


def require_expected(voice: VoiceEntry, request: PointerRequest) -> None:
    """Compare and set: raises `Conflict` where the voice's word says something else than the caller thinks."""
    if request.expected is None:
        return
    found, wanted = (voice.said.active, voice.said.candidate), (request.expected.active, request.expected.candidate)
    if found != wanted:
        raise Conflict(f"the pointer of {voice.name} says {_short(found)}, not {_short(wanted)}: read the state again")


def next_watch(voice: VoiceEntry, request: PointerRequest) -> WatchState | None:
    """The watch after this flip; the same terms for the same revision again go on with the open one."""
    if request.watch is None or request.active is None:
        return None
    old = voice.watch
    same = old is not None and (old.revision, old.terms) == (request.active, request.watch)
    return WatchState(
        previous=request.watch.previous,
        revision=request.active,
        since_ns=old.since_ns if old is not None and same else time.time_ns(),
        terms=request.watch,
    )


def _short(pair: tuple[str | None, str | None]) -> str:
    active, candidate = ((name[:10] if name else "none") for name in pair)
    return f"active {active}, candidate {candidate}"

"""Annotations with which a person speaks to a rollout: promote, retry, rollback.

A token acts once per value. One that finds nothing to act on is used up at once, with a warning: kept, it would let out
a version that nobody had seen when it was given.
"""

from __future__ import annotations

from segue.model.status import Phase, Status
from segue.model.voice import PROMOTE_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_ANNOTATION
from segue.rollout.action import Event
from segue.rollout.step import handled
from segue.rollout.view import View


def promote_token(view: View) -> str | None:
    """A promote that was not acted on yet."""
    return _fresh(view, PROMOTE_ANNOTATION, view.status.handled_tokens.promote)


def retry_token(view: View) -> str | None:
    """A retry that was not acted on yet."""
    return _fresh(view, RETRY_ANNOTATION, view.status.handled_tokens.retry)


def rollback_token(view: View) -> str | None:
    """A rollback that was not acted on yet."""
    return _fresh(view, ROLLBACK_ANNOTATION, view.status.handled_tokens.rollback)


_NOTHING_TO_PROMOTE = (Phase.IDLE, Phase.PRELOADING, Phase.VERIFYING, Phase.ROLLING_BACK)


def use_up(view: View, status: Status) -> tuple[Status, tuple[Event, ...]]:
    """Mark tokens that found nothing to act on, so that they do not act on something later.

    Parameters
    ----------
    status
        What the step is about to persist: tokens that acted are marked in it already.
    """
    seen, phase, events = status.handled_tokens, view.status.phase, []
    promote, retry, rollback = promote_token(view), retry_token(view), rollback_token(view)
    if promote and promote != seen.promote and phase in _NOTHING_TO_PROMOTE:
        status = handled(status, promote=promote)
        events.append(_unused("promote", promote, "nothing waits for it"))
    if retry and retry != seen.retry and not (phase is Phase.IDLE and view.failure):
        status = handled(status, retry=retry)
        events.append(_unused("retry", retry, "the revision of the spec has not failed"))
    if rollback and rollback != seen.rollback and phase is Phase.ROLLING_BACK:
        status = handled(status, rollback=rollback)
        events.append(_unused("rollback", rollback, "a rollback is under way"))
    return status, tuple(events)


def _unused(name: str, value: str, why: str) -> Event:
    return Event(reason="TokenUnused", message=f"segue.dev/{name}={value} does nothing: {why}", warning=True)


def _fresh(view: View, annotation: str, seen: str | None) -> str | None:
    value = view.voice.metadata.annotations.get(annotation)
    return value if value and value != seen else None

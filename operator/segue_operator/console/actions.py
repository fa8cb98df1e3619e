"""What a person may ask for on the page: the same wishes, written in the same places, as the command line's.

Separate from the routes because here is what is refused and why. A wish names the voice as it was looked at (uid,
generation, and the revision that it is about), so that nobody approves what they never saw.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from segue.errors import SegueError
from segue.model import PROMOTE_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_ANNOTATION
from segue.model.edit import FieldPath
from segue.model.scalars import short
from segue_operator.console.attention import condition, is_paused
from segue_operator.console.source import Document

ACTIONS = ("promote", "pause", "resume", "rollback", "retry")

_ANNOTATIONS = {"promote": PROMOTE_ANNOTATION, "rollback": ROLLBACK_ANNOTATION, "retry": RETRY_ANNOTATION}
_WAITING_TO_BE_LET_OUT = frozenset({"AwaitingApproval", "ContinuityHold"})


class Refused(SegueError):
    """A wish that would do nothing, or something else than what was meant."""


class Wish(BaseModel):
    """Body of `POST /api/voices/NAMESPACE/NAME/actions`.

    Attributes
    ----------
    target
        The revision that the wish is about, as the person saw it; None: none was shown.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    action: str = Field(pattern="^(promote|pause|resume|rollback|retry)$")
    uid: str = Field(max_length=100)
    generation: int = Field(ge=0)
    target: str | None = Field(default=None, max_length=64)


def changes_for(wish: Wish, voice: Document) -> Mapping[FieldPath, Any]:
    """What to write into the voice as it is now.

    Raises
    ------
    Refused
        The voice is not what the person looked at, or the wish would do nothing.
    """
    metadata, status = voice["metadata"], voice.get("status") or {}
    if wish.uid != metadata.get("uid", ""):
        raise Refused("this voice was deleted and made anew since the page was drawn; look at it again")
    if wish.generation != metadata.get("generation", 0):
        raise Refused("somebody changed this voice since the page was drawn; look at it again")
    if (now := about(status)) != wish.target:
        raise Refused(f"this is about {short(wish.target)}, but it is {short(now)}'s turn by now; look at it again")
    if (why := refusal(wish.action, voice)) is not None:
        raise Refused(why)
    if wish.action in ("pause", "resume"):
        return {"spec.rollout.paused": wish.action == "pause"}
    return {("metadata", "annotations", _ANNOTATIONS[wish.action]): new_token()}


def about(status: Mapping[str, Any]) -> str | None:
    """The revision that a wish is about now: what is rolled out, else what is served."""
    found = status.get("targetRevision") if status.get("rollout") or status.get("rollback") else None
    return found or status.get("activeRevision")


def refusal(action: str, voice: Document) -> str | None:
    """Why this would do nothing now, None if it would."""
    status = voice.get("status") or {}
    match action:
        case "promote":
            return _no_promote(status)
        case "pause":
            return "it is paused already" if is_paused(voice) else None
        case "resume":
            return None if is_paused(voice) else "it is not paused"
        case "rollback":
            return _no_rollback(status)
        case _:
            stalled = condition(status, "Stalled").get("status") == "True"
            return None if stalled else "the version that the spec asks for has not failed"


def _no_promote(status: Mapping[str, Any]) -> str | None:
    phase, reason = status.get("phase", "Idle"), status.get("reason", "")
    if phase in ("Canary", "Flipping", "Watching") or reason in _WAITING_TO_BE_LET_OUT:
        return None
    if phase in ("Preloading", "Verifying"):
        return f"{short(status.get('targetRevision'))} has not passed its verification yet"
    return "nothing waits for it"


def _no_rollback(status: Mapping[str, Any]) -> str | None:
    phase, history = status.get("phase", "Idle"), status.get("history") or ()
    if phase == "RollingBack":
        return "a rollback is under way already"
    if status.get("rollout") is not None:
        first = not history and phase in ("Flipping", "Watching")
        return "this is the first version: there is nothing to go back to" if first else None
    return "there is no earlier version to go back to" if len(history) < 2 else None


def new_token() -> str:
    """A value that was never used before: a token acts once per value."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

"""`pause`, `resume`, `promote`, `rollback`, `retry`: what a person wants, written into the voice itself.

Into its YAML or its VoiceModel: an intent that is not there would be lost at the next restart, and nobody could see
afterwards that it was asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from segue.errors import SegueError
from segue.model import PROMOTE_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_ANNOTATION
from segue_cli.commands.wait import finish, parse_seconds
from segue_cli.console import say_line
from segue_cli.finding import VoiceArgument
from segue_cli.following import Goal, Lines, WayBack, wait_for
from segue_cli.place import Document, Edited, Place
from segue_cli.revisions import ago, short

WaitOption = Annotated[bool, typer.Option("--wait", help="Follow it until it is back, or cannot be.")]
TimeoutOption = Annotated[str, typer.Option(help="With --wait: how long, such as 10m.")]


class NoSuchRevision(SegueError):
    """A revision that the voice's history does not have."""


class NothingToGoBackTo(SegueError):
    """A rollback that would do nothing."""


def pause(place: Place, voice: VoiceArgument) -> None:
    """Begin nothing new with this voice (rollbacks still happen)."""
    key = place.key_of(voice)
    edited = place.edit(key, {"spec.rollout.paused": True})
    say_line(f"{voice} is paused ({edited.where}); go on with: {place.command('resume', key)}")


def resume(place: Place, voice: VoiceArgument) -> None:
    """Take a pause back."""
    edited = place.edit(place.key_of(voice), {"spec.rollout.paused": False})
    say_line(f"{voice} goes on ({edited.where})")


def promote(place: Place, voice: VoiceArgument) -> None:
    """Let a version out that waits for approval, or end its canary or watch early."""
    _ask_for("promote", place, place.key_of(voice), token=new_token())


def retry(place: Place, voice: VoiceArgument) -> None:
    """Try a version again that failed."""
    _ask_for("retry", place, place.key_of(voice), token=new_token())


def rollback(
    place: Place,
    voice: VoiceArgument,
    to: Annotated[str | None, typer.Option("--to", help="Revision of the history (its first digits).")] = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Go back to the previous version at once, or with --to to any version of the history.

    With --wait the exit code tells the outcome: 0 it is back, 3 something else is served, 4 the time ran out.
    """
    key = place.key_of(voice)
    if to is not None:
        _name_again(place, key, to, timeout_s=parse_seconds(timeout) if wait else None)
        return
    known = place.voice(key) if wait else place.ask(key)
    way = way_back(known["status"]) if known is not None else None
    if way is not None:
        say_line(f"{key}: {way.words}")
    token = new_token()
    _ask_for("rollback", place, key, token=token)
    if wait and way is not None:
        awaited = WayBack(token, way.to)
        finish(*wait_for(place, key, awaited, timeout_s=parse_seconds(timeout), show=Lines(say_line).show))


_ANNOTATIONS = {"promote": PROMOTE_ANNOTATION, "retry": RETRY_ANNOTATION, "rollback": ROLLBACK_ANNOTATION}


def _ask_for(wish: str, place: Place, key: str, *, token: str) -> Edited:
    edited = place.edit(key, {("metadata", "annotations", _ANNOTATIONS[wish]): token})
    say_line(f"{wish} was asked for ({edited.where}); follow it with: {place.command('watch', key)}")
    return edited


def new_token() -> str:
    """A value that was never used before: a token acts once per value."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a rollback leads from here.

    Attributes
    ----------
    to
        What will be served; None: nothing was served before.
    """

    words: str
    to: str | None


def way_back(status: Mapping[str, Any]) -> Way:
    """What a rollback would do now, as the engine decides it.

    Raises
    ------
    NothingToGoBackTo
        Nothing; the message says why.
    """
    history, phase = status["history"], status["phase"]
    if phase == "RollingBack":
        raise NothingToGoBackTo(f"a rollback is under way already: {status.get('message') or status.get('reason')}")
    if status.get("rollout"):
        bad, good = status.get("targetRevision"), history[0] if history else None
        if good is None and phase in ("Flipping", "Watching"):
            raise NothingToGoBackTo(f"{short(bad)} is the first version: there is nothing to go back to")
    elif len(history) < 2:
        raise NothingToGoBackTo("there is no earlier version to go back to")
    else:
        bad, good = history[0]["revision"], history[1]
    if good is None:
        return Way(f"{short(bad)} is given up; nothing was served before", None)
    return Way(f"{short(bad)} goes back to {_about(good)}", good["revision"])


def _about(entry: Mapping[str, Any]) -> str:
    files = ", ".join(f"{name} {source['uri'].rpartition('/')[2]}" for name, source in entry["weights"].items())
    return f"{short(entry['revision'])} ({files}; confirmed {ago(entry['since'])})"


def _name_again(place: Place, key: str, prefix: str, *, timeout_s: float | None) -> None:
    """Write a version of the history into the spec: a rollout of something that was good once."""
    voice = place.voice(key)
    entry = _from_history(voice, key, prefix)
    say_line(f"{key}: goes to {_about(entry)}")
    edited = place.edit(key, place.as_written(entry))
    say_line(f"{key} names it again ({edited.where}); follow it with: {place.command('watch', key)}")
    if timeout_s is not None:
        goal = Goal("Promoted", generation=edited.generation, revision=entry["revision"])
        finish(*wait_for(place, key, goal, timeout_s=timeout_s, show=Lines(say_line).show))


def _from_history(voice: Document, key: str, prefix: str) -> dict[str, Any]:
    history = voice["status"]["history"]
    matching = [entry for entry in history if entry["revision"].startswith(prefix.lower())]
    if len(matching) == 1:
        return dict(matching[0])
    listed = ", ".join(short(entry["revision"]) for entry in history) or "nothing"
    problem = "is not in its history" if not matching else "is more than one of its history"
    raise NoSuchRevision(f"{key}: {prefix!r} {problem}; there is: {listed}")

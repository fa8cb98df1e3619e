"""`pause`, `resume`, `promote`, `rollback`, `retry`: what a person wants, written into the voice's YAML.

The folder is the API server: an intent that is not in the file would be lost at the next restart, and nobody could see
afterwards who asked for it.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from segue.errors import SegueError
from segue.model import PROMOTE_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_ANNOTATION
from segue.model.edit import FieldPath
from segue_cli.client import OperatorClient
from segue_cli.console import say_line
from segue_cli.editing import edit_voice, subtrees_as_written
from segue_cli.finding import NamespaceOption, StateOption, VoiceArgument, VoicesOption, find_running, key_of
from segue_cli.revisions import short


class NoSuchRevision(SegueError):
    """A revision that the voice's history does not have."""


def pause(
    voice: VoiceArgument, namespace: NamespaceOption = "default", state: StateOption = None, voices: VoicesOption = None
) -> None:
    """Begin nothing new with this voice (rollbacks still happen)."""
    file = edit_voice(key_of(voice, namespace=namespace), {"spec.rollout.paused": True}, state=state, voices=voices)
    say_line(f"{voice} is paused ({file}); go on with: segue resume {voice}")


def resume(
    voice: VoiceArgument, namespace: NamespaceOption = "default", state: StateOption = None, voices: VoicesOption = None
) -> None:
    """Take a pause back."""
    file = edit_voice(key_of(voice, namespace=namespace), {"spec.rollout.paused": False}, state=state, voices=voices)
    say_line(f"{voice} goes on ({file})")


def promote(
    voice: VoiceArgument, namespace: NamespaceOption = "default", state: StateOption = None, voices: VoicesOption = None
) -> None:
    """Let a version out that waits for approval, or end its canary or watch early."""
    file = _annotate(voice, namespace, PROMOTE_ANNOTATION, state=state, voices=voices)
    say_line(f"promote was asked for ({file}); follow it with: segue watch {voice}")


def retry(
    voice: VoiceArgument, namespace: NamespaceOption = "default", state: StateOption = None, voices: VoicesOption = None
) -> None:
    """Try a version again that failed."""
    file = _annotate(voice, namespace, RETRY_ANNOTATION, state=state, voices=voices)
    say_line(f"retry was asked for ({file}); follow it with: segue watch {voice}")


def rollback(
    voice: VoiceArgument,
    to: Annotated[str | None, typer.Option("--to", help="Revision of the history (its first digits).")] = None,
    namespace: NamespaceOption = "default",
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """Go back to the previous version at once, or with --to to any version of the history."""
    key = key_of(voice, namespace=namespace)
    if to is None:
        file = _annotate(voice, namespace, ROLLBACK_ANNOTATION, state=state, voices=voices)
        say_line(f"rollback was asked for ({file}); follow it with: segue watch {voice}")
        return
    entry = _from_history(find_running(state, voices).client, key, to)
    file = edit_voice(key, lambda folder: _as_spec(entry, folder), state=state, voices=voices)
    say_line(f"{file} names {short(entry['revision'])} again; follow it with: segue watch {voice}")


def _annotate(voice: str, namespace: str, annotation: str, *, state: Path | None, voices: Path | None) -> Path:
    key = key_of(voice, namespace=namespace)
    changes: dict[FieldPath, Any] = {("metadata", "annotations", annotation): new_token()}
    return edit_voice(key, changes, state=state, voices=voices)


def new_token() -> str:
    """A value that was never used before: a token acts once per value."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _from_history(client: OperatorClient, key: str, prefix: str) -> dict[str, Any]:
    history = client.voice(key)["status"]["history"]
    matching = [entry for entry in history if entry["revision"].startswith(prefix.lower())]
    if len(matching) == 1:
        return dict(matching[0])
    listed = ", ".join(short(entry["revision"]) for entry in history) or "nothing"
    problem = "is not in its history" if not matching else "is more than one of its history"
    raise NoSuchRevision(f"{key}: {prefix!r} {problem}; there is: {listed}")


def _as_spec(entry: dict[str, Any], folder: Path) -> dict[FieldPath, Any]:
    return subtrees_as_written(entry, folder)

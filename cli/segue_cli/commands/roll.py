"""`segue roll VOICE`: new weights for a voice, in one command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from segue.errors import SegueError
from segue.model.documents import read_folder
from segue.model.edit import REMOVE, FieldPath
from segue_cli.commands.wait import finish, parse_seconds
from segue_cli.console import remark, say_line
from segue_cli.editing import edit_voice
from segue_cli.finding import (
    NamespaceOption,
    StateOption,
    VoiceArgument,
    VoicesOption,
    find_folder,
    find_running,
    find_running_or_none,
    key_of,
)
from segue_cli.following import Goal, Lines, wait_for

SEEN_WITHIN_S = 10.0


class NothingToRoll(SegueError):
    """No new file was named, or one that cannot be."""


def roll(
    voice: VoiceArgument,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", "-w", help="NAME=FILE, by the engine's name; repeatable.")
    ] = None,
    prosody: Annotated[str | None, typer.Option(help="Short for --weights prosody=FILE (demo).")] = None,
    timbre: Annotated[str | None, typer.Option(help="Short for --weights timbre=FILE (demo).")] = None,
    gpt: Annotated[str | None, typer.Option(help="Short for --weights gpt=FILE (gpt-sovits).")] = None,
    sovits: Annotated[str | None, typer.Option(help="Short for --weights sovits=FILE (gpt-sovits).")] = None,
    reference: Annotated[str | None, typer.Option(help="A new reference recording.")] = None,
    reference_text: Annotated[str | None, typer.Option(help="What is said in it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is confirmed or taken back.")] = False,
    timeout: Annotated[str, typer.Option(help="With --wait: how long, such as 10m.")] = "30m",
    namespace: NamespaceOption = "default",
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """Give a voice new weights: edits its YAML; a running segue up does the rest.

    With --wait the exit code tells the outcome: 0 confirmed, 3 refused or taken back, 4 the time ran out.

    Example: [bold]segue roll narrator --prosody v2/prosody.pth --timbre v2/timbre.pth --wait[/bold]
    """
    key = key_of(voice, namespace=namespace)
    named = {"prosody": prosody, "timbre": timbre, "gpt": gpt, "sovits": sovits}
    files = {name: file for name, file in named.items() if file} | dict(_pair(each) for each in weights or ())
    if not files and reference is None:
        raise NothingToRoll("name at least one new file, such as --weights timbre=v2/timbre.pth")
    _require_names(key, files, find_folder(state, voices))
    before = _generation(key, state, voices) if wait else 0

    def changes(folder: Path) -> dict[FieldPath, Any]:
        return _changes(files, reference, reference_text, folder)

    file = edit_voice(key, changes, state=state, voices=voices)
    say_line(f"{file} names the new files; follow it with: segue watch {voice}")
    if wait:
        _wait(key, before, timeout, state, voices)
    elif find_running_or_none(state, voices) is None:
        remark("no segue up runs on this folder: nothing happens until one does")


def _pair(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise NothingToRoll(f"weights are named NAME=FILE, not {text!r}")
    return name, file


def _require_names(key: str, files: Mapping[str, str], folder: Path) -> None:
    """A new name beside the ones that are there would make a version that no engine can read."""
    for located in read_folder(folder).voices:
        unknown = sorted(files.keys() - located.voice.spec.weights.keys())
        if located.voice.key == key and unknown:
            known = ", ".join(located.voice.spec.weights)
            raise NothingToRoll(f"{key} has no weights named {', '.join(unknown)}; it has: {known}")


def _changes(
    files: Mapping[str, str], reference: str | None, reference_text: str | None, folder: Path
) -> dict[FieldPath, Any]:
    changes: dict[FieldPath, Any] = {}
    for name, file in files.items():
        changes[f"spec.weights.{name}.uri"] = as_uri(file, folder)
        changes[f"spec.weights.{name}.sha256"] = digest_or_remove(file)
    if reference is not None:
        changes["spec.reference.uri"] = as_uri(reference, folder)
        changes["spec.reference.sha256"] = digest_or_remove(reference)
        changes["spec.reference.text"] = reference_text if reference_text is not None else REMOVE
    return changes


def as_uri(file: str, folder: Path) -> str:
    """What is written into a YAML of this folder for a file that was named on the command line.

    Raises
    ------
    NothingToRoll
        A local file that is not there.
    """
    if urlsplit(file).scheme:
        return file
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise NothingToRoll(f"{file} is not a file; name the new weights")
    resolved = path.resolve()
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else resolved.as_uri()


def digest_or_remove(file: str) -> Any:
    """A digest that stands in the YAML belongs to the old file; the operator computes the new one's."""
    if urlsplit(file).scheme not in ("", "file"):
        raise NothingToRoll(f"{file} is not local: its sha256 must stand in the YAML; edit the file instead")
    return REMOVE


def _generation(key: str, state: Path | None, voices: Path | None) -> int:
    return int(find_running(state, voices).client.voice(key)["metadata"]["generation"])


def _wait(key: str, before: int, timeout: str, state: Path | None, voices: Path | None) -> None:
    client = find_running(state, voices).client
    lines = Lines(say_line)
    seen = Goal("Promoted", generation=before + 1)
    outcome, message = wait_for(client, key, seen, timeout_s=parse_seconds(timeout), show=lines.show)
    finish(outcome, message)

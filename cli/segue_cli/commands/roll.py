"""`segue roll VOICE`: new weights for a voice, in one command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from segue.model.edit import REMOVE, FieldPath
from segue_cli.commands.wait import finish, parse_seconds
from segue_cli.console import say_line
from segue_cli.finding import VoiceArgument
from segue_cli.following import Goal, Lines, wait_for
from segue_cli.place import NothingToRoll, Place


def roll(
    place: Place,
    voice: VoiceArgument,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", "-w", help="NAME=FILE or NAME=URI@SHA256; repeatable.")
    ] = None,
    prosody: Annotated[str | None, typer.Option(help="Short for --weights prosody=FILE (demo).")] = None,
    timbre: Annotated[str | None, typer.Option(help="Short for --weights timbre=FILE (demo).")] = None,
    gpt: Annotated[str | None, typer.Option(help="Short for --weights gpt=FILE (gpt-sovits).")] = None,
    sovits: Annotated[str | None, typer.Option(help="Short for --weights sovits=FILE (gpt-sovits).")] = None,
    reference: Annotated[str | None, typer.Option(help="A new reference recording.")] = None,
    reference_text: Annotated[str | None, typer.Option(help="What is said in it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is confirmed or taken back.")] = False,
    timeout: Annotated[str, typer.Option(help="With --wait: how long, such as 10m.")] = "30m",
) -> None:
    """Give a voice new weights: edits its YAML, or in a cluster its VoiceModel; the operator does the rest.

    With --wait the exit code tells the outcome: 0 confirmed, 3 refused or taken back, 4 the time ran out.

    Example: [bold]segue roll narrator --prosody v2/prosody.pth --timbre v2/timbre.pth --wait[/bold]
    """
    key = place.key_of(voice)
    named = {"prosody": prosody, "timbre": timbre, "gpt": gpt, "sovits": sovits}
    files = {name: file for name, file in named.items() if file} | dict(_pair(each) for each in weights or ())
    if not files and reference is None:
        raise NothingToRoll("name at least one new file, such as --weights timbre=v2/timbre.pth")
    _require_names(key, files, place.weights_of(key))
    changes = _changes(place, files, reference, reference_text)
    if wait:
        place.voice(key)  # somebody must be there to tell how it goes
    edited = place.edit(key, changes)
    say_line(f"{voice} names the new files ({edited.where}); follow it with: {place.command('watch', key)}")
    if wait:
        seen = Goal("Promoted", generation=edited.generation)
        finish(*wait_for(place, key, seen, timeout_s=parse_seconds(timeout), show=Lines(say_line).show))


def _pair(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise NothingToRoll(f"weights are named NAME=FILE, not {text!r}")
    return name, file


def _require_names(key: str, files: Mapping[str, str], known: tuple[str, ...]) -> None:
    """A new name beside the ones that are there would make a version that no engine can read."""
    unknown = sorted(files.keys() - set(known))
    if unknown:
        raise NothingToRoll(f"{key} has no weights named {', '.join(unknown)}; it has: {', '.join(known)}")


def _changes(
    place: Place, files: Mapping[str, str], reference: str | None, reference_text: str | None
) -> dict[FieldPath, Any]:
    changes: dict[FieldPath, Any] = {}
    for name, file in files.items():
        changes |= place.source(f"weights.{name}", file)
    if reference is not None:
        changes |= place.source("reference", reference)
        changes["spec.reference.text"] = reference_text if reference_text is not None else REMOVE
    return changes

"""`segue calibrate VOICE`: which similarity should this voice ask for?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segue.errors import SegueError
from segue.model.edit import FieldPath
from segue_cli.commands.files import local_file
from segue_cli.console import print_json, remark, say_line
from segue_cli.editing import edit_voice
from segue_cli.finding import NamespaceOption, StateOption, VoiceArgument, VoicesOption, find_folder, key_of


class CannotCalibrate(SegueError):
    """A voice without a recording to calibrate with."""


def calibrate(
    voice: VoiceArgument,
    write: Annotated[bool, typer.Option("--write", help="Write the threshold into the YAML.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All figures, for programs.")] = False,
    namespace: NamespaceOption = "default",
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """Measure how like itself and how like other voices a voice is, and suggest its minSimilarity.

    Compares pieces of its reference recording with each other, and with the references of the other voices of the
    folder and some that ship with Segue.
    """
    from segue_engines.probes.calibrate import builtin_voices
    from segue_engines.probes.calibrate import calibrate as measure

    key = key_of(voice, namespace=namespace)
    references = _references(find_folder(state, voices))
    if key not in references:
        known = ", ".join(sorted(references)) or "none"
        raise CannotCalibrate(f"{key} has no local reference recording; voices that have one: {known}")
    others: dict[str, list[Any]] = {name: [each] for name, each in builtin_voices().items()}
    others |= {name: _pieces(path) for name, path in references.items() if name != key}
    found = measure(_pieces(references[key]), others)
    if as_json:
        print_json({"voice": key, **found.to_json()})
    else:
        _report(key, found)
    if write:
        if not found.separable:
            raise CannotCalibrate(f"{key}: {found.message}; nothing was written")
        changes: dict[FieldPath, Any] = {"spec.verification.minSimilarity": found.threshold}
        remark(f"written to {edit_voice(key, changes, state=state, voices=voices)}")


def _report(key: str, found: Any) -> None:
    same, other = found.same_speaker, found.other_speakers
    say_line(f"{key}")
    say_line(f"  same speaker    {same.lowest:.3f} to {same.highest:.3f}, mean {same.mean:.3f} ({same.count} pairs)")
    say_line(
        f"  other speakers  {other.lowest:.3f} to {other.highest:.3f}, mean {other.mean:.3f} ({other.count} pairs)"
    )
    say_line(f"  nearest other   {found.nearest}")
    say_line(f"  suggested       minSimilarity: {found.threshold}")
    say_line(f"  {found.message}")


def _references(folder: Path) -> dict[str, Path]:
    from segue.model.documents import read_folder

    found = {}
    for located in read_folder(folder).voices:
        reference = located.voice.spec.reference
        path = local_file(reference.uri, located.file) if reference is not None else None
        if path is not None and path.is_file():
            found[located.voice.key] = path
    return found


def _pieces(path: Path) -> list[Any]:
    import soundfile

    from segue_engines.probes.calibrate import pieces_of

    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise CannotCalibrate(f"{path} cannot be read as audio: {error}") from error
    return list(pieces_of(audio.mean(axis=1), rate))

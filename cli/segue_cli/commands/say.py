"""`segue say TEXT`: one sentence, from a running server or from the engine in this process.

Imports almost nothing at the top: without a server the whole command should take less than three seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from segue.errors import SegueError
from segue_cli.console import remark
from segue_cli.finding import StateOption, VoicesOption, find_running_or_none
from segue_cli.speech import Spoken, Wish

PLAYERS = (
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
)


class Format(StrEnum):
    """Audio formats."""

    WAV = "wav"
    MP3 = "mp3"
    OPUS = "opus"
    FLAC = "flac"
    AAC = "aac"
    PCM = "pcm"


class CannotSay(SegueError):
    """A request that makes no sense."""


def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.")],
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="File to write; - is stdout. [default: speech.wav]")
    ] = None,
    voice: Annotated[
        str | None, typer.Option("--voice", "-v", help="Which voice; default: narrator, or the first.")
    ] = None,
    server: Annotated[str | None, typer.Option(envvar="SEGUE_SERVER", help="URL of a speech API.")] = None,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: by the file's name, else wav.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.25, max=4.0, help="Pace.")] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed says it the same way.")] = None,
    play: Annotated[bool, typer.Option("--play", help="Play it as well.")] = False,
    api_key: Annotated[str | None, typer.Option(envvar="SEGUE_API_KEY", help="Key of the speech API.")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, even where a segue up runs.")] = False,
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """Say something: through a running segue up (or --server), else with the engine in this process.

    Example: [bold]segue say "Hello." -o hello.wav[/bold]
    """
    began = time.monotonic()
    wish = Wish(
        text=_text(text), voice=voice, format=_format(format, out).value, speed=speed, seed=seed, api_key=api_key
    )
    where = server or (None if local else _running_server(state, voices))
    if where is not None:
        from segue_cli.speech import over_http

        spoken = over_http(where, wish)
    else:
        from segue_cli.speech import in_process

        spoken = in_process(wish, voices=voices)
    file = _write(spoken, out or f"speech.{wish.format}")
    remark(f"{file or 'stdout'}: {spoken.description}, in {time.monotonic() - began:.1f} s")
    if play:
        _play(file)


def _text(text: str) -> str:
    text = sys.stdin.read() if text == "-" else text
    if not text.strip():
        raise CannotSay("there is nothing to say: the text is empty")
    return text


def _format(wanted: Format | None, out: str | None) -> Format:
    if wanted is not None:
        return wanted
    suffix = Path(out).suffix.lstrip(".").lower() if out and out != "-" else ""
    if suffix in (each.value for each in Format):
        return Format(suffix)
    if suffix and suffix != "ogg":
        known = ", ".join(each.value for each in Format)
        raise CannotSay(f"{out}: no audio format ends in .{suffix}; use one of {known}, or say --format")
    return Format.OPUS if suffix == "ogg" else Format.WAV


def _running_server(state: Path | None, voices: Path | None) -> str | None:
    running = find_running_or_none(state, voices)
    return running.server if running is not None else None


def _write(spoken: Spoken, out: str) -> Path | None:
    if out == "-":
        sys.stdout.buffer.write(spoken.audio)
        sys.stdout.buffer.flush()
        return None
    file = Path(out)
    try:
        file.write_bytes(spoken.audio)
    except OSError as error:
        raise CannotSay(f"{file} cannot be written: {error.strerror or error}") from error
    return file


def _play(file: Path | None) -> None:
    if file is None:
        raise CannotSay("--play needs a file; leave out -o -")
    for player in PLAYERS:
        if shutil.which(player[0]):
            subprocess.run([*player, str(file)], check=False)
            return
    remark(f"no player found (one of {', '.join(player[0] for player in PLAYERS)}); the audio is in {file}")

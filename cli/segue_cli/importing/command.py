"""`segue import FOLDER`: VoiceModel files for the voices of a GPT-SoVITS folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segue_cli.console import print_json, remark, rich_console, say_line
from segue_cli.exits import EXIT_FAILED
from segue_cli.importing.document import CannotImport, Outcome, sha256_of, voice_text, write_voice
from segue_cli.importing.pairs import GPT_FOLDER, SOVITS_FOLDER, Epochs
from segue_cli.importing.report import Imported, as_json, show
from segue_cli.importing.survey import Candidate, survey
from segue_cli.shared_models import models_in, write_note


def import_voices(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of GPT-SoVITS, with its weight folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the VoiceModel files.")] = Path("voices"),
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this voice; may be repeated.")] = None,
    epoch: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Epoch instead of the highest: N, gpt=N or sovits=N; may be repeated."),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--list", metavar="FILE", help="File with lines path|speaker|language|text; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that say something else.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, hash and write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The outcome for programs, on stdout.")] = False,
) -> None:
    """Write a VoiceModel for each voice of a GPT-SoVITS folder: its two weight files and a recording, with digests.

    The weights stay where they are. Files that make no voice are listed with the reason; exit code 1 if nothing was
    imported, if a voice that was asked for was not, or if a file was kept.

    Example: [bold]segue import ~/GPT-SoVITS --out voices[/bold]
    """
    root = _root(folder)
    names = tuple(only or ())
    with _looking() as looking_at:
        found = survey(
            root,
            epochs=Epochs.parse(epoch or ()),
            only=names,
            lists=[_existing(each) for each in lists or ()],
            looking_at=looking_at,
        )
    voices = _planned(found.candidates, out) if dry_run else _written(found.candidates, out, root=root, force=force)
    models = models_in(root)
    if voices and models is not None and not dry_run:
        write_note(out, models)
    if json:
        print_json(as_json(voices, found))
    else:
        show(voices, found)
        if models is not None:
            say_line(next(models.lines))
        _say_next(voices, out, root, pairs=found.pairs)
    if not voices or any(voice.outcome is Outcome.KEPT for voice in voices) or _absent(names, voices):
        raise typer.Exit(EXIT_FAILED)


def _root(folder: Path) -> Path:
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise CannotImport(f"{folder} is not a folder; name the one that holds {GPT_FOLDER} and {SOVITS_FOLDER}")
    if not any(place.is_dir() for name in (GPT_FOLDER, SOVITS_FOLDER) for place in root.glob(f"{name}*")):
        raise CannotImport(f"{folder} holds neither {GPT_FOLDER}* nor {SOVITS_FOLDER}*; name the folder of GPT-SoVITS")
    return root


def _existing(file: Path) -> Path:
    found = file.expanduser().resolve()
    if not found.is_file():
        raise CannotImport(f"--list: {file} does not exist")
    return found


def _planned(candidates: Sequence[Candidate], out: Path) -> list[Imported]:
    return [
        Imported(candidate=each, path=out / f"{each.pair.label}.yaml", outcome=Outcome.PLANNED) for each in candidates
    ]


def _written(candidates: Sequence[Candidate], out: Path, *, root: Path, force: bool) -> list[Imported]:
    if candidates:
        _make(out)
    voices: list[Imported] = []
    with _hashing(candidates) as digest:
        for candidate in candidates:
            path = out / f"{candidate.pair.label}.yaml"
            try:
                text = voice_text(candidate, digest=digest, root=root)
            except OSError as error:
                raise CannotImport(f"{error.filename} cannot be read: {error.strerror or error}") from error
            voices.append(Imported(candidate=candidate, path=path, outcome=write_voice(path, text, replace=force)))
    return voices


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotImport(f"{out} cannot be made: {error.strerror or error}") from error


@contextmanager
def _looking() -> Iterator[Callable[[str], None]]:
    """A line that says whose files are being looked at, where a terminal shows it."""
    console = rich_console(stderr=True)
    with console.status("looking for voices") as status:
        from rich.markup import escape

        yield lambda name: status.update(f"looking at {escape(name)}")


@contextmanager
def _hashing(candidates: Sequence[Candidate]) -> Iterator[Callable[[Path], str]]:
    """A function that hashes each file once, with a bar where a terminal shows it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    files = {
        path.resolve()
        for each in candidates
        for path in (each.pair.gpt.path, each.pair.sovits.path, each.recording.path)
    }
    known: dict[Path, str] = {}
    columns = (TextColumn("hashing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=rich_console(stderr=True), transient=True) as bar:
        task = bar.add_task("hashing", total=sum(path.stat().st_size for path in files))

        def digest(path: Path) -> str:
            if path not in known:
                known[path] = sha256_of(path, partial(bar.advance, task))
            return known[path]

        yield digest


def _absent(names: Sequence[str], voices: Sequence[Imported]) -> bool:
    there = {name for voice in voices for name in (voice.candidate.pair.name, voice.candidate.pair.label)}
    absent = [name for name in names if name not in there]
    for name in absent:
        remark(f"{name} was not imported")
    return bool(absent)


def _say_next(voices: Sequence[Imported], out: Path, root: Path, *, pairs: int) -> None:
    if not voices:
        remark(f"no voice in {root} could be imported ({pairs} pair{'' if pairs == 1 else 's'} looked at)")
        return
    say_line(f"{len(voices)} voice{'' if len(voices) == 1 else 's'}; serve them with: {_up_line(voices, out, root)}")


def _up_line(voices: Sequence[Imported], out: Path, root: Path) -> str:
    """The command that serves them: it must be allowed to read the folder, and wherever links in it lead to."""
    import shlex

    files = [
        path.resolve()
        for voice in voices
        for path in (
            voice.candidate.pair.gpt.path,
            voice.candidate.pair.sovits.path,
            voice.candidate.recording.path,
        )
    ]
    folders = _outermost({root if path.is_relative_to(root) else path.parent for path in files})
    allowed = " ".join(f"--allow {shlex.quote(str(folder))}" for folder in folders)
    return f"segue up {shlex.quote(str(out))} {allowed}"


def _outermost(folders: set[Path]) -> list[Path]:
    return sorted(folder for folder in folders if not any(other in folder.parents for other in folders))

"""`validate`, `pin`, `crd`: work on files, nothing needs to run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from segue.errors import InvalidVoiceModel, SegueError
from segue.model import VoiceModel, missing_digests
from segue.model.documents import SUFFIXES, DocumentSet, LocatedVoice, read_documents
from segue.model.edit import FieldPath, edit_yaml
from segue_cli.console import complain, remark, say_line
from segue_cli.exits import EXIT_FAILED

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files, or folders of them.")]


class CannotPin(SegueError):
    """A file whose digest cannot be computed here."""


def validate(files: FilesArgument) -> None:
    """Check VoiceModel files. Every mistake is one line, file:line: field: message; exit code 1 if there is any."""
    voices, mistakes = 0, 0
    for path in _expand(files):
        found = read_documents(path)
        for mistake in (*found.mistakes, *_missing_files(found)):
            say_line(str(mistake))
            mistakes += 1
        for note in found.notes:
            remark(note)
        voices += len(found.voices)
    if not voices and not mistakes:
        complain("no VoiceModel in there")
        raise typer.Exit(EXIT_FAILED)
    if mistakes:
        remark(f"{mistakes} mistake{'s' if mistakes > 1 else ''}")
        raise typer.Exit(EXIT_FAILED)
    say_line(f"{voices} voice{'s' if voices > 1 else ''}, no mistakes")


def pin(
    files: FilesArgument,
    refresh: Annotated[bool, typer.Option("--refresh", help="Replace digests that stand there already.")] = False,
) -> None:
    """Write the sha256 of local weights into the YAML, comments kept: then only exactly these files are served."""
    for path in _expand(files):
        found = read_documents(path)
        if found.mistakes:
            raise found.mistakes[0]
        for located in found.voices:
            changes = _digests(located, refresh=refresh)
            edit_yaml(path, located.voice.key, changes)
            say_line(f"{path}: {located.voice.key}: {len(changes)} digest{'s' if len(changes) != 1 else ''} written")


def crd(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where files are not up to date.")
    ] = False,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write to; - is stdout.")] = Path("crds"),
) -> None:
    """Write the CustomResourceDefinition of VoiceModel."""
    from segue.model.crd import FILE_NAME, render_crd

    content = render_crd()
    if str(out) == "-":
        say_line(content.rstrip())
        return
    target = out / FILE_NAME
    if check:
        if not target.exists() or target.read_text(encoding="utf-8") != content:
            raise SegueError(f"{target} is not up to date; run: segue crd")
        say_line(f"{target} is up to date")
        return
    out.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")
    say_line(str(target))


def _expand(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.name[0] != ".")
        else:
            yield path


def _missing_files(found: DocumentSet) -> Iterator[InvalidVoiceModel]:
    """Local weights that are not there: not a mistake of form, but what `segue up` will say first."""
    for located in found.voices:
        for field, uri in _sources(located.voice):
            path = local_file(uri, located.file)
            if path is not None and not path.is_file():
                yield InvalidVoiceModel(
                    f"{path} does not exist", file=str(located.file), line=located.line, field=f"spec.{field}.uri"
                )


def _sources(voice: VoiceModel) -> Iterator[tuple[str, str]]:
    for name, source in voice.spec.weights.items():
        yield f"weights.{name}", source.uri
    if voice.spec.reference is not None:
        yield "reference", voice.spec.reference.uri


def _digests(located: LocatedVoice, *, refresh: bool) -> dict[FieldPath, Any]:
    missing = missing_digests(located.voice.spec)
    wanted = dict(_sources(located.voice)) if refresh else missing
    changes: dict[FieldPath, Any] = {}
    for field, uri in wanted.items():
        path = local_file(uri, located.file)
        if path is None:
            if field in missing:
                raise CannotPin(f"{located.file}: spec.{field}: {uri} is not local; write its sha256 by hand")
            continue
        changes[f"spec.{field}.sha256"] = _sha256(path, located, field)
    return changes


def _sha256(path: Path, located: LocatedVoice, field: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CannotPin(f"{located.file}: spec.{field}.uri: {path} cannot be read: {error.strerror}") from error


def local_file(uri: str, yaml: Path) -> Path | None:
    """The local file behind a URI of a YAML file, None for a remote one."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else yaml.parent / uri

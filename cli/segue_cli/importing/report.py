"""What `segue import` says: a table of voices, what became none and why, and what the shared models' absence costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue_cli.console import remark, rich_console
from segue_cli.importing.document import Outcome
from segue_cli.importing.pairs import Problem, WeightFile
from segue_cli.importing.survey import Candidate, Survey
from segue_engines.gpt_sovits.models.catalog import FoundModel

_STYLES = {
    Outcome.WRITTEN: "green",
    Outcome.REPLACED: "green",
    Outcome.UNCHANGED: "",
    Outcome.KEPT: "yellow",
    Outcome.PLANNED: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A voice and what became of its file."""

    candidate: Candidate
    path: Path
    outcome: Outcome


def show(voices: Sequence[Imported], found: Survey) -> None:
    """For people."""
    if voices:
        _voices(voices)
    if found.problems:
        _problems(found.problems, apart=bool(voices))
    for model in found.models:
        if model.path is None:
            remark(f"{model.model.title}: {model.missing}; without it: {model.model.disables}")
    if any(voice.outcome is Outcome.KEPT for voice in voices):
        remark(
            "kept: a file of that name says something else; --force replaces it, segue roll changes only its weights"
        )


def as_json(voices: Iterable[Imported], found: Survey) -> dict[str, Any]:
    """For programs."""
    return {
        "voices": [_voice_json(voice) for voice in voices],
        "problems": [{"what": each.what, "name": each.name, "reason": each.reason} for each in found.problems],
        "models": [_model_json(model) for model in found.models],
    }


def _voice_json(voice: Imported) -> dict[str, Any]:
    pair, recording = voice.candidate.pair, voice.candidate.recording
    return {
        "voice": pair.label,
        "name": pair.name,
        "version": str(voice.candidate.version),
        "gpt": str(pair.gpt.path),
        "sovits": str(pair.sovits.path),
        "reference": str(recording.path),
        "file": str(voice.path),
        "outcome": str(voice.outcome),
    }


def _model_json(found: FoundModel) -> dict[str, Any]:
    path = str(found.path) if found.path is not None else None
    return {"name": found.model.title, "path": path, "missing": found.missing, "disables": found.model.disables}


def _voices(voices: Sequence[Imported]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("VOICE", "NAME", "VERSION", "GPT", "SOVITS", "REFERENCE", "FILE"):
        table.add_column(column, overflow="fold")
    for voice in voices:
        pair, recording = voice.candidate.pair, voice.candidate.recording
        reference = f"{recording.path.name} ({recording.duration_s:.1f} s, {recording.language})"
        cells = [
            pair.label,
            pair.name,
            str(voice.candidate.version),
            _numbers(pair.gpt),
            _numbers(pair.sovits),
            reference,
        ]
        table.add_row(*map(Text, cells), Text(str(voice.outcome), style=_STYLES[voice.outcome]))
    rich_console().print(table)


def _numbers(file: WeightFile) -> str:
    return f"e{file.epoch} s{file.step}" if file.step else f"e{file.epoch}"


def _problems(problems: Sequence[Problem], *, apart: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NO VOICE", overflow="fold", max_width=48)
    table.add_column("WHY", overflow="fold")
    for problem in problems:
        table.add_row(Text(problem.what), Text(problem.reason))
    console = rich_console()
    if apart:
        console.print()
    console.print(table)
    console.print()

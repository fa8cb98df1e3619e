"""What of a folder can become voices: pairs whose files are readable and served, with a recording of each.

Separate from the writing so that `--dry-run` is this part and nothing else. It reads what is in the heads of the weight
files, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from segue.errors import WeightsError
from segue_cli.importing.pairs import Epochs, Pair, Problem, pair_up, weight_files
from segue_cli.importing.recordings import (
    Duration,
    Lists,
    NoRecording,
    Recording,
    Recordings,
    find_lists,
    read_duration,
)
from segue_engines.gpt_sovits.formats import ModelVersion, open_sovits, open_t2s
from segue_engines.gpt_sovits.models.catalog import FoundModel, find_models

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A voice that can be written down."""

    pair: Pair
    version: ModelVersion
    recording: Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found.

    Attributes
    ----------
    pairs
        How many there were to look at.
    """

    candidates: list[Candidate]
    problems: list[Problem]
    models: list[FoundModel]
    pairs: int


def survey(
    root: Path,
    *,
    epochs: Epochs,
    only: Collection[str] = (),
    lists: Iterable[Path] = (),
    looking_at: Progress = lambda _: None,
    duration: Duration = read_duration,
) -> Survey:
    """Look through a folder of GPT-SoVITS.

    Parameters
    ----------
    only
        Names or labels of the voices that are wanted; empty: all.
    lists
        Further `*.list` files; where they know a voice, those of the folder are not asked.
    looking_at
        Told the name of each voice before its files are opened.
    """
    gpt, sovits, problems = weight_files(root)
    pairs, unpaired = pair_up(gpt, sovits, epochs=epochs, root=root)
    recordings = Recordings(root=root, lists=(Lists.of(lists), Lists.of(find_lists(root))), duration=duration)
    problems += [Problem(what=str(path), reason=reason) for each in recordings.lists for path, reason in each.unread]
    problems += [problem for problem in unpaired if not only or problem.name in only]
    wanted = [pair for pair in pairs if not only or {pair.name, pair.label} & set(only)]
    candidates: list[Candidate] = []
    for pair in wanted:
        looking_at(pair.name)
        found = _examined(pair, recordings, root)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            candidates.append(found)
    return Survey(candidates=candidates, problems=problems, models=find_models(root), pairs=len(wanted))


def _examined(pair: Pair, recordings: Recordings, root: Path) -> Candidate | Problem:
    """Open both files, without reading their weights, and find a recording."""
    opening = pair.sovits.path
    try:
        with open_sovits(opening) as opened:
            version = opened.version
        opening = pair.gpt.path
        with open_t2s(opening):
            pass
    except WeightsError as error:
        reason = str(error).removeprefix(f"{opening.name}: ")
        return Problem(what=str(opening.relative_to(root)), reason=reason, name=pair.name)
    recording = recordings.of_voice(pair.name)
    if isinstance(recording, NoRecording):
        return Problem(what=str(pair.sovits.path.relative_to(root)), reason=recording.reason, name=pair.name)
    return Candidate(pair=pair, version=version, recording=recording)

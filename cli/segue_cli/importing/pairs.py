"""Which two files make a voice, by their names alone.

Separate because it opens nothing. GPT-SoVITS writes `GPT_weights*/NAME-eN.ckpt` and `SoVITS_weights*/NAME_eN_sM.pth`,
one of each for every few epochs, in folders that end in the version they were trained for. A voice is a NAME in one of
the SoVITS folders; its other half comes from the GPT folder of the same ending, else from any, since that half is the
same network in all versions that are served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from segue.errors import SegueError
from segue_cli.importing.names import Called, distinct_labels

GPT_FOLDER: Final = "GPT_weights"
SOVITS_FOLDER: Final = "SoVITS_weights"
_GPT_FILE: Final = re.compile(r"(?P<name>.+)-e(?P<epoch>[0-9]{1,9})\.ckpt", re.DOTALL)
_SOVITS_FILE: Final = re.compile(
    r"(?P<name>.+)_e(?P<epoch>[0-9]{1,9})_s(?P<step>[0-9]{1,12})(?:_l[0-9]+)?\.pth", re.DOTALL
)


class InvalidEpoch(SegueError):
    """An `--epoch` that cannot mean anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """A file whose name says what it is.

    Attributes
    ----------
    ending
        What follows `GPT_weights` or `SoVITS_weights` in its folder's name, without the underscore.
    """

    path: Path
    name: str
    ending: str
    epoch: int
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """The epochs that were asked for; None: the highest there is."""

    gpt: int | None = None
    sovits: int | None = None

    @classmethod
    def parse(cls, wishes: Iterable[str]) -> Epochs:
        """Read `8` (both halves), `gpt=10`, `sovits=8`.

        Raises
        ------
        InvalidEpoch
            Anything else.
        """
        found: dict[str, int] = {}
        for wish in wishes:
            half, _, number = wish.rpartition("=")
            if half not in ("", "gpt", "sovits") or not re.fullmatch(r"[0-9]{1,9}", number):
                raise InvalidEpoch(f"--epoch is a number, gpt=NUMBER or sovits=NUMBER, not {wish!r}")
            found |= {each: int(number) for each in ((half,) if half else ("gpt", "sovits"))}
        return cls(**found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two files that make a voice, and what it will be called."""

    label: str
    name: str
    gpt: WeightFile
    sovits: WeightFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that does not become a voice.

    Attributes
    ----------
    what
        A file or a folder, relative to the root.
    name
        The speaker that it is about, if the file's name says so.
    """

    what: str
    reason: str
    name: str | None = None


def weight_files(root: Path) -> tuple[list[WeightFile], list[WeightFile], list[Problem]]:
    """GPT files, SoVITS files, and those that are named in no known way."""
    gpt, strange_gpt = _named(root, GPT_FOLDER, ".ckpt", _GPT_FILE, "NAME-eN.ckpt")
    sovits, strange_sovits = _named(root, SOVITS_FOLDER, ".pth", _SOVITS_FILE, "NAME_eN_sM.pth")
    return gpt, sovits, [*strange_gpt, *strange_sovits]


def pair_up(
    gpt: Sequence[WeightFile], sovits: Sequence[WeightFile], *, epochs: Epochs, root: Path
) -> tuple[list[Pair], list[Problem]]:
    """Choose the files of each voice; in the order of their labels."""
    labels = _labels(sovits)
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for (name, ending), files in sorted(_groups(sovits).items()):
        halves = [each for each in gpt if each.name == name]
        best_sovits = _best(files, epochs.sovits)
        best_gpt = _best(_nearest(halves, ending), epochs.gpt)
        if best_sovits is None or best_gpt is None:
            problems.append(_unpaired(files, halves, epochs, root, sovits_is_there=best_sovits is not None))
            continue
        pairs.append(Pair(label=labels[name, ending], name=name, gpt=best_gpt, sovits=best_sovits))
    problems += _alone(gpt, sovits, root)
    return sorted(pairs, key=lambda pair: pair.label), problems


def _named(
    root: Path, folder: str, suffix: str, pattern: re.Pattern[str], form: str
) -> tuple[list[WeightFile], list[Problem]]:
    files: list[WeightFile] = []
    problems: list[Problem] = []
    for place in sorted(root.glob(f"{folder}*")):
        if not place.is_dir():
            continue
        ending = place.name.removeprefix(folder).strip("_-")
        for path in sorted(place.iterdir()):
            if path.suffix != suffix or path.name.startswith(".") or not path.is_file():
                continue
            match = pattern.fullmatch(path.name) if path.name.isprintable() else None
            if match is None:
                reason = f"is not named as the trainer names its files ({form}); rename it"
                problems.append(Problem(what=ascii(path.name), reason=reason))
                continue
            numbers = match.groupdict()
            files.append(
                WeightFile(
                    path=path,
                    name=numbers["name"],
                    ending=ending,
                    epoch=int(numbers["epoch"]),
                    step=int(numbers.get("step", 0)),
                )
            )
    return files, problems


def _groups(files: Iterable[WeightFile]) -> dict[tuple[str, str], list[WeightFile]]:
    groups: dict[tuple[str, str], list[WeightFile]] = {}
    for file in files:
        groups.setdefault((file.name, file.ending), []).append(file)
    return groups


def _labels(sovits: Sequence[WeightFile]) -> dict[tuple[str, str], str]:
    """Voices of one name in several folders are told apart by the folders' endings."""
    endings: dict[str, set[str]] = {}
    for file in sovits:
        endings.setdefault(file.name, set()).add(file.ending)
    called = {
        (name, ending): Called(name, ending if len(endings[name]) > 1 else "") for name, ending in _groups(sovits)
    }
    labels = distinct_labels(called.values())
    return {key: labels[each] for key, each in called.items()}


def _nearest(files: Sequence[WeightFile], ending: str) -> list[WeightFile]:
    return [file for file in files if file.ending == ending] or list(files)


def _best(files: Iterable[WeightFile], epoch: int | None) -> WeightFile | None:
    """Highest epoch, then highest step; the path decides between equals."""
    fitting = [file for file in files if epoch is None or file.epoch == epoch]
    return max(fitting, key=lambda file: (file.epoch, file.step, str(file.path)), default=None)


def _unpaired(
    files: Sequence[WeightFile],
    halves: Sequence[WeightFile],
    epochs: Epochs,
    root: Path,
    *,
    sovits_is_there: bool,
) -> Problem:
    name = files[0].name
    what = str(max(files, key=lambda file: (file.epoch, file.step)).path.relative_to(root))
    if not halves:
        return Problem(what=what, reason=f"no {GPT_FOLDER}*/{name}-eN.ckpt beside it", name=name)
    half, there, asked = ("gpt", halves, epochs.gpt) if sovits_is_there else ("sovits", files, epochs.sovits)
    known = ", ".join(str(epoch) for epoch in sorted({file.epoch for file in there}))
    return Problem(what=what, reason=f"no {half} file of epoch {asked}; there are {known}", name=name)


def _alone(gpt: Sequence[WeightFile], sovits: Sequence[WeightFile], root: Path) -> list[Problem]:
    known = {file.name for file in sovits}
    problems = []
    for (name, _), files in sorted(_groups(gpt).items()):
        if name not in known:
            what = str(max(files, key=lambda file: file.epoch).path.relative_to(root))
            reason = f"no {SOVITS_FOLDER}*/{name}_eN_sM.pth beside it"
            problems.append(Problem(what=what, reason=reason, name=name))
    return problems

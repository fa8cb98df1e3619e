"""A recording of each voice, from the lists that its training was made with.

Separate because it is the only guess of the import. Lists (`*.list`) hold lines `path|speaker|language|text`. Lines of
a voice are those whose recording is named in `logs/NAME/2-name2text*.txt` (what it was trained on); else those whose
speaker is NAME; else those of `NAME.list`. Of the first 200, the recording nearest to six seconds is taken, if it has 3
to 10 s: the original refuses all others as a prompt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

SHORTEST_S: Final = 3.0
LONGEST_S: Final = 10.0
BEST_S: Final = 6.0
TRIED: Final = 200
LARGEST_LIST_BYTES: Final = 64 << 20
LONGEST_TEXT: Final = 10_000

LANGUAGES: Final = {"zh": "zh", "jp": "ja", "ja": "ja", "en": "en", "ko": "ko", "yue": "yue"}
"""What lists call languages, in lower case, as BCP 47 tags."""

_PASSED_OVER: Final = frozenset(
    ("runtime", "pretrained_models", "node_modules", "site-packages", "venv", "__pycache__")
)
_PRODUCT: Final = re.compile(r"[0-9]-")
"""Folders of thousands of files that the training makes: `3-bert`, `4-cnhubert`, `5-wav32k`, …"""

Duration = Callable[[Path], float | None]
"""Length of a recording in seconds; None: it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A line of a list. `audio` is the path as it stands there."""

    audio: str
    speaker: str
    language: str
    text: str
    list_file: Path

    @property
    def audio_name(self) -> str:
        """The last part of the path, whichever system wrote it."""
        return PurePosixPath(self.audio.replace("\\", "/")).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What becomes `spec.reference`."""

    path: Path
    text: str
    language: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class NoRecording:
    """Why there is none."""

    reason: str


@dataclass(slots=True)
class Lists:
    """Lines of some lists, looked up by what they are about.

    Attributes
    ----------
    unread
        Lists that could not be read, with the reason.
    """

    by_speaker: dict[str, list[Utterance]] = field(default_factory=dict)
    by_list: dict[str, list[Utterance]] = field(default_factory=dict)
    by_audio: dict[str, list[Utterance]] = field(default_factory=dict)
    unread: list[tuple[Path, str]] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Lists:
        """Read lists."""
        found = cls()
        for path in paths:
            for line in found._lines(path):
                found.by_speaker.setdefault(line.speaker, []).append(line)
                found.by_list.setdefault(path.stem, []).append(line)
                found.by_audio.setdefault(line.audio_name, []).append(line)
        return found

    def of_voice(self, name: str, trained_on: Iterable[str]) -> Sequence[Utterance]:
        """The lines of a voice."""
        named = [line for audio in trained_on for line in self.by_audio.get(audio, ())]
        return named or self.by_speaker.get(name) or self.by_list.get(name) or ()

    def _lines(self, path: Path) -> Iterator[Utterance]:
        try:
            if path.stat().st_size > LARGEST_LIST_BYTES:
                self.unread.append((path, f"is larger than {LARGEST_LIST_BYTES} bytes"))
                return
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self.unread.append((path, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
            return
        for line in content.splitlines():
            parts = [part.strip() for part in line.split("|", 3)]
            if len(parts) == 4:
                yield Utterance(audio=parts[0], speaker=parts[1], language=parts[2], text=parts[3], list_file=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """The recordings of a folder.

    Attributes
    ----------
    lists
        The first that knows lines of a voice is asked.
    """

    root: Path
    lists: tuple[Lists, ...]
    duration: Duration

    def of_voice(self, name: str) -> Recording | NoRecording:
        """The recording of a voice."""
        trained_on = _trained_on(self.root, name)
        lines = next((lines for each in self.lists if (lines := each.of_voice(name, trained_on))), ())
        if not lines:
            return NoRecording(
                f"no *.list names a recording of {name!r}: give one with --list, with lines PATH|{name}|LANGUAGE|TEXT"
            )
        found, misses = self._candidates(name, lines)
        if not found:
            return NoRecording(f"no recording of {SHORTEST_S:g} to {LONGEST_S:g} s: {misses}")
        return min(found, key=lambda each: abs(each.duration_s - BEST_S))

    def _candidates(self, name: str, lines: Sequence[Utterance]) -> tuple[list[Recording], str]:
        found: list[Recording] = []
        misses: dict[str, int] = {}
        for line in lines[:TRIED]:
            tried = self._tried(name, line)
            if isinstance(tried, Recording):
                found.append(tried)
            else:
                misses[tried] = misses.get(tried, 0) + 1
        if len(lines) > TRIED:
            misses["not tried"] = len(lines) - TRIED
        return found, ", ".join(f"{count} {miss}" for miss, count in misses.items())

    def _tried(self, name: str, line: Utterance) -> Recording | str:
        """The recording behind a line, or what is wrong with it."""
        language = LANGUAGES.get(line.language.lower())
        if language is None:
            return f"in an unknown language ({line.language[:20]!r})"
        if not 0 < len(line.text) <= LONGEST_TEXT:
            return "without a text"
        path = find_audio(line, root=self.root, name=name)
        if path is None:
            return "not found"
        duration_s = self.duration(path)
        if duration_s is None:
            return "unreadable"
        if not SHORTEST_S <= duration_s <= LONGEST_S:
            return "shorter" if duration_s < SHORTEST_S else "longer"
        return Recording(path=path, text=line.text, language=language, duration_s=duration_s)


def find_lists(root: Path) -> list[Path]:
    """All `*.list` below a folder, without what is not the user's own and without the products of training."""
    found: list[Path] = []
    for folder, below, files in os.walk(root):
        below[:] = sorted(
            name for name in below if not (name.startswith(".") or name in _PASSED_OVER or _PRODUCT.match(name))
        )
        found += [Path(folder, name) for name in sorted(files) if name.endswith(".list")]
    return found


def find_audio(line: Utterance, *, root: Path, name: str) -> Path | None:
    """The file of a line: where the list says, else where it would be if the folder was moved, else by its name."""
    said = PurePosixPath(line.audio.replace("\\", "/"))
    places = [Path(line.audio), line.list_file.parent / said, root / said]
    if root.name in said.parts:
        place = len(said.parts) - said.parts[::-1].index(root.name)
        places.append(root.joinpath(*said.parts[place:]))
    places += [
        line.list_file.parent / said.name,
        root / "output" / "slicer_opt" / said.name,
        root / "output" / "denoise_opt" / said.name,
        root / "logs" / name / "5-wav32k" / said.name,
    ]
    return next((place.resolve() for place in places if place.is_absolute() and _is_file(place)), None)


def read_duration(path: Path) -> float | None:
    """Length of a sound file by its header, in seconds."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError, ValueError):
        return None
    return float(info.frames / info.samplerate) if info.samplerate > 0 else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _trained_on(root: Path, name: str) -> list[str]:
    """Names of the recordings that a training read."""
    found: list[str] = []
    for path in sorted((root / "logs" / name).glob("2-name2text*.txt")):
        try:
            content = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            continue
        found += [line.split("\t", 1)[0] for line in content.splitlines() if "\t" in line]
    return found

"""The seam between what a person types and where voices are: a folder under `segue up`, or a cluster.

Commands and everything that shows a voice know only this. A `Document` is a voice as plain JSON: the VoiceModel with
its `key`, and beside it what the place knows more: `file` and `problems` (folder); `context`, `unseen` (what to say of
an operator that lags), `isStuck` (for how long is not normal) and `notes` (cluster); `pods` and `reports` (where
sidecars can be asked); `events`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from segue.errors import SegueError

if TYPE_CHECKING:  # `segue get` edits nothing and should start fast
    from segue.model.edit import FieldPath
    from segue_cli.editing import Changes

Document = dict[str, Any]


class NoSuchVoice(SegueError):
    """There is no voice of that name."""


class NothingToRoll(SegueError):
    """No new file was named, or one that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Voices, and what is wrong where they come from.

    Attributes
    ----------
    namespace
        The one that goes without saying: voices of it are shown by their names alone.
    models
        A line on the shared models of each engine that has any, where sidecars can be asked.
    raw
        The same for programs, as the place itself says it.
    """

    voices: list[Document]
    namespace: str
    problems: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    raw: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A change that was made.

    Attributes
    ----------
    where
        Goes in brackets behind what is reported.
    generation
        The generation whose outcome tells how the change went; 0 where nobody can say.
    """

    where: str
    generation: int


class Place(Protocol):
    """Where voices are. Every call may raise `SegueError`."""

    def key_of(self, voice: str) -> str:
        """`namespace/name` of what was typed."""
        ...

    def command(self, words: str, key: str) -> str:
        """How the person goes on: the command line for the same place, such as `segue watch narrator`."""
        ...

    def ask(self, key: str) -> Document | None:
        """As `voice`; None where nobody can be asked (a folder on which no `segue up` runs)."""
        ...

    def listing(self, key: str | None, *, everywhere: bool) -> Listing:
        """Voices in short: one, those of the namespace that was named, or all."""
        ...

    def voice(self, key: str) -> Document:
        """One voice in full.

        Raises
        ------
        NoSuchVoice
            There is none of that name.
        """
        ...

    def updates(self, key: str, *, deadline: float | None) -> Generator[Document | None, None, None]:
        """The voice now and at every change; None while nobody answers. Ends at the deadline (monotonic seconds).

        Raises
        ------
        NoSuchVoice
            It does not exist, or is deleted meanwhile.
        """
        ...

    def happenings(self, *, everywhere: bool) -> Iterator[str]:
        """Lines about all voices as it happens, without an end."""
        ...

    def edit(self, key: str, changes: Changes) -> Edited:
        """Change fields of a voice, annotations included."""
        ...

    def weights_of(self, key: str) -> tuple[str, ...]:
        """Names of a voice's weights."""
        ...

    def source(self, field: str, file: str) -> dict[FieldPath, Any]:
        """What it takes to have `spec.FIELD` name another file.

        Raises
        ------
        NothingToRoll
            A file that cannot be named there.
        """
        ...

    def as_written(self, version: Mapping[str, Any]) -> dict[FieldPath, Any]:
        """What it takes to have the spec name a version of the history again."""
        ...

"""Where the console gets what it shows, and where its wishes go: what both adapters give it.

Separate so that nothing else of the console knows whether voices are files or objects of an API server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from segue.model.edit import FieldPath
from segue_operator.events import Entry
from segue_operator.fleet.pod import Pod
from segue_operator.fleet.records import FleetKey
from segue_operator.ports import Problem

Document = Mapping[str, Any]
"""A VoiceModel as plain JSON values, absent fields left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Which operator one looks at.

    Attributes
    ----------
    leading
        Whether it leads: only the leader asks pods anything.
    leader
        Who leads, as far as it is known; empty: nobody, or unknown.
    command
        How the command line is called here: `segue` or `kubectl segue`.
    """

    adapter: str
    leading: bool
    leader: str
    command: str


class Source(Protocol):
    """What can be shown. Every call is from the event loop, none waits."""

    def identities(self) -> Mapping[str, object]:
        """By key, an object that is another one whenever the voice changed."""
        ...

    def brief(self, key: str) -> Document | None:
        """What a row of the list needs of a voice; cheap, and of the same shape as `document`."""
        ...

    def document(self, key: str) -> Document | None:
        """The whole voice."""
        ...

    def fleet_of(self, key: str) -> FleetKey | None:
        """The fleet that serves it."""
        ...

    def pods(self) -> Iterable[Pod]:
        """All pods; none while another operator leads."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What is wrong with what people wrote."""
        ...

    def events(self, key: str) -> Sequence[Entry]:
        """The latest lines about a voice, oldest first."""
        ...

    def reports(self, key: str) -> Mapping[str, Any]:
        """Figures of verifications that are kept, as JSON by revision."""
        ...

    def whereabouts(self) -> Whereabouts:
        """Which operator this is."""
        ...


class Editor(Protocol):
    """Writes a wish into the voice, where the command line would write it too."""

    async def edit(self, key: str, changes: Mapping[FieldPath, Any], *, seen: Document) -> str:
        """Change fields of exactly the voice that was looked at; where it was written.

        Raises
        ------
        WriteConflict, EditConflict
            Somebody else changed it meanwhile.
        SegueError
            It cannot be written; the message says why.
        """
        ...

    def tell(self, key: str, text: str) -> None:
        """Let it be seen afterwards that it was asked for."""
        ...

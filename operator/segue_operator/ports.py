"""What the control loop needs of the world, as six ports.

Separate so that the loop is the same in a cluster and on one machine: the `folder` adapter puts a directory of YAML
files in the place of the API server, tests put things that fail on purpose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from typing_extensions import override

from segue.errors import SegueError
from segue.model import Status, VoiceModel
from segue.rollout import Alert, Command, Event, PodView, QueryResult, RevertSpec
from segue.wire import Fence


class WriteConflict(SegueError):
    """The object changed since it was read: drop everything and observe again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a person wrote that cannot be used; what runs stays as it was.

    Attributes
    ----------
    voices
        Keys of the voices that were read from this file before, `namespace/name`.
    """

    file: str
    message: str
    line: int | None = None
    field: str | None = None
    voices: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.field, self.message) if part)


class Cluster(Protocol):
    """Where VoiceModels and their statuses live."""

    def voices(self) -> Sequence[VoiceModel]:
        """Every voice that exists, each with its status, as last seen."""
        ...

    def keys(self) -> frozenset[str]:
        """Every voice that needs a loop: those that exist, and deleted ones that were not forgotten yet."""
        ...

    async def read(self, key: str) -> VoiceModel | None:
        """The voice as it is now, past every cache; None only when it certainly does not exist."""
        ...

    async def write_status(self, voice: VoiceModel, status: Status) -> VoiceModel:
        """Write the status of exactly the object that was read.

        Raises
        ------
        WriteConflict
            uid or resourceVersion is another one now.
        """
        ...

    async def revert_spec(self, voice: VoiceModel, revert: RevertSpec) -> None:
        """Write weights, reference and options of an earlier version back, in exactly the spec that was read.

        Raises
        ------
        WriteConflict
            The spec is not the one that was read.
        """
        ...

    def spec_owner(self, voice: VoiceModel) -> str | None:
        """What would fight a revert, None if nothing."""
        ...

    async def deleted(self, key: str) -> VoiceModel | None:
        """The last that was known of a voice that certainly does not exist any more; None once it was forgotten."""
        ...

    async def forget(self, key: str) -> None:
        """Every pod has let the deleted voice go."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What is wrong with what people wrote."""
        ...

    def changes(self) -> AsyncIterator[frozenset[str]]:
        """Keys of voices that appeared, changed or went, as it happens; never for our own status writes.

        The first one comes when everything was read once, even where nothing changed.
        """
        ...


class Fleet(Protocol):
    """The sidecars."""

    async def observe(self, voice: VoiceModel, *, evidence: bool) -> tuple[PodView, ...]:
        """The pods as they are for this voice, never older than our last command to them.

        Parameters
        ----------
        evidence
            Read the buckets of live requests as well.
        """
        ...

    async def send(self, command: Command, pod: str, *, voice: VoiceModel, next_fence: Callable[[], Fence]) -> Fence:
        """Carry out one command on one pod; raises what the sidecar answered.

        The fence is asked for when the command's turn has come, and not before: whoever was deposed while a command
        waited must not send it. Returns the fence that it went out with.
        """
        ...

    async def release(self, voice: VoiceModel, *, next_fence: Callable[[], Fence]) -> bool:
        """Make every pod forget a deleted voice that holds nothing any more; whether all have."""
        ...

    def highest_term(self) -> int:
        """The highest term that any pod has shown."""
        ...

    def follow(self, key: str, *, closely: bool) -> None:
        """Long-poll for this voice (an open rollout or watch), or look now and then."""
        ...


class Triggers(Protocol):
    """Reasons to go back that come from outside: alerts and queries. Neither call waits for anybody."""

    def alerts(self, voice: VoiceModel) -> tuple[Alert, ...]:
        """What fires for this voice; the engine asks whether it began after the flip."""
        ...

    def queries(self, voice: VoiceModel) -> tuple[QueryResult, ...]:
        """The latest verdict on each query of the watch; asking keeps them fresh, a new verdict wakes the voice."""
        ...


class DesiredSet(Protocol):
    """What pods find that start while nobody commands them. Neither call waits for anybody."""

    def keep(self, voice: VoiceModel) -> None:
        """This is how the voice stands now: called at every turn, and written where it changed."""
        ...

    def withdraw(self, voice: VoiceModel) -> None:
        """The voice does not exist any more."""
        ...


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> datetime:
        """Now, in UTC."""
        ...


class Events(Protocol):
    """Lines for people."""

    def publish(self, voice: str | None, event: Event) -> None:
        """Tell it."""
        ...

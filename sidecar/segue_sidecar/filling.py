"""Memory for what one preparing child makes: from the plan that it tells to sealed arenas.

Separate because voices and shared models take it in the same way. Parts that are resident are shared, the others get
fresh memory, all or nothing; whatever goes wrong on the way, nothing of it stays.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from segue.errors import PoolExhausted, SegueError
from segue.memory import memfd
from segue.memory.interface import Allocation, WeightMemory
from segue.memory.messages import PartRef
from segue_sidecar.child import ChildFailed


class Filling:
    """One plan.

    Attributes
    ----------
    parts
        What was planned; the pool knows the owner as one of theirs, once all is sealed.
    """

    def __init__(
        self,
        memory: WeightMemory,
        *,
        owner: str,
        make_room: Callable[[int], None],
        wait_for_room: Callable[[Sequence[PartRef]], Awaitable[None]] | None = None,
        no_room: Callable[[PoolExhausted, int], SegueError],
    ) -> None:
        """Fill for `owner`.

        Parameters
        ----------
        make_room
            Told how many bytes will be allocated, before they are.
        wait_for_room
            Told the plan before anything of it is taken; returns when it is worth a try.
        no_room
            What to raise where the pool has no room all the same, given its error and the bytes.
        """
        self._memory = memory
        self._owner = owner
        self._make_room = make_room
        self._wait_for_room = wait_for_room
        self._no_room = no_room
        self._filling: dict[str, Allocation] = {}
        self._fresh: set[str] = set()
        self.parts: tuple[PartRef, ...] = ()

    @property
    def fresh(self) -> tuple[PartRef, ...]:
        """Those of the parts that were not resident before."""
        return tuple(part for part in self.parts if part.name in self._fresh)

    async def answer(self, message: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[int]]:
        """Answer the child's plan with memory for the parts that need it. There is one plan."""
        if self.parts:
            raise ChildFailed("ChildTalkedNonsense", "a second plan")
        planned = _planned(message)
        if self._wait_for_room is not None:
            await self._wait_for_room(planned)
        self.parts = planned
        self._take()
        # A description of its own for the child: the lease sees it until the child is gone.
        fds = [memfd.reopen(allocation.fd, os.O_RDWR) for allocation in self._filling.values()]
        return {"fill": list(self._filling)}, fds

    def seal(self) -> None:
        """The child is done: nothing changes any more.

        Raises
        ------
        ChildFailed
            It wrote something else than it planned.
        """
        promised = {part.name: part for part in self.parts}
        for name in list(self._filling):
            sealed = self._memory.seal(self._filling.pop(name), owner=self._owner)
            if sealed != promised[name]:
                self._memory.release(sealed.digest, owner=self._owner)
                raise ChildFailed("ArenaCorrupt", f"part {name} was planned as {promised[name]}, written as {sealed}")

    def give_up(self) -> None:
        """Let everything go. Idempotent."""
        for allocation in self._filling.values():
            self._memory.abandon(allocation)
        self._filling.clear()
        for part in self.parts:
            self._memory.release(part.digest, owner=self._owner)
        self._memory.reap()

    def _take(self) -> None:
        """Share the parts that are resident, allocate for the others; all or nothing."""
        missing: list[PartRef] = []
        for part in self.parts:
            try:
                self._memory.retain(part.digest, owner=self._owner)
            except KeyError:
                missing.append(part)
        self._fresh = {part.name for part in missing}
        needed = sum(part.size_bytes for part in missing)
        self._make_room(needed)
        try:
            for part in missing:
                self._filling[part.name] = self._memory.allocate(part.size_bytes, name=part.name)
        except PoolExhausted as error:
            raise self._no_room(error, needed) from error


def _planned(message: Mapping[str, Any]) -> tuple[PartRef, ...]:
    try:
        return tuple(
            PartRef(name=each["name"], digest=each["digest"], size_bytes=each["size"]) for each in message["plan"]
        )
    except (KeyError, TypeError) as error:
        raise ChildFailed("ChildTalkedNonsense", f"a plan that cannot be read: {error}") from error

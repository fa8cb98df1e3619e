"""Who needs a sealed part, and when its memory is really free: the rules that every pool has in common.

Separate from the pools, which know what a part lies in. A part that its last owner released lingers until the kernel
says that nobody else holds it (`lease`); until then it can be retained again. Where leases are not supported, those who
got the part are asked for instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from segue.memory.lease import leases_supported, still_held


@dataclass(slots=True)
class Hold:
    """One part, by an `O_RDWR` description of ours that the kernel tells apart from everybody else's."""

    fd: int
    owners: set[str] = field(default_factory=set, kw_only=True)
    holders: set[str] = field(default_factory=set, kw_only=True)

    @property
    def is_free(self) -> bool:
        """Whether nobody beside us holds it."""
        return not still_held(self.fd) if leases_supported() else not self.holders


AnyHold = TypeVar("AnyHold", bound=Hold)


class Holds(ABC, Generic[AnyHold]):
    """All parts of a pool, by content digest. Owned by one thread."""

    def __init__(self) -> None:
        self._resident: dict[str, AnyHold] = {}
        self._lingering: list[tuple[str, AnyHold]] = []

    @abstractmethod
    def _give_back(self, hold: AnyHold) -> None:
        """Nobody holds it any more: give up what it lies in."""

    def holds(self, digest: str) -> bool:
        """Whether this part is resident and not let go."""
        return digest in self._resident

    def owners(self, digest: str) -> frozenset[str]:
        """Who needs this part; empty where it is not here."""
        hold = self._resident.get(digest)
        return frozenset(hold.owners) if hold else frozenset()

    def retain(self, digest: str, *, owner: str) -> None:
        """`owner` needs this part, too; brings back one that was let go but is not free yet.

        Raises
        ------
        KeyError
            The part is not here (any more).
        """
        if digest not in self._resident:
            position = next((i for i, (name, _) in enumerate(self._lingering) if name == digest), None)
            if position is None:
                raise KeyError(digest)
            self._resident[digest] = self._lingering.pop(position)[1]
        self._resident[digest].owners.add(owner)

    def release(self, digest: str, *, owner: str, usable: bool = True) -> bool:
        """`owner` needs this part no longer; whether nobody does now. Idempotent.

        Parameters
        ----------
        usable
            False: it does not come back when somebody retains it.
        """
        hold = self._resident.get(digest)
        if hold is None or owner not in hold.owners:
            return False
        hold.owners.discard(owner)
        if hold.owners:
            return False
        self._linger(digest if usable else f"unfilled {digest}", self._resident.pop(digest))
        return True

    def mark_holder(self, digest: str, *, holder: str) -> None:
        """Note who got a part. Decides only where leases are not supported."""
        self._resident[digest].holders.add(holder)

    def clear_holder(self, digest: str, *, holder: str) -> None:
        """The holder said `retired`, or died."""
        for name, hold in (*self._resident.items(), *self._lingering):
            if name == digest:
                hold.holders.discard(holder)

    def reap(self) -> tuple[str, ...]:
        """Free what was let go and is held by nobody; returns the digests (or names of what was never finished)."""
        freed = [(name, hold) for name, hold in self._lingering if hold.is_free]
        gone = {id(hold) for _, hold in freed}
        self._lingering = [(name, hold) for name, hold in self._lingering if id(hold) not in gone]
        for _, hold in freed:
            self._give_back(hold)
        return tuple(name for name, _ in freed)

    def _keep(self, digest: str, hold: AnyHold, *, owner: str) -> None:
        """A part that is there already is kept once, and the new copy let go."""
        resident = self._resident.setdefault(digest, hold)
        resident.owners.add(owner)
        if resident is not hold:
            self._linger(digest, hold)

    def _linger(self, name: str, hold: AnyHold) -> None:
        hold.owners.clear()
        self._lingering.append((name, hold))

    def _every(self) -> Iterator[AnyHold]:
        yield from self._resident.values()
        yield from (hold for _, hold in self._lingering)

    def _forget_all(self) -> None:
        self._resident.clear()
        self._lingering.clear()

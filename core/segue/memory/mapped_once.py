"""Parts that several revisions have in common, mapped once in a process.

Separate from the mappers, which know one part at a time. A worker with 50 voices on the same T2S half, and on the same
shared models, has one mapping of each: page tables of a mapping cost memory, too (2 MB for a gigabyte), and networks
that are built on the same memory can be the same network.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from segue.engine import PartView
from segue.errors import ArenaCorrupt
from segue.memory import memfd
from segue.memory.arena import Step
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.messages import PartRef


@dataclass(slots=True)
class _Mapping:
    """One mapping and how many parts are it."""

    part: MappedPart
    users: int = 0
    prefaulted: bool = False


class MapOnce(WeightMapper):
    """Maps what another mapper maps, each digest once. Safe to use from several threads."""

    def __init__(self, mapper: WeightMapper) -> None:
        """`mapper` does the mapping."""
        self._mapper = mapper
        self._mappings: dict[str, _Mapping] = {}
        self._turn = threading.Lock()
        self._lock = threading.Lock()

    @override
    def map(self, fds: Sequence[int], part: PartRef) -> MappedPart:
        with self._turn:
            # Mapping may take long (a copy to a device does); whoever lets another part go must not wait for it.
            mapping = self._shared(fds, part)
            if mapping is None:
                mapping = _Mapping(self._mapper.map(fds, part), users=1)
                with self._lock:
                    self._mappings[part.digest] = mapping
            return _User(self, mapping, part)

    def _shared(self, fds: Sequence[int], part: PartRef) -> _Mapping | None:
        """The mapping that there is, with one more user; then `fds` are not needed."""
        with self._lock:
            mapping = self._mappings.get(part.digest)
            if mapping is None or mapping.part.leaving:
                return None
            memfd.close_all(fds)
            if mapping.part.part.size_bytes != part.size_bytes:
                raise ArenaCorrupt(
                    f"part {part.name!r} was offered with {part.size_bytes} bytes, but {part.digest} is mapped "
                    f"here with {mapping.part.part.size_bytes}: refused"
                )
            mapping.users += 1
            return mapping

    def prefault(self, mapping: _Mapping) -> None:
        """Once for all users: it would else be done again with every voice."""
        with self._lock:
            if not mapping.prefaulted:
                mapping.part.prefault()
                mapping.prefaulted = True

    def let_go(self, mapping: _Mapping) -> None:
        """One user less; the last one unmaps. Raises `BufferError` while views live: then it stays a user."""
        with self._lock:
            if mapping.users == 1:
                mapping.part.close()
                if self._mappings.get(mapping.part.part.digest) is mapping:
                    del self._mappings[mapping.part.part.digest]
            mapping.users -= 1


class _User(MappedPart):
    """A part, as one revision has it."""

    def __init__(self, owner: MapOnce, mapping: _Mapping, part: PartRef) -> None:
        self._owner = owner
        self._mapping = mapping
        self._part = part
        self._closed = False

    @property
    @override
    def part(self) -> PartRef:
        return self._part

    @property
    @override
    def leaving(self) -> bool:
        return self._mapping.part.leaving

    @override
    def view(self) -> PartView:
        return self._mapping.part.view()

    @override
    def address_range(self) -> tuple[int, int]:
        return self._mapping.part.address_range()

    @override
    def prefault(self) -> None:
        self._owner.prefault(self._mapping)

    @override
    def verify(self, *, step: Step | None = None) -> None:
        self._mapping.part.verify(step=step)

    @override
    def export(self) -> tuple[int, ...]:
        return self._mapping.part.export()

    @override
    def close(self) -> None:
        if not self._closed:
            self._owner.let_go(self._mapping)
            self._closed = True

"""The budget of device memory: whose it is, and what is really free again. The device's counterpart of `memory.pool`.

Kept apart from it because little is the same beside `holds`: a device has no spares to fault in and no seals, memory
comes in multiples of a granularity (2 MiB on today's devices), and who still holds a part is asked of its token.

Parts of up to half a granularity share an allocation. Room in a shared allocation is given away once and never again,
so that nothing is ever rewritten under a worker that still maps it; the allocation goes back when its last part is
free. A shared allocation never takes more memory than its parts would alone.

Descriptors are all that is kept: an allocation lives until the last descriptor and mapping of it is gone.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from segue.errors import DeviceFull, PoolExhausted
from segue.memory import memfd
from segue.memory.arena_header import PAGE_BYTES, round_up
from segue.memory.device.token import Place
from segue.memory.holds import Hold, Holds
from segue.memory.interface import MemoryUsage
from segue.memory.pool import Background, run_now

Create = Callable[[int], int]
"""From bytes to the descriptor of new device memory; raises `DeviceFull`."""


@dataclass(slots=True)
class Chunk:
    """One device allocation. `name` is the same in the tokens of all its parts, whichever sidecar made them."""

    name: str
    fd: int
    size_bytes: int
    used_bytes: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Where one part goes, before it has a token."""

    chunk: Chunk
    offset: int


@dataclass(slots=True)
class _Hold(Hold):
    """One part: its token (`fd`), and the allocation it lies in."""

    chunk: Chunk


class DevicePool(Holds[_Hold]):
    """All parts on one device, by content digest. Owned by one thread."""

    def __init__(
        self, budget_bytes: int, *, device: str, granularity: int, create: Create, background: Background = run_now
    ) -> None:
        """An empty pool for the device with this UUID. Descriptors are closed by `background`."""
        if budget_bytes < granularity:
            raise ValueError(f"a GPU budget of {budget_bytes} bytes holds nothing: {granularity} are the least")
        super().__init__()
        self._budget_bytes = budget_bytes
        self._device = device
        self._granularity = granularity
        self._create = create
        self._background = background
        self._chunks: list[Chunk] = []
        self._open: Chunk | None = None
        self._peak_bytes = 0

    # --- figures ----------------------------------------------------------------------------------------------------

    def usage(self) -> MemoryUsage:
        """The figures of now."""
        waiting = {id(hold.chunk): hold.chunk for _, hold in self._lingering}
        needed = {id(hold.chunk) for hold in self._resident.values()}
        return MemoryUsage(
            budget_bytes=self._budget_bytes,
            used_bytes=self._used_bytes(),
            lingering_bytes=sum(chunk.size_bytes for key, chunk in waiting.items() if key not in needed),
            spare_bytes=0,
            peak_bytes=self._peak_bytes,
        )

    # --- taking memory ----------------------------------------------------------------------------------------------

    def make_room(self, size_bytes: int, *, name: str) -> Room:
        """Device memory for one part, beside others where it is small.

        Raises
        ------
        PoolExhausted
            The budget, or the device itself, has no room; carries the figures.
        """
        if size_bytes <= self._granularity // 2:
            chunk = self._open
            if chunk is None or chunk.used_bytes + size_bytes > chunk.size_bytes:
                chunk = self._open = self._new_chunk(self._granularity, needed_bytes=size_bytes, name=name)
        else:
            chunk = self._new_chunk(round_up(size_bytes, self._granularity), needed_bytes=size_bytes, name=name)
        room = Room(chunk, chunk.used_bytes)
        chunk.used_bytes = min(chunk.size_bytes, round_up(chunk.used_bytes + size_bytes, PAGE_BYTES))
        chunk.parts += 1
        return room

    def place_of(self, room: Room) -> Place:
        """What the part's token says of its room."""
        return Place(
            allocation=room.chunk.name,
            allocation_bytes=room.chunk.size_bytes,
            offset=room.offset,
            device=self._device,
        )

    def give_up(self, room: Room) -> None:
        """The part will not come."""
        self._leave(room.chunk)

    def keep(self, token_fd: int, room: Room, *, digest: str, owner: str) -> None:
        """The part has a token, which is taken over. One that is there already is kept once, and the new one let go."""
        self._keep(digest, _Hold(token_fd, room.chunk), owner=owner)

    def adopt(self, token_fd: int, device_fd: int, place: Place, *, digest: str, owner: str) -> None:
        """Take over a part that a worker gave back; both descriptors stay the caller's. Counts even over the budget."""
        hold = self._resident.get(digest)
        if hold is not None and os.fstat(hold.fd).st_ino == os.fstat(token_fd).st_ino:
            hold.owners.add(owner)
            return
        chunk = next((one for one in self._chunks if one.name == place.allocation), None)
        if chunk is None:
            chunk = Chunk(
                place.allocation, os.dup(device_fd), place.allocation_bytes, used_bytes=place.allocation_bytes
            )
            self._chunks.append(chunk)
        chunk.parts += 1
        self._keep(digest, _Hold(memfd.reopen(token_fd, os.O_RDWR), chunk), owner=owner)
        self._note_peak()

    def export(self, digest: str) -> tuple[int, int]:
        """A new read-only description of the token, and the device's descriptor; the caller's. Raises `KeyError`."""
        hold = self._resident[digest]
        token_fd = memfd.reopen(hold.fd, os.O_RDONLY)
        try:
            return token_fd, os.dup(hold.chunk.fd)
        except OSError:
            os.close(token_fd)
            raise

    def close(self) -> None:
        """Close every descriptor. What workers map lives on. Idempotent."""
        memfd.close_all([*(hold.fd for hold in self._every()), *(chunk.fd for chunk in self._chunks)])
        self._forget_all()
        self._chunks.clear()
        self._open = None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _used_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self._chunks)

    def _note_peak(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._used_bytes())

    def _new_chunk(self, size_bytes: int, *, needed_bytes: int, name: str) -> Chunk:
        free_bytes = self._budget_bytes - self._used_bytes()
        if size_bytes > free_bytes:
            raise self._exhausted(needed_bytes, free_bytes, f"{name} needs {size_bytes} bytes of the GPU budget")
        try:
            fd = self._create(size_bytes)
        except DeviceFull as error:
            raise self._exhausted(needed_bytes, 0, f"{name} needs {size_bytes} bytes, but {error}") from error
        chunk = Chunk(str(uuid.uuid4()), fd, size_bytes)
        self._chunks.append(chunk)
        self._note_peak()
        return chunk

    def _exhausted(self, needed_bytes: int, free_bytes: int, what: str) -> PoolExhausted:
        free_bytes = max(0, free_bytes)
        return PoolExhausted(
            f"{what}; {free_bytes} of {self._budget_bytes} are free ({self.usage().lingering_bytes} more when what was "
            "let go is back): raise gpu.budgetBytes if the device has more, or let revisions go",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
            budget_bytes=self._budget_bytes,
        )

    @override
    def _give_back(self, hold: _Hold) -> None:
        os.close(hold.fd)
        self._leave(hold.chunk)

    def _leave(self, chunk: Chunk) -> None:
        chunk.parts -= 1
        if chunk.parts:
            return
        if self._open is chunk:
            self._open = None
        self._chunks.remove(chunk)
        self._background(lambda: os.close(chunk.fd))

"""The budget: how many bytes of shared memory there are, whose they are, and which are really free again.

Separate from the arenas' layout because it never looks inside: it keeps descriptors and sizes. Memory comes as *fresh*
memfds only (a sealed one is never written again, so a worker that is stuck on an old revision costs memory, never wrong
audio) and leaves when the kernel says that nobody else holds it (`lease`), not when somebody promises so.

Spares are memfds whose pages were faulted in beforehand: the next preload fills warm pages, and its memory is certain.
They lie inside the budget and are given up when an allocation needs their room.

Giving memory back takes the kernel long (290 MB: 35 to 70 ms, 2-core Linux 6.18), too long for a loop that flips in
under 5 ms. So descriptors are closed by `background`, and the bytes count until it has done so. Taking memory is left
to the child that fills: `allocate` only makes books and a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from segue.errors import MemoryError_, NotReady, PoolExhausted
from segue.memory import arena, memfd
from segue.memory.holds import Hold, Holds
from segue.memory.interface import Allocation, MemoryUsage

SPARE_STEP_BYTES = 4 << 20
_PAGE_BYTES = 4096

Background = Callable[[Callable[[], None]], object]
"""Runs a job sometime, on another thread: `ThreadPoolExecutor.submit` is one."""


@dataclass(slots=True)
class _Hold(Hold):
    """Sealed memory."""

    size_bytes: int


@dataclass(slots=True)
class _Spare:
    """A memfd being faulted in."""

    fd: int
    ready_bytes: int = 0


@dataclass(slots=True)
class _Disposal:
    """Memory on its way back to the kernel; `run` is the only thing here that another thread does."""

    fd: int
    size_bytes: int
    done: bool = False

    def run(self) -> None:
        """Close, then say so."""
        os.close(self.fd)
        self.done = True


def run_now(job: Callable[[], None]) -> None:
    """The `Background` of tests and children, which have no loop to keep free."""
    job()


class Pool(Holds[_Hold]):
    """All arenas of this sidecar, by content digest. Owned by one thread."""

    def __init__(
        self, budget_bytes: int, *, spares: int = 1, spare_bytes: int = 0, background: Background = run_now
    ) -> None:
        """An empty pool.

        Parameters
        ----------
        budget_bytes
            At least the active revisions and twice the largest (previous + shadow).
        spares
            How many spares to keep.
        spare_bytes
            Size of a spare before any part was seen; later the largest part seen.
        background
            Where descriptors are closed.
        """
        if budget_bytes <= 0:
            raise ValueError(f"the pool's budget must be positive, not {budget_bytes} bytes")
        super().__init__()
        self._budget_bytes = budget_bytes
        self._spares_wanted = spares
        self._spare_bytes = _pages(spare_bytes)
        self._settled = False
        self._filling: dict[int, tuple[Allocation, int]] = {}  # by fd; with the bytes that the file may have
        self._leaving: list[_Disposal] = []
        self._background = background
        self._spares: list[_Spare] = []
        self._peak_bytes = 0

    # --- figures ----------------------------------------------------------------------------------------------------

    def usage(self) -> MemoryUsage:
        """The figures of now."""
        return MemoryUsage(
            budget_bytes=self._budget_bytes,
            used_bytes=self._used_bytes(),
            lingering_bytes=sum(_pages(hold.size_bytes) for _, hold in self._lingering) + self._leaving_bytes(),
            spare_bytes=self._held_by_spares(),
            peak_bytes=self._peak_bytes,
        )

    def size_of(self, digest: str) -> int:
        """Bytes of a resident part. Raises KeyError where it is not here."""
        return self._resident[digest].size_bytes

    def digests(self) -> frozenset[str]:
        """All resident parts."""
        return frozenset(self._resident)

    # --- taking memory ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Every worker has said hello or is dead: the books are complete, memory may be allocated."""
        self._settled = True
        self._open_spares()

    def allocate(self, size_bytes: int, *, name: str) -> Allocation:
        """A fresh memfd of zeros for `size_bytes`, warm where a spare fits. The budget has room for it from now on.

        The file may be longer (a spare is not cut on our thread): `ArenaPlan.write` cuts it.

        Raises
        ------
        PoolExhausted
            The budget has no room; carries the figures.
        NotReady
            `settle` was not called yet.
        """
        if not self._settled:
            raise NotReady("workers have yet to say what they hold: no memory is allocated before; try again")
        if size_bytes <= 0:
            raise ValueError(f"an arena has more than {size_bytes} bytes")
        self._check_room(size_bytes, name=name)
        spare = self._fitting_spare(_pages(size_bytes))
        taken_bytes = max(_pages(size_bytes), spare.ready_bytes if spare else 0)
        self._give_up_spares(taken_bytes)
        fd = spare.fd if spare else memfd.create(f"segue-{name}"[:200])
        if spare is None or spare.ready_bytes < size_bytes:
            os.ftruncate(fd, size_bytes)
        warm = spare is not None and spare.ready_bytes >= size_bytes
        allocation = Allocation(fd=fd, name=name, size_bytes=size_bytes, warm=warm)
        self._filling[fd] = (allocation, taken_bytes)
        self._spare_bytes = max(self._spare_bytes, _pages(size_bytes))
        self._note_peak()
        return allocation

    def keep(self, allocation: Allocation, *, digest: str, owner: str) -> None:
        """The allocation was written and sealed: keep it under `digest` for `owner`.

        Our description is opened anew and the original closed: children may have copies of that one, and a lease tells
        apart descriptions, not copies. A part that is there already is kept once, and the new copy let go.

        Raises
        ------
        ArenaCorrupt
            A seal is missing: it could still change. The allocation stays; abandon it.
        """
        memfd.require_seals(allocation.fd, memfd.SEALS_ARENA, what=f"the new arena {allocation.name!r}")
        hold = _Hold(memfd.reopen(allocation.fd, os.O_RDWR), allocation.size_bytes)
        del self._filling[allocation.fd]
        os.close(allocation.fd)
        self._keep(digest, hold, owner=owner)

    def abandon(self, allocation: Allocation) -> None:
        """Give up an allocation; its memory counts until the child that filled it is gone. Idempotent."""
        if self._filling.get(allocation.fd, (None, 0))[0] is not allocation:
            return
        hold = _Hold(memfd.reopen(allocation.fd, os.O_RDWR), self._filling.pop(allocation.fd)[1])
        os.close(allocation.fd)
        self._linger(f"unfinished {allocation.name}", hold)

    def adopt(self, fd: int, *, digest: str, size_bytes: int, owner: str) -> None:
        """Take over an arena that a worker gave back; `fd` stays the caller's. Counts even over the budget.

        Raises
        ------
        ArenaCorrupt
            Another owner, another size, a seal that is missing.
        """
        arena.check_adoptable(fd, uid=os.geteuid(), size_bytes=size_bytes)
        if self._same_file_is_resident(fd, digest):
            self._resident[digest].owners.add(owner)
            return
        self._keep(digest, _Hold(memfd.reopen(fd, os.O_RDWR), size_bytes), owner=owner)
        self._spare_bytes = max(self._spare_bytes, _pages(size_bytes))
        self._note_peak()

    def export(self, digest: str) -> int:
        """A new read-only description of a resident part; owned by the caller.

        Raises
        ------
        KeyError
            The part is not here.
        """
        return memfd.reopen(self._resident[digest].fd, os.O_RDONLY)

    def grow_spare(self) -> bool:
        """Fault in up to 4 MiB of a spare, within the budget. False: nothing left to do for now.

        Raises
        ------
        MemoryError_
            The kernel has no memory although the budget has: the limit of the cgroup is too small.
        """
        if not self._settled or not self._spare_bytes:
            return False
        spare = next((one for one in self._spares if one.ready_bytes < self._spare_bytes), None)
        if spare is None:
            return False
        step_bytes = min(SPARE_STEP_BYTES, self._spare_bytes - spare.ready_bytes)
        if self._used_bytes() + self._held_by_spares() + step_bytes > self._budget_bytes:
            return False
        _fault_in(spare.fd, offset=spare.ready_bytes, length=step_bytes)
        spare.ready_bytes += step_bytes
        self._note_peak()
        return True

    def close(self) -> None:
        """Close every descriptor. What workers map lives on. Idempotent."""
        memfd.close_all([*(hold.fd for hold in self._every()), *self._filling, *(spare.fd for spare in self._spares)])
        self._forget_all()
        self._filling.clear()
        self._spares.clear()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _used_bytes(self) -> int:
        filling_bytes = sum(taken_bytes for _, taken_bytes in self._filling.values())
        return sum(_pages(hold.size_bytes) for hold in self._every()) + filling_bytes + self._leaving_bytes()

    def _leaving_bytes(self) -> int:
        self._leaving = [disposal for disposal in self._leaving if not disposal.done]
        return sum(disposal.size_bytes for disposal in self._leaving)

    def _held_by_spares(self) -> int:
        return sum(spare.ready_bytes for spare in self._spares)

    def _note_peak(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._used_bytes() + self._held_by_spares())

    def _check_room(self, size_bytes: int, *, name: str) -> None:
        free_bytes = self._budget_bytes - self._used_bytes()
        if _pages(size_bytes) <= free_bytes:
            return
        lingering_bytes = self.usage().lingering_bytes
        raise PoolExhausted(
            f"{name} needs {_mib(size_bytes)}, but {_mib(max(0, free_bytes))} of the pool's {_mib(self._budget_bytes)} "
            f"are free ({_mib(lingering_bytes)} more when what was let go is back): "
            "raise the budget, or let revisions go",
            needed_bytes=size_bytes,
            free_bytes=max(0, free_bytes),
            budget_bytes=self._budget_bytes,
        )

    def _fitting_spare(self, needed_bytes: int) -> _Spare | None:
        """Take out the spare that wastes least: none over twice the size, nor one that would break the budget."""
        room_bytes = min(2 * needed_bytes, self._budget_bytes - self._used_bytes())
        fitting = [spare for spare in self._spares if 0 < spare.ready_bytes <= room_bytes]
        if not fitting:
            return None
        best = max(fitting, key=lambda spare: min(spare.ready_bytes, needed_bytes))
        self._spares.remove(best)
        self._open_spares()
        return best

    def _open_spares(self) -> None:
        """Have as many spares as wanted, the new ones empty: how many descriptors are open never depends on load."""
        while len(self._spares) < self._spares_wanted:
            self._spares.append(_Spare(memfd.create("segue-spare")))

    def _give_up_spares(self, needed_bytes: int) -> None:
        """Drop spares until the allocation fits; the one that it is made from was taken out before."""
        room_bytes = self._budget_bytes - self._used_bytes() - needed_bytes
        while self._held_by_spares() > max(0, room_bytes):
            spare = max(self._spares, key=lambda one: one.ready_bytes)
            self._spares.remove(spare)
            self._dispose(spare.fd, 0)
        self._open_spares()

    def _dispose(self, fd: int, size_bytes: int) -> None:
        disposal = _Disposal(fd, size_bytes)
        self._leaving.append(disposal)
        self._background(disposal.run)

    @override
    def _give_back(self, hold: _Hold) -> None:
        """The bytes count until `background` has closed the descriptor."""
        self._dispose(hold.fd, _pages(hold.size_bytes))

    def _same_file_is_resident(self, fd: int, digest: str) -> bool:
        hold = self._resident.get(digest)
        return hold is not None and os.fstat(hold.fd).st_ino == os.fstat(fd).st_ino


def _fault_in(fd: int, *, offset: int, length: int) -> None:
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as error:
        raise MemoryError_(
            f"cannot reserve {_mib(length)} of shared memory: {error.strerror}; the container's memory limit must "
            "be at least the pool's budget, twice the largest weight file and 512 MB"
        ) from error


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"

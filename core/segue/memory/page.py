"""The pointer page: eight bytes per voice that say which revision speaks.

A flip is one aligned store into memory that the sidecar and every worker map. Nothing else takes part in it: no
message, no lock, no system call.

Layout (64 KiB, native byte order, u64 units)::

    0      magic                     4      term of the latest leader
    1      version << 32 | slots     5      pid of the sidecar that beats
    2      page id (random, not 0)   6…191  zero
    3      heartbeat (CLOCK_MONOTONIC, ns)
    192…8191  slots 0…7,999: active:16 | candidate:16 | mode:2 | weight:14 | epoch:16, the most significant first

**Stores and loads go through `memoryview.cast("Q")[i]` and through nothing else**: that is one machine word, where
`struct.pack_into` zeroes the field first and lets readers see 0.

**Protection.** The memfd has mode 0600 and no write seal; workers get a description opened read-only. With the sidecar
and the server under different UIDs a worker can neither map it writable, reopen, chmod nor seal it, while a restarted
sidecar of the same UID reopens a worker's descriptor and goes on (`PointerPage.adopt`). Under one UID, as on a laptop,
this guards against accidents only.
"""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import time
from dataclasses import dataclass
from enum import IntEnum

from segue.errors import ArenaCorrupt
from segue.memory import memfd

PAGE_BYTES = 64 * 1024
SLOTS = 8_000
MAX_HANDLE = 0xFFFF
MAX_WEIGHT = 10_000
NO_HANDLE = 0
"""A word whose active handle is 0: the voice is cold."""

_MAGIC = int.from_bytes(b"SEGUEPP1", "big")
_VERSION = 1
_SHAPE = _VERSION << 32 | SLOTS
_FIELD_MAGIC, _FIELD_SHAPE, _FIELD_ID, _FIELD_HEARTBEAT, _FIELD_TERM, _FIELD_PID = range(6)
_FIRST_SLOT = PAGE_BYTES // 8 - SLOTS
_U64 = 0xFFFF_FFFF_FFFF_FFFF


class Mode(IntEnum):
    """What the candidate of a word gets."""

    SPLIT = 0
    MIRROR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One slot of the page.

    Attributes
    ----------
    active, candidate
        Pod-global handles, one per revision digest, never reused in a page's life. 0 = none.
    mode
        Whether the candidate gets listeners or copies.
    weight
        Share of the candidate in basis points, 0 to 10,000.
    epoch
        Counts stores, modulo 65,536: the same revisions stored again are another word.
    """

    active: int = NO_HANDLE
    candidate: int = NO_HANDLE
    mode: Mode = Mode.SPLIT
    weight: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        for name, value, top in (
            ("active", self.active, MAX_HANDLE),
            ("candidate", self.candidate, MAX_HANDLE),
            ("weight", self.weight, MAX_WEIGHT),
            ("epoch", self.epoch, 0xFFFF),
        ):
            if not 0 <= value <= top:
                raise ValueError(f"{name} of a word must be 0 to {top}, not {value}")
        if self.candidate and not self.active:
            raise ValueError(f"a word with candidate {self.candidate} needs an active handle")
        if self.weight and not self.candidate:
            raise ValueError(f"a word with weight {self.weight} needs a candidate")

    def pack(self) -> int:
        """The u64 that is stored."""
        return self.active << 48 | self.candidate << 32 | int(self.mode) << 30 | self.weight << 16 | self.epoch

    @classmethod
    def unpack(cls, raw: int) -> Word:
        """Read a u64 of the page.

        Raises
        ------
        ArenaCorrupt
            No sidecar stores such a word.
        """
        try:
            return cls(
                active=raw >> 48 & 0xFFFF,
                candidate=raw >> 32 & 0xFFFF,
                mode=Mode(raw >> 30 & 0b11),
                weight=raw >> 16 & 0x3FFF,
                epoch=raw & 0xFFFF,
            )
        except ValueError as error:
            raise ArenaCorrupt(f"the pointer page holds the word {raw:#018x}, which means nothing: {error}") from error

    @property
    def handles(self) -> frozenset[int]:
        """Every handle that a worker must be able to resolve for this word."""
        return frozenset({self.active, self.candidate} - {NO_HANDLE})

    def followed_by(self, *, active: int, candidate: int = NO_HANDLE, mode: Mode = Mode.SPLIT, weight: int = 0) -> Word:
        """The next word of the slot: the epoch counts up."""
        epoch = (self.epoch + 1) & 0xFFFF
        return Word(active=active, candidate=candidate, mode=mode, weight=weight, epoch=epoch)


COLD = Word()


class PageReader:
    """The page as a worker maps it: read-only.

    Owns neither the descriptor it was made from (close it, or keep it to hand it to the next sidecar) nor any thread.
    """

    def __init__(self, fd: int) -> None:
        """Map the page behind `fd` read-only.

        Raises
        ------
        ArenaCorrupt
            Not a pointer page of this version, or one that could be truncated under us.
        """
        check_page(fd)
        self._map = mmap.mmap(fd, PAGE_BYTES, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        if (self._words[_FIELD_MAGIC], self._words[_FIELD_SHAPE]) != (_MAGIC, _SHAPE):
            found = self._words[_FIELD_MAGIC]
            self.close()
            raise ArenaCorrupt(f"not a pointer page of version {_VERSION}: it begins with {found:#018x}")
        self.page_id = self._words[_FIELD_ID]

    def load_raw(self, slot: int) -> int:
        """The u64 of `slot`, as it is. One load."""
        return self._words[_index(slot)]

    def load(self, slot: int) -> Word:
        """The word of `slot`.

        Raises
        ------
        ArenaCorrupt
            The u64 is no word.
        """
        return Word.unpack(self._words[_index(slot)])

    def heartbeat_age_s(self, *, now_ns: int | None = None) -> float:
        """Seconds since the sidecar's last beat; never negative.

        CLOCK_MONOTONIC is one clock for all processes of a machine, containers included.
        """
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        return max(0, now_ns - self._words[_FIELD_HEARTBEAT]) / 1e9

    @property
    def term(self) -> int:
        """Term of the latest leader that commanded the sidecar."""
        return self._words[_FIELD_TERM]

    @property
    def sidecar_pid(self) -> int:
        """Pid of the sidecar that beats, in its own pid namespace."""
        return self._words[_FIELD_PID]

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words.release()
        self._bytes.release()
        self._map.close()


class PointerPage:
    """The page as the sidecar owns it."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`, an `O_RDWR` description; use `create` or `adopt`."""
        self._fd = fd
        self._map = mmap.mmap(fd, PAGE_BYTES, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")

    @classmethod
    def create(cls) -> PointerPage:
        """Make a page with every slot cold.

        Raises
        ------
        MemoryError_
            The kernel has no memory or descriptors left.
        """
        fd = memfd.create("segue-pointer-page")
        os.ftruncate(fd, PAGE_BYTES)
        memfd.add_seals(fd, memfd.SEALS_PAGE)
        page = cls(fd)
        page._words[_FIELD_SHAPE] = _SHAPE
        page._words[_FIELD_ID] = secrets.randbits(63) + 1
        page._words[_FIELD_MAGIC] = _MAGIC
        page.beat()
        return page

    @classmethod
    def adopt(cls, fd: int) -> PointerPage:
        """Go on with a page that a worker gave back. `fd` stays the caller's.

        Raises
        ------
        ArenaCorrupt
            Not a page that a sidecar of our UID made: another owner, mode, size, seals or content.
        MemoryError_
            It cannot be reopened for writing.
        """
        memfd.require_owner(fd, uid=os.geteuid(), what="the pointer page")
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode != 0o600:
            raise ArenaCorrupt(f"the pointer page has mode {mode:o} instead of 600: refused")
        PageReader(fd).close()
        page = cls(memfd.reopen(fd, os.O_RDWR))
        page.beat()
        return page

    @property
    def page_id(self) -> int:
        """Random name of this page; workers report it after a restart of the sidecar."""
        return self._words[_FIELD_ID]

    def store(self, slot: int, word: Word) -> int:
        """Flip: one store. Returns CLOCK_MONOTONIC in ns, taken directly after it."""
        self._words[_index(slot)] = word.pack()
        return time.monotonic_ns()

    def load(self, slot: int) -> Word:
        """The word of `slot`.

        Raises
        ------
        ArenaCorrupt
            The u64 is no word.
        """
        return Word.unpack(self._words[_index(slot)])

    def beat(self, *, term: int | None = None) -> None:
        """Say that the sidecar lives (call each second). After 60 s without, workers take every weight as 0."""
        if term is not None:
            self._words[_FIELD_TERM] = term & _U64
        self._words[_FIELD_PID] = os.getpid()
        self._words[_FIELD_HEARTBEAT] = time.monotonic_ns()

    def export(self) -> int:
        """A new read-only description for one worker; owned by the caller (`Connection.send` takes it over)."""
        return memfd.reopen(self._fd, os.O_RDONLY)

    def close(self) -> None:
        """Unmap and close. Idempotent. The workers' mappings live on."""
        if self._map.closed:
            return
        self._words.release()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)


def check_page(fd: int) -> None:
    """Refuse what cannot be a pointer page, before it is mapped.

    Raises
    ------
    ArenaCorrupt
        Wrong size, or seals that let somebody truncate it or that keep everybody from writing it.
    """
    memfd.require_seals(fd, memfd.SEALS_PAGE, what="the pointer page")
    if memfd.seals_of(fd) & memfd.SEALS_READ_ONLY:
        raise ArenaCorrupt("the pointer page is sealed against writing: no flip could ever be stored in it")
    size = os.fstat(fd).st_size
    if size != PAGE_BYTES:
        raise ArenaCorrupt(f"the pointer page has {size} bytes instead of {PAGE_BYTES}")


def _index(slot: int) -> int:
    if not 0 <= slot < SLOTS:
        raise IndexError(f"slot {slot} is outside 0 to {SLOTS - 1}")
    return _FIRST_SLOT + slot

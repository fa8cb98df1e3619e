"""A process that holds shared memory on command, so that tests can look at it from the other side.

`MemoryPeer` is the test's end.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence

from tests.support.peer import Peer, answer_commands

from segue.errors import MemoryError_
from segue.memory.page import PointerPage, Word


class MemoryPeer(Peer):
    """The test's end of a peer process."""

    def __init__(self, *, fds: Sequence[int] = ()) -> None:
        """Start it with these descriptors, under the same numbers."""
        super().__init__("tests.support.memory_peer", fds=fds)


class _Commands:
    """What the process can do. Each returns JSON."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []
        self._pages: list[PointerPage] = []

    def become(self, uid: int) -> str:
        """Give up root for another UID, as an ordinary process of that UID (with access to its own /proc)."""
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        set_dumpable = 4
        ctypes.CDLL(None).prctl(set_dumpable, 1)
        return f"uid {os.getuid()}"

    def create_page(self) -> int:
        """Make a pointer page with one word, as a sidecar does; returns the descriptor that a worker would get."""
        page = PointerPage.create()
        page.store(3, Word(active=9, epoch=4))
        self._pages.append(page)
        return page.export()

    def adopt_page(self, fd: int) -> str:
        """Go on with a page, as a restarted sidecar does: flip slot 3 to handle 10."""
        try:
            page = PointerPage.adopt(fd)
        except MemoryError_ as error:
            return str(error)
        page.store(3, page.load(3).followed_by(active=10))
        self._pages.append(page)
        return "adopted"

    def map(self, fd: int, *, write: bool = False) -> str:
        """Map the file, keep the mapping."""
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        self._maps.append(mmap.mmap(fd, os.fstat(fd).st_size, flags=mmap.MAP_SHARED, prot=prot))
        return "mapped"

    def unmap(self) -> str:
        """Drop all mappings."""
        while self._maps:
            self._maps.pop().close()
        return "unmapped"

    def close(self, fd: int) -> str:
        """Close a descriptor."""
        os.close(fd)
        return "closed"

    def reopen_writable(self, fd: int) -> str:
        """Try to get a writable description through /proc."""
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
        return "reopened"

    def chmod(self, fd: int) -> str:
        """Try to give everybody access."""
        os.fchmod(fd, 0o666)
        return "changed"

    def hammer(self, fd: int, *, index: int, allowed: Sequence[int], reads: int) -> dict[str, int]:
        """Load one u64 many times; count those that are none of `allowed`, and how many different ones were seen."""
        self.map(fd)
        view = memoryview(self._maps[-1])
        words = view.cast("Q")
        good = frozenset(allowed)
        wrong = 0
        seen: set[int] = set()
        for _ in range(reads):
            value = words[index]
            seen.add(value)
            if value not in good:
                wrong += 1
        words.release()
        view.release()
        return {"wrong": wrong, "distinct": len(seen)}


def main() -> None:
    """Answer commands until stdin ends."""
    answer_commands(_Commands(), told=(OSError,), what=lambda error: str(getattr(error, "strerror", error)))


if __name__ == "__main__":
    main()

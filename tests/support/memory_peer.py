"""A process that holds shared memory on command, so that tests can look at it from the other side.

Run as a script: it takes one JSON command a line on stdin and answers each with one line, so no test has to wait and
hope. `Peer` is the test's end.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from segue.errors import MemoryError_
from segue.memory.page import PointerPage, Word


class Peer:
    """The test's end of a peer process."""

    def __init__(self, *, fds: Sequence[int] = ()) -> None:
        """Start it with these descriptors, under the same numbers."""
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> Any:
        """Carry out one command; what it raised comes back as `OSError: …` text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


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
    commands = _Commands()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Any = getattr(commands, request.pop("do"))(**request)
        except OSError as error:
            answer = f"{type(error).__name__}: {error.strerror}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""The kernel's side of shared memory: memfds, their seals, and descriptions opened anew.

Separate because a wrong flag here is a silent hole (a page that a worker can truncate under the sidecar is a SIGBUS),
and because CPython 3.11 lacks half of the constants.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
import time
from collections.abc import Sequence

from segue.errors import ArenaCorrupt, MemoryError_

MFD_NOEXEC_SEAL = 0x0008
"""Linux 6.3; older kernels answer EINVAL and get the memfd without it."""

F_SEAL_FUTURE_WRITE = 0x0010

SEALS_ARENA = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""What a finished arena carries: nobody writes, resizes or unseals it again."""

SEALS_PAGE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""What pages carry that stay writable for their owner. Without SHRINK a peer could truncate one under its readers
(SIGBUS). No write seal: after F_SEAL_FUTURE_WRITE nobody could ever map it writable again, so that one crash of the
sidecar would end all flips."""

SEALS_READ_ONLY = fcntl.F_SEAL_WRITE | F_SEAL_FUTURE_WRITE

SEALING_PATIENCE_S = 10.0
"""How long a child that filled memory waits for those who hold pages of it to let go."""

_BUSY_PAUSE_S = 0.02
"""Between two tries to seal: nobody tells when a page is let go, and a writable mapping is refused at once."""


def create(name: str, *, mode: int = 0o600) -> int:
    """Make an empty memfd, close-on-exec, sealable, never executable, owned by our UID alone.

    The description returned was opened anew: the kernel leaves the one of `memfd_create` out of the counts that leases
    look at, so that whoever held it would go unseen.

    Raises
    ------
    MemoryError_
        The kernel has no more memory or descriptors.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            fd = os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = os.memfd_create(name, flags)
    except OSError as error:
        raise MemoryError_(f"cannot create the memfd {name!r}: {error.strerror}") from error
    try:
        os.fchmod(fd, mode)
        return reopen(fd, os.O_RDWR)
    finally:
        os.close(fd)


def add_seals(fd: int, seals: int, *, patience_s: float = 0.0) -> None:
    """Seal `fd`.

    Parameters
    ----------
    patience_s
        How long to try again while the kernel says EBUSY. It says so for a writable mapping, and also for any page
        that somebody holds for a moment (compaction, reclaim, a read in flight): it waits 150 ms for those by itself,
        which a busy machine outlasts. Only for a process that has nothing else to do.

    Raises
    ------
    MemoryError_
        A writable mapping or a page is still held somewhere (EBUSY), or the file is sealed against sealing already
        (EPERM).
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        except OSError as error:
            busy = error.errno == errno.EBUSY
            if busy and time.monotonic() < deadline_s:
                time.sleep(_BUSY_PAUSE_S)
                continue
            hint = f"still held elsewhere after {patience_s:g} s: unmap it there" if busy else "it is sealed already"
            raise MemoryError_(f"cannot add the seals {seals:#x} ({error.strerror}): {hint}") from error
        return


def seals_of(fd: int) -> int:
    """The seals of `fd`; -1 for a file that can have none (not a memfd)."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return -1


def reopen(fd: int, flags: int) -> int:
    """Open the file behind `fd` as a new description (`os.O_RDONLY` to hand out, `os.O_RDWR` to own).

    A new description, not a dup: leases and access modes belong to descriptions. Needs /proc, and for `O_RDWR` the
    UID that made the file.

    Raises
    ------
    MemoryError_
        The file belongs to another UID, or there are no descriptors left.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    except OSError as error:
        raise MemoryError_(f"cannot reopen shared memory with flags {flags:#x}: {error.strerror}") from error


def require_seals(fd: int, wanted: int, *, what: str) -> None:
    """Refuse a file that somebody could still change in a way that would hurt us.

    Raises
    ------
    ArenaCorrupt
        A seal of `wanted` is missing, or it is no memfd at all.
    """
    found = seals_of(fd)
    if found < 0:
        raise ArenaCorrupt(f"{what} is not a memfd: refused, because it could be truncated under its readers")
    if found & wanted != wanted:
        raise ArenaCorrupt(f"{what} has the seals {found:#x}, but needs {wanted:#x}: refused")


def require_owner(fd: int, *, uid: int, what: str) -> None:
    """Refuse a file that another UID made.

    Raises
    ------
    ArenaCorrupt
        Not a regular file of `uid`.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ArenaCorrupt(f"{what} is not a regular file (mode {status.st_mode:o}): refused")
    if status.st_uid != uid:
        raise ArenaCorrupt(f"{what} belongs to uid {status.st_uid}, but must belong to uid {uid}: refused")


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """`pwrite` until all of `data` (bytes) is written.

    Raises
    ------
    MemoryError_
        The kernel wrote nothing: no memory left in this cgroup.
    """
    done = 0
    while done < len(data):
        try:
            written = os.pwrite(fd, data[done:], offset + done)
        except OSError as error:
            raise MemoryError_(f"cannot write shared memory at byte {offset + done}: {error.strerror}") from error
        if written == 0:
            raise MemoryError_(f"cannot write shared memory at byte {offset + done}: nothing was taken")
        done += written


def close_all(fds: Sequence[int]) -> None:
    """Close every descriptor, whatever becomes of the others."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have; returns how many. Call it first thing.

    A worker keeps one descriptor per arena (to give it back), the sidecar one more, and the usual soft limit of 1,024
    is less than 300 voices with their previous revisions need.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

"""Does anybody else still hold this memory?

Separate from the pool because this is the only question whose answer may be believed: an open socket is no lease (a
worker that lost its connection still maps and serves), and neither is a promise.

`fcntl(F_SETLEASE, F_WRLCK)` succeeds only while no *other* open file description of the file exists: a peer's
descriptor, a mapping made from one, and a message in flight all count. Duplicates and forked copies of our own
description do not, so whoever gets the memory must get a description opened anew (`memfd.reopen`), children included.
Nor does the description that `memfd_create` itself returns, which the kernel leaves out of its counts: it must be
reopened and closed before anybody gets the file (`memfd.create` does), or a lease on it fails for ever.

It works without privileges and on sealed memfds; 3.4 microseconds a call (2-core Linux 6.18, CPython 3.11).
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os

from segue.errors import MemoryError_
from segue.memory import memfd


def still_held(fd: int) -> bool:
    """Whether any other description of the file behind `fd` is alive, in whatever process.

    Parameters
    ----------
    fd
        Our own `O_RDWR` description, the only one that we have; nothing of ours may be mapped from another one.

    Raises
    ------
    MemoryError_
        The kernel cannot tell (leases not supported here, file of another UID): see `leases_supported`.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EBUSY):
            return True
        raise MemoryError_(f"the kernel cannot lease shared memory: {error.strerror}") from error
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@functools.cache
def leases_supported() -> bool:
    """Try it once on a memfd of our own: held while a second description lives, free after. Cached.

    Some sandboxes answer ENOSYS, others always say yes; both count as not supported. Then memory is held until every
    worker said `retired` or died.
    """
    opened = [memfd.create("segue-lease-trial")]
    try:
        opened.append(memfd.reopen(opened[0], os.O_RDONLY))
        if not still_held(opened[0]):
            return False
        os.close(opened.pop())
        return not still_held(opened[0])
    except MemoryError_:
        return False
    finally:
        memfd.close_all(opened)

"""The hand-off socket: where the sidecar listens, and how workers find it again after a restart.

Separate from `connection`, which does not care which end it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from segue.errors import HandoffError
from segue.memory.connection import Connection, ConnectionLost, Received, peer_of, until_readable, wake

__all__ = ["Backoff", "Connection", "ConnectionLost", "HandoffListener", "Received", "connect", "connect_patiently"]

MAX_PATH_BYTES = 107
"""sun_path is 108 bytes, the last of them 0."""

LOCK_NAME = "sidecar.lock"

log = logging.getLogger(__name__)


class HandoffListener:
    """The sidecar's end: one socket, one holder.

    A lock file beside the socket is held by `flock` for as long as the listener lives. Children of the sidecar must be
    exec'd (the lock is close-on-exec): a forked copy would keep it after the sidecar's death.
    """

    def __init__(self, path: Path, *, allowed_uids: Collection[int]) -> None:
        """Describe the listener; `open` makes it.

        Parameters
        ----------
        path
            Of the socket, at most 107 bytes; in a directory that only the sidecar can write.
        allowed_uids
            Whose processes may connect: the server's UID, and our own.
        """
        self._path = checked_path(path)
        self._allowed = frozenset(allowed_uids)
        self._lock = -1
        self._sock: socket.socket | None = None
        self._waiter: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Lock, then bind and listen. Needs no loop.

        Raises
        ------
        HandoffError
            Another sidecar holds the lock; the message names its pid.
        """
        self._lock = _hold_lock(self._path.parent / LOCK_NAME)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)
            sock.bind(str(self._path))
            # Connecting takes write permission; who may is decided by SO_PEERCRED, and by the directory.
            self._path.chmod(0o600 if self._allowed <= {os.geteuid()} else 0o666)
            sock.listen(128)
        except OSError as error:
            sock.close()
            self._unlock()
            raise HandoffError(f"cannot listen on {self._path}: {error.strerror}") from error
        self._sock = sock

    async def accept(self) -> Connection:
        """The next worker. Peers of other UIDs are turned away and logged.

        Raises
        ------
        HandoffError
            The listener is closed.
        """
        loop = asyncio.get_running_loop()
        while self._sock is not None:
            try:
                peer_sock, _ = self._sock.accept()
            except BlockingIOError:
                self._waiter = loop.create_future()
                await until_readable(self._sock, self._waiter)
                continue
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # Out of descriptors or memory: the worker stays in the backlog and is taken when there is room again.
                log.error("cannot accept a worker: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            peer = peer_of(peer_sock)
            if peer.uid in self._allowed:
                return Connection(peer_sock)
            peer_sock.close()
            log.warning("turned away pid %s of uid %s on %s: not an allowed uid", peer.pid, peer.uid, self._path)
        raise HandoffError(f"the listener on {self._path} is closed")

    def close(self) -> None:
        """Stop listening, remove the socket, give the lock back; a waiting `accept` raises. Idempotent."""
        if self._sock is None:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.get_loop().remove_reader(self._sock)
            wake(self._waiter)
        self._sock.close()
        self._sock = None
        self._path.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock)
        self._lock = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the next try: doubling, with a quarter of jitter, never over `most_s`."""

    first_s: float = 0.02
    most_s: float = 1.0

    def delay_s(self, attempt: int, *, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after failed try number `attempt` (0, 1, …)."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 30)) * (1 - draw() / 4)


def connect(path: Path) -> Connection:
    """Connect a worker to the sidecar; local sockets answer at once or not at all. Needs a running loop.

    Raises
    ------
    ConnectionLost
        Nobody listens there, or its backlog is full.
    HandoffError
        The path is too long.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(str(checked_path(path)))
    except OSError as error:
        sock.close()
        raise ConnectionLost(f"no sidecar on {path}: {error.strerror}") from error
    except HandoffError:
        sock.close()
        raise
    return Connection(sock)


async def connect_patiently(path: Path, *, backoff: Backoff | None = None) -> Connection:
    """Connect, and try again until somebody listens. Cancel it to stop.

    Raises
    ------
    HandoffError
        The path is too long: waiting does not help.
    """
    backoff = backoff or Backoff()
    attempt = 0
    while True:
        with contextlib.suppress(ConnectionLost):
            return connect(path)
        await asyncio.sleep(backoff.delay_s(attempt))
        attempt += 1


def checked_path(path: Path) -> Path:
    """Refuse a path that does not fit into a socket address.

    Raises
    ------
    HandoffError
        More than 107 bytes.
    """
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise HandoffError(
            f"the socket path {path} has {length} bytes; a Unix socket takes {MAX_PATH_BYTES}: shorten it"
        )
    return path


def _hold_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise HandoffError(f"another sidecar (pid {holder}) holds {path}: stop it first") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd

"""How a child talks to the sidecar: JSON datagrams with descriptors, over a socket pair.

One datagram from the sidecar is the job. The child answers any number of progress notes and requests, then exactly one
result or error, and ends. A child whose channel breaks has no parent any more and ends, too.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segue.errors import SegueError

MAX_BYTES = 128 * 1024
MAX_FDS = 64
_PROGRESS_EVERY_S = 0.2


class JobError(SegueError):
    """A job that failed in a way that its reason names.

    Attributes
    ----------
    reason
        CamelCase, as `RevisionState.reason` shows it.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Channel:
    """The child's end; blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._last_progress_s = 0.0

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The next datagram and its descriptors, which are the caller's.

        Raises
        ------
        EOFError
            The sidecar is gone.
        """
        data, fds, _, _ = socket.recv_fds(self._sock, MAX_BYTES, MAX_FDS)
        if not data:
            raise EOFError("the sidecar closed the channel")
        return json.loads(data), list(fds)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one datagram.

        Raises
        ------
        OSError
            The sidecar is gone.
        """
        self._sock.send(json.dumps(message).encode())

    def ask(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Send a request and wait for the answer."""
        self.send(message)
        return self.receive()

    def progress(self, stage: str, *, done: int, total: int) -> None:
        """Say how far a stage is; not more often than five times a second, but always its end."""
        now_s = time.monotonic()
        if done < total and now_s - self._last_progress_s < _PROGRESS_EVERY_S:
            return
        self._last_progress_s = now_s
        self.send({"progress": {"stage": stage, "done": done, "total": total}})

    def steps(self, stage: str, *, before: int, total: int) -> Callable[[int], None]:
        """What to call with the bytes done of one part, where `before` bytes of others were done already."""
        return lambda done: self.progress(stage, done=before + done, total=total)


def cut(text: str, *, most: int = 1500) -> str:
    """`text`, shortened so that it fits into a message for people."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`, for messages."""
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + (names[-1] if names else "nothing")

"""Takes connections from the socket that all workers share, one at a time.

asyncio's own server takes as many as are waiting whenever the socket is readable, so that one worker may end up with
all of a client's connections while the others idle. Taking one per turn, and a moment later the more this worker has,
leaves the next connection to whoever has fewest. It also lets a draining worker stop to accept without closing what it
has.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

BACK_OFF_S = 0.1
SEND_BUFFER_BYTES = 256 * 1024

log = logging.getLogger(__name__)


class Acceptor:
    """Accepts on one listening socket."""

    def __init__(
        self, sock: socket.socket, *, protocol: Callable[[], asyncio.BaseProtocol], hesitate_s: Callable[[], float]
    ) -> None:
        """Make a `protocol` per connection. `hesitate_s` says how long to leave a connection to the other workers."""
        sock.setblocking(False)
        self._sock = sock
        self._protocol = protocol
        self._hesitate_s = hesitate_s
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        self._open = False

    def start(self) -> None:
        """Accept from now on."""
        self._open = True
        self._loop.add_reader(self._sock, self._readable)

    def stop(self) -> None:
        """Accept no more; connections stay. Idempotent."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)

    def _readable(self) -> None:
        wait_s = self._hesitate_s()
        if wait_s > 0:
            self._loop.remove_reader(self._sock)
            self._loop.call_later(wait_s, self._accept_and_go_on)
        else:
            self._accept()

    def _accept_and_go_on(self) -> None:
        if self._open:
            self._accept()
            self._loop.add_reader(self._sock, self._readable)

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("cannot accept a connection: %s", error.strerror)
            self.stop()
            self._loop.call_later(BACK_OFF_S, self.start)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Left to itself the kernel would take megabytes for a client that reads nothing, and call that progress.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(self._protocol, connection)
        )
        self._starting.add(task)
        task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[object]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection could not be begun", exc_info=task.exception())

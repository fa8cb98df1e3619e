"""Spans wait here until a thread sends them, many at once.

Separate from encoding and posting so that its promises can be tested without either: whoever puts a span in never
waits, no more wait than there is room for, what is dropped is counted and told, and the end comes in time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from segue.otlp.posting import NotTaken
from segue.otlp.settings import Settings
from segue.tracing import SpanOver

FIRST_PAUSE_S = 1.0
"""Before a batch is tried again; then twice as long, each a fifth longer or shorter by chance."""

TELL_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Sender:
    """Begins its thread when it is made."""

    def __init__(
        self,
        settings: Settings,
        *,
        encode: Callable[[Sequence[SpanOver]], bytes],
        post: Callable[[bytes, float], None],
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """`post` sends a message in so many seconds, or raises `NotTaken`."""
        self._settings = settings
        self._encode = encode
        self._post = post
        self._first_pause_s = first_pause_s
        self._waiting: deque[SpanOver] = deque()
        self._no_room = 0
        self._not_taken = 0
        self._why = ""
        self._told = 0
        self._told_s = float("-inf")
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="segue-traces", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that had no room, or that the receiver did not take."""
        return self._no_room + self._not_taken

    @property
    def waiting(self) -> int:
        """Spans that are not yet on their way."""
        return len(self._waiting)

    def put(self, span: SpanOver) -> None:
        """Have it sent some time. Never waits; to be called by one thread, or else drops may be counted wrong."""
        waiting = len(self._waiting)
        if waiting >= self._settings.queue_spans or self._closing.is_set():
            self._no_room += 1
            return
        self._waiting.append(span)
        if waiting + 1 >= self._settings.batch_spans and not self._wake.is_set():
            self._wake.set()

    def close(self, *, within_s: float) -> None:
        """Send what is left, each batch tried once, and return after this time at the latest."""
        self._closing.set()
        self._wake.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            log.warning("traces: %d spans were not sent in time to %s", self.waiting, self._settings.url)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            is_full = self._wake.wait(self._settings.delay_s)
            self._wake.clear()
            self._send(least=self._settings.batch_spans if is_full else 1)
        self._send(least=1)
        self._tell()

    def _send(self, *, least: int) -> None:
        """As long as there are so many."""
        while (count := len(self._waiting)) >= least:
            batch = [self._waiting.popleft() for _ in range(min(count, self._settings.batch_spans))]
            try:
                self._deliver(self._encode(batch))
            except NotTaken as error:
                self._not_taken += len(batch)
                self._why = str(error)
            except Exception as error:  # the thread's outermost loop: it goes on with the next batch
                log.exception("traces: a batch could not be sent")
                self._not_taken += len(batch)
                self._why = f"{type(error).__name__}: {error}"
            self._tell()

    def _deliver(self, body: bytes) -> None:
        deadline_s = time.monotonic() + self._settings.timeout_s
        pause_s = self._first_pause_s
        while True:
            try:
                return self._post(body, max(0.001, deadline_s - time.monotonic()))
            except NotTaken as error:
                wait_s = max(error.after_s, pause_s * random.uniform(0.8, 1.2))
                if not error.again or self._closing.is_set() or time.monotonic() + wait_s >= deadline_s:
                    raise
                self._closing.wait(wait_s)
                pause_s *= 2

    def _tell(self) -> None:
        """Of drops that nobody heard of, once in a while and at the end."""
        now_s, dropped = time.monotonic(), self.dropped
        if dropped == self._told or (now_s - self._told_s < TELL_EVERY_S and not self._closing.is_set()):
            return
        log.warning(
            "traces: %d spans dropped so far, %d because %s did not take them (%s), the others for want of room",
            dropped,
            self._not_taken,
            self._settings.url,
            self._why or "it is slow",
        )
        self._told, self._told_s = dropped, now_s

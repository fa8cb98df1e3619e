"""The encoding of one response: in order, off the loop where it costs anything, thrown away half-way if need be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from segue_server.audio.encoder import Encoder, make_encoder
from segue_server.audio.formats import OutputSpec
from segue_server.synthesis.rows import Samples

log = logging.getLogger(__name__)


class LaneSink(Protocol):
    """Told on the loop."""

    def on_bytes(self, data: bytes) -> None:
        """The next encoded piece; never empty."""
        ...

    def on_encoded(self) -> None:
        """That was all."""
        ...

    def on_encoder_failed(self, error: BaseException) -> None:
        """The codec gave up."""
        ...


class EncodingLane:
    """Feeds one encoder. `executor` must have a single thread: that is what keeps the pieces in order."""

    def __init__(self, output: OutputSpec, *, engine_rate: int, executor: Executor, sink: LaneSink) -> None:
        """For audio at `engine_rate` Hz. Needs a running loop."""
        self._encoder: Encoder = make_encoder(output, engine_rate=engine_rate)
        self._executor = executor
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.waiting = 0

    def feed(self, samples: Samples) -> None:
        """Encode a piece."""
        self._run(partial(self._encoder.feed, samples), last=False)

    def finish(self) -> None:
        """No more comes."""
        self._run(self._encoder.finish, last=True)

    def close(self) -> None:
        """Throw away what is not encoded yet; the sink hears nothing more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._executor.submit(self._encoder.close)

    def _run(self, work: Callable[[], bytes], *, last: bool) -> None:
        if self._encoder.cheap:
            self._hand_out(work(), last=last)
            return
        self.waiting += 1
        future = self._loop.run_in_executor(self._executor, work)
        future.add_done_callback(partial(self._done, last=last))

    def _done(self, future: asyncio.Future[bytes], *, last: bool) -> None:
        self.waiting -= 1
        error = None if future.cancelled() else future.exception()
        if self._closed or future.cancelled():
            return
        if error is not None:
            self._closed = True
            log.error("an encoder failed", exc_info=error)
            self._sink.on_encoder_failed(error)
            return
        self._hand_out(future.result(), last=last)

    def _hand_out(self, data: bytes, *, last: bool) -> None:
        if self._closed:
            return
        if data:
            self._sink.on_bytes(data)
        if last:
            self._closed = True
            self._sink.on_encoded()

"""AAC (ADTS) by FFmpeg through PyAV, which is an extra: `pip install "segue[aac]"`.

Separate because importing it needs PyAV, which takes a while and may not be there (`formats.aac_available`).
"""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

BIT_RATE = 96_000


class AacEncoder:
    """AAC-LC in ADTS frames."""

    cheap = False

    def __init__(self, rate: int) -> None:
        """Samples come at `rate` Hz."""
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format="adts")
        self._stream = self._container.add_stream("aac", rate=rate, layout="mono")
        self._stream.bit_rate = BIT_RATE
        self._rate = rate
        self._position = 0

    def feed(self, samples: NDArray[np.float32]) -> bytes:
        """Encode a piece."""
        if samples.size:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
            frame.sample_rate = self._rate
            frame.pts = self._position
            self._position += samples.size
            self._mux(frame)
        return self._take()

    def finish(self) -> bytes:
        """What is left in the codec."""
        self._mux(None)
        self._container.close()
        return self._take()

    def close(self) -> None:
        """Give up half-way."""
        self._container.close()

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _take(self) -> bytes:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return data

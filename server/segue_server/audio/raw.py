"""PCM, bare and with a WAV header: a conversion and nothing else, so cheap that it runs on the event loop."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

_UNKNOWN_BYTES = 0xFFFF_FFFF
_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """`(samples,) float32` as 16-bit integers; what is outside [-1, 1] is clipped."""
    scaled = np.clip(samples, -1.0, 1.0) * np.float32(32767.0)
    rounded: NDArray[np.int16] = np.rint(scaled).astype("<i2")
    return rounded


def to_s16(samples: NDArray[np.float32]) -> bytes:
    """The same as signed 16-bit little-endian PCM."""
    return bytes(to_int16(samples).data)


def wav_header(rate: int) -> bytes:
    """Header of mono 16-bit PCM whose length is not known yet: both sizes are 0xFFFFFFFF, as streams have it."""
    return _WAV_HEADER.pack(
        b"RIFF", _UNKNOWN_BYTES, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", _UNKNOWN_BYTES
    )


class PcmEncoder:
    """Signed 16-bit little-endian samples, mono."""

    cheap = True

    def feed(self, samples: NDArray[np.float32]) -> bytes:
        """Encode a piece."""
        return to_s16(samples)

    def finish(self) -> bytes:
        """Nothing is left."""
        return b""

    def close(self) -> None:
        """Nothing is held."""


class WavEncoder(PcmEncoder):
    """The same behind a header, which goes out with the first samples."""

    def __init__(self, rate: int) -> None:
        """Samples come at `rate` Hz."""
        self._header = wav_header(rate)

    @override
    def feed(self, samples: NDArray[np.float32]) -> bytes:
        """Encode a piece."""
        header, self._header = self._header, b""
        return header + to_s16(samples) if samples.size else header

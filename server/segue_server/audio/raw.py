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


def wav_header(rate: int, *, data_bytes: int | None = None) -> bytes:
    """Header of mono 16-bit PCM; where the length is not known yet, both sizes are 0xFFFFFFFF, as streams have it."""
    size = _UNKNOWN_BYTES if data_bytes is None else data_bytes
    whole = _UNKNOWN_BYTES if data_bytes is None else data_bytes + _WAV_HEADER.size - 8
    return _WAV_HEADER.pack(b"RIFF", whole, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size)


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


class WholeWavEncoder(PcmEncoder):
    """WAV with its length in the header, for clients that take a file: nothing is handed out before the end."""

    def __init__(self, rate: int) -> None:
        """Samples come at `rate` Hz."""
        self._rate = rate
        self._pieces: list[bytes] = []

    @override
    def feed(self, samples: NDArray[np.float32]) -> bytes:
        """Encode a piece."""
        self._pieces.append(to_s16(samples))
        return b""

    @override
    def finish(self) -> bytes:
        """All of it."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return wav_header(self._rate, data_bytes=len(data)) + data

    @override
    def close(self) -> None:
        """Give up half-way."""
        self._pieces.clear()

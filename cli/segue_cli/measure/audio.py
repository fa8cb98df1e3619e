"""Reading the two formats that can be compared sample by sample, and writing one of them.

Separate from the codec library because a streamed wav carries no length in its header, and because what is measured
must not pass through the code that made it.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

PCM_RATE_HZ = 24_000
COMPARABLE_FORMATS = frozenset({"wav", "pcm"})


class UnreadableAudio(ValueError):
    """Bytes that are not the audio they claim to be."""


def decode(body: bytes, *, response_format: str) -> tuple[NDArray[np.float32], int]:
    """Decode wav (16 bit or float, mono) or raw s16le.

    Returns
    -------
    tuple of array and int
        `(samples,) float32` in [-1, 1], and the rate in Hz.

    Raises
    ------
    UnreadableAudio
        Another format, a broken header, more than one channel.
    """
    if response_format == "pcm":
        return _from_int16(body), PCM_RATE_HZ
    if response_format == "wav":
        return _decode_wav(body)
    raise UnreadableAudio(f"only wav and pcm compare sample by sample, not {response_format}")


def encode_wav(samples: NDArray[np.float32], rate_hz: int) -> bytes:
    """`(samples,) float32` in [-1, 1] as a 16-bit mono wav file."""
    content: bytes = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(content), b"WAVE", b"fmt ", 16, 1, 1, rate_hz, rate_hz * 2, 2, 16, b"data", len(content)),
    )
    return header + content


def _from_int16(content: bytes) -> NDArray[np.float32]:
    whole = content[: len(content) // 2 * 2]
    return np.frombuffer(whole, dtype="<i2").astype(np.float32) / np.float32(32768.0)


def _decode_wav(body: bytes) -> tuple[NDArray[np.float32], int]:
    if len(body) < 12 or body[:4] != b"RIFF" or body[8:12] != b"WAVE":
        raise UnreadableAudio(f"no RIFF/WAVE header in {body[:12]!r}")
    kind, channels, rate_hz, bits, place = 0, 0, 0, 0, 12
    while place + 8 <= len(body):
        name, size = struct.unpack_from("<4sI", body, place)
        place += 8
        if name == b"fmt ":
            kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body, place)
        if name == b"data":
            if channels != 1 or bits not in (16, 32):
                raise UnreadableAudio(f"expected mono of 16 or 32 bits, not {channels} channels of {bits} bits")
            content = body[place : place + size]  # a streamed header says 0xFFFFFFFF: the slice ends with the body
            return (_from_int16(content) if bits == 16 else _from_float32(content)), rate_hz
        place += size + (size & 1)
    raise UnreadableAudio(f"no data chunk in a wav of {len(body)} bytes (format {kind})")


def _from_float32(content: bytes) -> NDArray[np.float32]:
    return np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4").astype(np.float32)

"""Opus, Vorbis and FLAC by libsndfile, written to a pipe that forgets.

libsndfile wants to seek back and complete headers when a file is closed. A response cannot: `_Pipe` lets it seek, and
drops whatever it writes anywhere but at the end.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from segue_server.audio.raw import to_int16

Samples: TypeAlias = NDArray[np.float32]

_MOST_AT_ONCE = 1 << 15
"""Samples."""

OPUS_COMPRESSION = 0.7
"""libsndfile's scale; 80 kbit/s or so. At its default of 33 libopus takes twice the time for less."""

_SFC_SET_OGG_PAGE_LATENCY_MS = 0x1302
_OGG_PAGE_MS = 60.0
"""Default of libsndfile: a second, which is a second of speech before the first byte."""


class _Pipe:
    """What libsndfile takes for a file. `take` hands out what was appended since the last call."""

    def __init__(self) -> None:
        self._position = 0
        self._end = 0
        self._fresh: list[bytes] = []

    def write(self, data: Any) -> int:
        piece = bytes(data)
        if self._position == self._end:
            self._fresh.append(piece)
            self._end += len(piece)
        self._position += len(piece)
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        fresh, self._fresh = b"".join(self._fresh), []
        return fresh


class StreamEncoder:
    """A libsndfile encoder whose bytes are handed out as they come."""

    cheap = False

    def __init__(self, rate: int, *, convert: Callable[[Samples], NDArray[Any]], **settings: Any) -> None:
        """Samples go through `convert`, `settings` to `soundfile.SoundFile`."""
        self._convert = convert
        self._pipe = _Pipe()
        self._file = soundfile.SoundFile(self._pipe, "w", samplerate=rate, channels=1, **settings)

    def feed(self, samples: Samples) -> bytes:
        """Encode a piece, in steps: libvorbis takes what it gets at once from the thread's stack."""
        for start in range(0, len(samples), _MOST_AT_ONCE):
            self._file.write(self._convert(samples[start : start + _MOST_AT_ONCE]))
        return self._pipe.take()

    def finish(self) -> bytes:
        """Close the codec, and what it still gave."""
        self._file.close()
        return self._pipe.take()

    def close(self) -> None:
        """Give up half-way."""
        self._file.close()


class WholeFlacEncoder:
    """FLAC with its length in the header, for clients that take a file: libsndfile refuses one without."""

    cheap = False

    def __init__(self, rate: int) -> None:
        """Samples come at `rate` Hz."""
        self._buffer = io.BytesIO()
        self._file = soundfile.SoundFile(
            self._buffer, "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16"
        )

    def feed(self, samples: Samples) -> bytes:
        """Encode a piece; nothing is handed out before the end."""
        self._file.write(to_int16(samples))
        return b""

    def finish(self) -> bytes:
        """All of it."""
        self._file.close()
        return self._buffer.getvalue()

    def close(self) -> None:
        """Give up half-way."""
        self._file.close()


def flac_encoder(rate: int) -> StreamEncoder:
    """FLAC, 16 bit, of unknown length."""
    return StreamEncoder(rate, convert=to_int16, format="FLAC", subtype="PCM_16")


def opus_encoder(rate: int) -> StreamEncoder:
    """Opus in Ogg, in pages short enough to stream."""
    encoder = StreamEncoder(rate, convert=np.asarray, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)
    _shorten_pages(encoder._file)
    return encoder


def vorbis_encoder(rate: int) -> StreamEncoder:
    """Vorbis in Ogg."""
    return StreamEncoder(rate, convert=np.asarray, format="OGG", subtype="VORBIS")


def _shorten_pages(file: soundfile.SoundFile) -> None:
    """Ask libsndfile for short Ogg pages; python-soundfile has no name for that command."""
    latency = soundfile._ffi.new("double *", _OGG_PAGE_MS)
    soundfile._snd.sf_command(file._file, _SFC_SET_OGG_PAGE_LATENCY_MS, latency, 8)

"""One encoder per response, fed as the engine speaks.

Separate from the codecs so that a response knows nothing of libsndfile or FFmpeg. Encoders are not thread-safe; each is
used by one thread at a time, the compressing ones off the event loop (`cheap` says which).
"""

from __future__ import annotations

from typing import Protocol, assert_never

import numpy as np
import soxr
from numpy.typing import NDArray

from segue_server.audio import mp3, raw, sndfile
from segue_server.audio.formats import AudioFormat, OutputSpec

Samples = NDArray[np.float32]


class Encoder(Protocol):
    """From samples to bytes."""

    @property
    def cheap(self) -> bool:
        """Whether a piece costs microseconds, so that it may run on the event loop."""
        ...

    def feed(self, samples: Samples) -> bytes:
        """Encode a piece, `(samples,) float32` within [-1, 1]. May return nothing yet."""
        ...

    def finish(self) -> bytes:
        """What is left. The encoder is closed afterwards."""
        ...

    def close(self) -> None:
        """Give up half-way. Idempotent."""
        ...


class Resampled:
    """An encoder behind a streaming resampler."""

    def __init__(self, encoder: Encoder, *, from_rate: int, to_rate: int) -> None:
        """Feed `encoder` at `to_rate` with what comes at `from_rate`, both in Hz."""
        self._encoder = encoder
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")
        self.cheap = False

    def feed(self, samples: Samples) -> bytes:
        """Encode a piece."""
        return self._encoder.feed(self._resample(samples, last=False))

    def finish(self) -> bytes:
        """What is left in resampler and encoder."""
        tail = self._resample(np.zeros(0, np.float32), last=True)
        return self._encoder.feed(tail) + self._encoder.finish()

    def close(self) -> None:
        """Give up half-way."""
        self._encoder.close()

    def _resample(self, samples: Samples, *, last: bool) -> Samples:
        resampled: Samples = self._stream.resample_chunk(samples, last=last)
        return np.clip(resampled, -1.0, 1.0)


def make_encoder(spec: OutputSpec, *, engine_rate: int) -> Encoder:
    """The encoder for one response.

    Parameters
    ----------
    engine_rate
        Of the samples that will be fed, in Hz.

    Raises
    ------
    ImportError
        `aac` without PyAV: ask `aac_available` first.
    """
    rate = spec.rate_for(engine_rate)
    encoder = _codec(spec, rate=rate)
    if rate != engine_rate:
        encoder = Resampled(encoder, from_rate=engine_rate, to_rate=rate)
    return encoder


def _codec(spec: OutputSpec, *, rate: int) -> Encoder:
    match spec.format:
        case AudioFormat.PCM:
            return raw.PcmEncoder()
        case AudioFormat.WAV:
            return raw.WholeWavEncoder(rate) if spec.whole else raw.WavEncoder(rate)
        case AudioFormat.MP3:
            return mp3.Mp3Encoder(rate)
        case AudioFormat.OPUS:
            return sndfile.opus_encoder(rate)
        case AudioFormat.VORBIS:
            return sndfile.vorbis_encoder(rate)
        case AudioFormat.FLAC:
            return sndfile.WholeFlacEncoder(rate) if spec.whole else sndfile.flac_encoder(rate)
        case AudioFormat.AAC:
            from segue_server.audio import aac

            return aac.AacEncoder(rate)
        case _:
            assert_never(spec.format)

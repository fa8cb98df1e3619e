"""What can be asked for: formats, their media types and the sample rates that they can carry.

Separate from the encoders because the API's schema, the cache key and the error messages need it, and no codec.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum

SAMPLE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""What `sample_rate` may be, in Hz."""

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
PCM_RATE = 24_000
"""Raw samples carry no rate: OpenAI's clients take them for 24 kHz."""


class AudioFormat(StrEnum):
    """`response_format`."""

    MP3 = "mp3"
    OPUS = "opus"
    VORBIS = "vorbis"
    AAC = "aac"
    FLAC = "flac"
    WAV = "wav"
    PCM = "pcm"

    @property
    def media_type(self) -> str:
        """For Content-Type."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    AudioFormat.MP3: "audio/mpeg",
    AudioFormat.OPUS: "audio/ogg",
    AudioFormat.VORBIS: "audio/ogg",
    AudioFormat.AAC: "audio/aac",
    AudioFormat.FLAC: "audio/flac",
    AudioFormat.WAV: "audio/wav",
    AudioFormat.PCM: "audio/pcm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """What one response is made of.

    Attributes
    ----------
    format
        Container and codec.
    sample_rate
        Asked for, in Hz; None: the format's own choice (`rate_for`).
    whole
        Send nothing before all is there, so that the container's header can tell the length.
    """

    format: AudioFormat
    sample_rate: int | None = None
    whole: bool = False

    def rate_for(self, engine_rate: int) -> int:
        """The rate that is sent, in Hz, for an engine that speaks at `engine_rate`."""
        if self.sample_rate is not None:
            return self.sample_rate
        if self.format is AudioFormat.PCM:
            return PCM_RATE
        allowed = OPUS_RATES if self.format is AudioFormat.OPUS else SAMPLE_RATES
        return min((rate for rate in allowed if rate >= engine_rate), default=allowed[-1])


def aac_available() -> bool:
    """Whether PyAV is installed. Asked without importing it, which takes a fifth of a second."""
    return importlib.util.find_spec("av") is not None


def rates_of(audio_format: AudioFormat) -> tuple[int, ...]:
    """Sample rates that `audio_format` can carry, in Hz."""
    return OPUS_RATES if audio_format is AudioFormat.OPUS else SAMPLE_RATES

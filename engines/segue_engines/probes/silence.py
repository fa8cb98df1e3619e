"""Where does it speak, and where is it silent for too long?

A decoder that loses its way often goes quiet: a hole inside a sentence, or seconds of nothing after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.spectrum import Audio

_FRAME_S: Final = 0.01
_BELOW_SPEECH_DB: Final = 35.0
_FLOOR_DBFS: Final = -55.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSpan:
    """Where speech lies in an utterance, in seconds.

    Attributes
    ----------
    begin_s, end_s
        First and last speech; equal when there is none.
    inner_silence_s
        Longest silence between them.
    trailing_silence_s
        Silence after the last speech.
    """

    begin_s: float
    end_s: float
    inner_silence_s: float
    trailing_silence_s: float

    @property
    def spoken_s(self) -> float:
        """From first to last speech, pauses between words counted."""
        return self.end_s - self.begin_s


def speech_span(audio: Audio, sample_rate: int) -> SpeechSpan:
    """Find speech by level: frames of 10 ms within 35 dB of the utterance's loud ones, and above -55 dBFS."""
    loud = np.flatnonzero(_is_speech(audio, round(_FRAME_S * sample_rate)))
    total_s = audio.size / sample_rate
    if not loud.size:
        return SpeechSpan(begin_s=0.0, end_s=0.0, inner_silence_s=0.0, trailing_silence_s=total_s)
    longest = int(np.max(np.diff(loud), initial=1)) - 1
    end_s = min((int(loud[-1]) + 1) * _FRAME_S, total_s)
    return SpeechSpan(
        begin_s=int(loud[0]) * _FRAME_S,
        end_s=end_s,
        inner_silence_s=longest * _FRAME_S,
        trailing_silence_s=total_s - end_s,
    )


def _is_speech(audio: Audio, frame: int) -> NDArray[np.bool_]:
    whole = audio[: audio.size - audio.size % frame].reshape(-1, frame).astype(np.float64)
    if not whole.size:
        return np.zeros(0, np.bool_)
    levels = 10 * np.log10(np.mean(whole**2, axis=1) + 1e-12)
    return np.asarray(levels > max(float(np.percentile(levels, 95)) - _BELOW_SPEECH_DB, _FLOOR_DBFS))

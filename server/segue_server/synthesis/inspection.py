"""Is this speech? Asked of each piece before anybody hears it.

Separate from the probes, which judge a voice: this must be cheap enough for every piece of every response, and it
errs on the side of letting sound pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segue.errors import SynthesisError
from segue.memory.stats_layout import Outcome

SILENCE_PEAK = 0.004
"""-48 dBFS: what never gets louder is silence to a listener (and so are pilot tones of -54 dBFS and less)."""

LONGEST_PAUSE_S = 4.0
"""At speed 1. Longer than any pause that punctuation asks for: the voice has fallen silent."""


class AudioFault(SynthesisError):
    """An engine made something that is no speech.

    Attributes
    ----------
    outcome
        As it counts for the revision.
    """

    def __init__(self, message: str, *, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)


class AudioInspector:
    """Looks at one row's audio, piece by piece.

    Pieces are held back until the first one that is not silent: a revision that only makes silence is found before the
    first byte goes out.
    """

    __slots__ = ("_held", "_longest_pause", "_pause", "_rate", "_spoke", "samples")

    def __init__(self, *, sample_rate: int, speed: float) -> None:
        """For a row at `sample_rate` Hz, spoken at `speed`."""
        self.samples = 0
        self._rate = sample_rate
        self._held: list[NDArray[np.float32]] = []
        self._spoke = False
        self._pause = 0
        self._longest_pause = int(LONGEST_PAUSE_S / min(1.0, speed) * sample_rate)

    @property
    def audio_s(self) -> float:
        """Seconds of audio seen."""
        return self.samples / self._rate

    def accept(self, samples: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """What may be sent now, for a piece of `(samples,) float32`.

        Raises
        ------
        AudioFault
            NaN or infinity, or a pause that is longer than any.
        """
        if not samples.size:
            return ()
        peak = float(np.abs(samples).max())
        if not np.isfinite(peak):
            at_s = (self.samples + int(np.argmin(np.isfinite(samples)))) / self._rate
            raise AudioFault(f"a sample is not finite at {at_s:.2f} s", outcome=Outcome.NONFINITE)
        self.samples += samples.size
        if peak >= SILENCE_PEAK:
            released = (*self._held, samples)
            self._held.clear()
            self._spoke, self._pause = True, 0
            return released
        self._pause += samples.size
        if self._pause > self._longest_pause:
            raise AudioFault(f"silent for {self._pause / self._rate:.1f} s", outcome=Outcome.SILENT)
        if self._spoke:
            return (samples,)
        self._held.append(samples)
        return ()

    def finish(self) -> None:
        """No more audio comes.

        Raises
        ------
        AudioFault
            There was none, or nothing but silence.
        """
        if not self.samples:
            raise AudioFault("no audio at all", outcome=Outcome.EMPTY)
        if not self._spoke:
            raise AudioFault(f"nothing but silence in {self.audio_s:.2f} s", outcome=Outcome.SILENT)

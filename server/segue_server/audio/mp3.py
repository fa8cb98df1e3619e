"""MP3 by LAME.

Not by libsndfile, which has LAME too: it gives no way to choose LAME's effort, and its default takes five times as long
(8.2 against 1.7 ms a second of speech), as long as the demo engine takes to make it. MP3 is what clients get that ask
for nothing else.
"""

from __future__ import annotations

import lameenc
import numpy as np
from numpy.typing import NDArray

from segue_server.audio.raw import to_s16

QUALITY = 5
"""LAME's scale: 2 is its best here, 7 its fastest."""


class Mp3Encoder:
    """Constant bit rate, mono, so that a player can tell the length from the size."""

    cheap = False

    def __init__(self, rate: int) -> None:
        """Samples come at `rate` Hz."""
        encoder = lameenc.Encoder()
        encoder.silence()
        encoder.set_in_sample_rate(rate)
        encoder.set_channels(1)
        encoder.set_bit_rate(bit_rate_kbps(rate))
        encoder.set_quality(QUALITY)
        self._encoder = encoder

    def feed(self, samples: NDArray[np.float32]) -> bytes:
        """Encode a piece."""
        return bytes(self._encoder.encode(to_s16(samples)))

    def finish(self) -> bytes:
        """What is left in the codec."""
        return bytes(self._encoder.flush())

    def close(self) -> None:
        """Nothing outlives the object."""


def bit_rate_kbps(rate: int) -> int:
    """What speech at `rate` Hz gets; each of the three MPEG versions has a limit of its own."""
    return 64 if rate <= 12_000 else 96 if rate <= 24_000 else 128

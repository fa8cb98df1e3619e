"""How alike two speakers are to the network that a voice itself is made with.

Separate from `speaker`, which listens to every voice with one small network of its own and decides: this one is the
voice's, it is what the voice was conditioned by, and its figure is comparable only between versions of such voices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue.engine import KnowsSpeakers, Synthesizer
from segue_engines.probes.figures import ScoreFigure
from segue_engines.probes.measure import Clip
from segue_engines.probes.signal_faults import is_finite
from segue_engines.probes.spectrum import Audio

NAME: Final = "speakerNetwork"
LONGEST_S: Final = 10.0
"""Of one recording; what follows says nothing new of the speaker, and the network takes as long again."""
MOST_CLIPS: Final = 8
NO_NETWORK: Final = "this voice has no speaker network of its own"
NO_REFERENCE: Final = "there is no reference recording"
NO_SOUND: Final = "there was no audio"

_Vector = NDArray[np.float32]
_Listen = Callable[[Audio, int], _Vector | None]


def speaker_network_score(
    synthesizer: Synthesizer,
    clips: Sequence[Clip],
    *,
    reference_audio: Audio | None,
    reference_rate: int,
    minimum: float | None,
) -> tuple[ScoreFigure, ...]:
    """The cosine of the mean speaker of some clips to the reference's, by the voice's own network.

    Parameters
    ----------
    reference_audio, reference_rate
        `(samples,) float32`, mono, Hz.
    minimum
        Least cosine; None: the figure is shown and judges nothing.

    Returns
    -------
    tuple
        Nothing for a voice without such a network, where nobody asks for a limit.
    """

    def said(figure: float | None, reason: str = "") -> tuple[ScoreFigure, ...]:
        return (ScoreFigure(name=NAME, figure=figure, reason=reason, minimum=minimum),)

    listen: _Listen | None = synthesizer.speaker_vector if isinstance(synthesizer, KnowsSpeakers) else None
    if reference_audio is None:
        return said(None, NO_REFERENCE) if minimum is not None else ()
    wanted = listen(_beginning(reference_audio, reference_rate), reference_rate) if listen is not None else None
    if listen is None or wanted is None:
        return said(None, NO_NETWORK) if minimum is not None else ()
    heard = [
        vector
        for clip in _worth_hearing(clips)
        if (vector := listen(_beginning(clip.audio, clip.sample_rate), clip.sample_rate)) is not None
    ]
    if not heard:
        return said(None, NO_SOUND)
    mean = np.mean([_unit(vector) for vector in heard], axis=0)
    return said(float(np.clip(_unit(mean) @ _unit(wanted), -1.0, 1.0)))


def _worth_hearing(clips: Sequence[Clip]) -> list[Clip]:
    sound = [clip for clip in clips if clip.error is None and clip.audio.size and is_finite(clip.audio)]
    return sound[:MOST_CLIPS]


def _beginning(audio: Audio, sample_rate: int) -> Audio:
    return audio[: int(LONGEST_S * sample_rate)]


def _unit(vector: _Vector) -> _Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector

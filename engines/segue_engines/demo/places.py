"""Where a token stands in its sentence and a frame in its phone, as numbers the model can read.

Separate because training and run time must compute them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.demo.text.inventory import PAUSES, PHONE_IDS

POSITION_FEATURES: Final = 6
FRAME_FEATURES: Final = 5

_PAUSE_IDS: Final = frozenset(PHONE_IDS[pause] for pause in PAUSES)
_QUESTION: Final = PHONE_IDS["?"]


def token_places(ids: Sequence[int], word_starts: Sequence[bool]) -> NDArray[np.float32]:
    """Word start and end, distance from the start and to the end of the clause, whether it is asked; `(tokens, 6)`."""
    count = len(ids)
    places = np.zeros((count, POSITION_FEATURES), np.float32)
    places[:, 0] = word_starts
    places[:-1, 1] = word_starts[1:]
    places[-1, 1] = 1.0
    first = 0
    for place, token in enumerate(ids):
        if token in _PAUSE_IDS or place == count - 1:
            clause = np.arange(place + 1 - first)
            places[first : place + 1, 2] = np.exp(-clause / 6.0)
            places[first : place + 1, 3] = np.exp(-clause[::-1] / 3.0)
            places[first : place + 1, 4] = np.exp(-clause[::-1] / 12.0)
            places[first : place + 1, 5] = token == _QUESTION
            first = place + 1
    return places


def frame_places(durations: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The token of each 5 ms frame, and where in its phone the frame stands; `(frames,)`, `(frames, 5)`.

    The features are the fraction that has passed and that is left, both also as decays in time, and the phone's
    length on a log scale.
    """
    owner = np.repeat(np.arange(len(durations)), durations)
    length = durations[owner].astype(np.float32)
    start = np.cumsum(durations) - durations
    passed = (np.arange(len(owner)) - start[owner]).astype(np.float32) + 0.5
    left = length - passed
    places = np.stack(
        (passed / length, left / length, np.exp(-passed / 4.0), np.exp(-left / 4.0), np.log(length) - 2.5), axis=1
    )
    return owner, places.astype(np.float32)

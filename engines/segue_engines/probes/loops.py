"""Does the decoder go round in circles?

Autoregressive decoders fall into repeating a stretch of tokens. Repeats that are in the text are no fault: a voice that
is asked to say "no, no, no" many times may.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

TIMES: Final = 4
MIN_TOKENS: Final = 32
"""Four times eight: shorter repeats are music of speech (a long vowel, a pause)."""
_LONGEST_PERIOD: Final = 128


def repeated_tokens(tokens: Sequence[Hashable]) -> int:
    """Length of the longest stretch that is one piece said at least four times in a row, in tokens; 0 when none.

    Any 8-gram four times in a row is such a stretch, and so is one token 32 times or a phrase of 20 four times.
    """
    longest = 0
    for period in range(1, min(_LONGEST_PERIOD, len(tokens) // TIMES) + 1):
        run = 0
        for here, there in zip(tokens, tokens[period:], strict=False):
            run = run + 1 if here == there else 0
            if run + period >= max(TIMES * period, MIN_TOKENS):
                longest = max(longest, run + period)
    return longest


def looped(tokens: Sequence[int], phones: Sequence[str]) -> bool:
    """Say whether the decoder repeated itself where the text does not."""
    return repeated_tokens(tokens) > 0 and repeated_tokens(phones) == 0

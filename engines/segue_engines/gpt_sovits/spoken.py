"""What a text becomes before the networks see it, and who makes it so.

Separate from the front end, which is large and has dictionaries: engine and tests need these few lines of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A piece of text that is spoken in one go.

    Attributes
    ----------
    phones
        Their symbols, one or more.
    ids
        Their places in the table of symbols.
    bert
        `(1024, len(ids)) float32`, or None for zeros (every language but Chinese).
    later
        Makes `bert` when the piece's turn has come (`with_features`), where that takes long: a text of ten pieces would
        keep the engine's thread for seconds, and everybody else in the batch.
    """

    phones: tuple[str, ...]
    ids: tuple[int, ...]
    bert: NDArray[np.float32] | None = None
    later: Callable[[], NDArray[np.float32]] | None = None


def with_features(spoken: Spoken) -> Spoken:
    """The same piece with its text features made.

    Raises
    ------
    SynthesisError
        Who makes them is gone: the voice was closed.
    """
    return spoken if spoken.later is None else replace(spoken, bert=spoken.later(), later=None)


class TextFrontEnd(Protocol):
    """Texts to phones."""

    def read(self, text: str, language: str, *, cut: str = "cut5") -> Sequence[Spoken]:
        """Cut and read a text; safe to call from any thread. `cut` says where, as upstream's `text_split_method`.

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        ...

    def read_reference(self, text: str, language: str) -> Spoken:
        """Read what is said in a reference recording, uncut.

        Raises
        ------
        TextRejected
            It cannot be read.
        """
        ...

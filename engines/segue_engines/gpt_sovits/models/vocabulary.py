"""Characters to the ids that RoBERTa knows them by.

Separate from the network, and without a tokenizer: texts come normalised, so they hold hanzi and marks only, and of
those a BERT tokenizer makes one token each, the unknown one where the vocabulary lacks it. Looking characters up one by
one gives the same ids, and always exactly one a character, which the original only assumes: where its tokenizer drops
or joins some, all vectors after them belong to the wrong phones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.errors import WeightsError
from segue_engines.gpt_sovits.models.config import read_json

MAX_VOCABULARY_BYTES: Final = 32 << 20
_UNKNOWN, _FIRST, _LAST = "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The characters of a BERT vocabulary.

    Attributes
    ----------
    characters
        `(n,) int32`: their code points, ascending.
    ids
        `(n,) int32`: the id of each.
    unknown, first, last
        Ids of `[UNK]`, and of the tokens before and after each text.
    """

    characters: NDArray[np.int32]
    ids: NDArray[np.int32]
    unknown: int
    first: int
    last: int

    @classmethod
    def read(cls, path: Path, *, size: int) -> Vocabulary:
        """Read a `tokenizer.json` or a `vocab.txt`.

        Parameters
        ----------
        size
            Ids that the network knows: all must be below.

        Raises
        ------
        WeightsError
            It cannot be read, is no vocabulary of a BERT, or has ids that the network does not.
        """
        tokens = _tokens_of_json(path) if path.suffix == ".json" else _tokens_of_lines(path)
        for special in (_UNKNOWN, _FIRST, _LAST):
            if special not in tokens:
                raise WeightsError(f"{path.name}: {special} is missing; expected the vocabulary of a BERT")
        if (highest := max(tokens.values())) >= size:
            raise WeightsError(f"{path.name}: has the id {highest}; the network of its config knows {size} tokens")
        single = sorted((ord(token), place) for token, place in tokens.items() if len(token) == 1)
        if not single:
            raise WeightsError(f"{path.name}: has no character of its own; expected the vocabulary of a Chinese BERT")
        return cls(
            characters=np.array([code for code, _ in single], np.int32),
            ids=np.array([place for _, place in single], np.int32),
            unknown=tokens[_UNKNOWN],
            first=tokens[_FIRST],
            last=tokens[_LAST],
        )

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text, `(len(text) + 2,) int64`, with those of the first and last token around them."""
        codes = np.array([ord(_lowered(char)) for char in text], np.int32)
        places = np.searchsorted(self.characters, codes).clip(max=len(self.characters) - 1)
        ids = np.where(self.characters[places] == codes, self.ids[places], self.unknown)
        return np.concatenate(([self.first], ids, [self.last])).astype(np.int64)


def _lowered(char: str) -> str:
    """The vocabulary has small letters only; one of several characters stays as it is."""
    lowered = char.lower()
    return lowered if len(lowered) == 1 else char


def _tokens_of_json(path: Path) -> Mapping[str, int]:
    content: Any = read_json(path, max_bytes=MAX_VOCABULARY_BYTES)
    match content:
        case {"model": {"vocab": dict() as vocab, **model}} if model.get("type", "WordPiece") == "WordPiece":
            pass
        case _:
            raise WeightsError(f"{path.name}: no vocabulary of word pieces in it; expected the tokenizer of a BERT")
    if not vocab or not all(type(place) is int and 0 <= place < 1 << 31 for place in vocab.values()):
        raise WeightsError(f"{path.name}: ids of its vocabulary are no whole numbers")
    return vocab


def _tokens_of_lines(path: Path) -> Mapping[str, int]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_VOCABULARY_BYTES + 1)
        lines = raw.decode("utf-8").split("\n")
    except OSError as error:
        raise WeightsError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path.name}: no UTF-8: {error}") from error
    if len(raw) > MAX_VOCABULARY_BYTES:
        raise WeightsError(f"{path.name}: larger than {MAX_VOCABULARY_BYTES} bytes")
    lines = lines[:-1] if lines and not lines[-1] else lines
    return {line.rstrip("\r"): place for place, line in enumerate(lines)}

"""The 732 phones that a v2 network was trained on; the id of a phone is its place.

The order is part of every checkpoint (`text_embedding` of both networks has one row a phone), so the list is data and
not code: `symbols.txt`, in the order of upstream's `symbols2`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Final

SYMBOLS: Final = tuple(resources.files(__package__).joinpath("symbols.txt").read_text(encoding="utf-8").split())
SYMBOL_IDS: Final = {symbol: place for place, symbol in enumerate(SYMBOLS)}
UNKNOWN: Final = "UNK"
MARKS: Final = frozenset("!?…,.-")
"""The marks that are phones themselves."""


def known(symbols: Iterable[str]) -> tuple[str, ...]:
    """Replace what no network knows by `UNK`, as training did."""
    return tuple(symbol if symbol in SYMBOL_IDS else UNKNOWN for symbol in symbols)

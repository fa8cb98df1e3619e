"""The phones are those of the checkpoints, in their order."""

from __future__ import annotations

import hashlib

from segue_engines.gpt_sovits.text import SYMBOL_IDS, SYMBOLS
from segue_engines.gpt_sovits.text.symbols import known


def test_there_are_732_symbols_and_each_is_there_once() -> None:
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 732


def test_the_order_is_that_of_the_checkpoints() -> None:
    digest = hashlib.sha256(" ".join(SYMBOLS).encode()).hexdigest()
    assert digest == "a91aea0994bc55f1c93565f887b443c291d94e55240cc749bb67327b90103bf2"
    assert [SYMBOL_IDS[symbol] for symbol in ("!", "UNK", "_", "zh", "…", "[", "ㄱ", "空", "Ya", "Yz")] == [
        0,
        86,
        95,
        320,
        321,
        322,
        324,
        352,
        353,
        731,
    ]


def test_what_no_network_knows_becomes_unk() -> None:
    assert known(["a1", "#", "K"]) == ("a1", "UNK", "K")

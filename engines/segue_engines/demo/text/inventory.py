"""The tokens that a demo voice knows: ARPAbet phones with stress, and pauses.

The order is part of the file format of a voice (`prosody.pth` has one embedding row per token): append, never insert.
"""

from __future__ import annotations

from typing import Final

VOWELS: Final = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS: Final = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG"),
    *("P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PAUSES: Final = (",", ".", "?", "!")
SENTENCE_ENDS: Final = frozenset({".", "?", "!"})

PHONES: Final = (*PAUSES, *CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012"))
PHONE_IDS: Final = {phone: index for index, phone in enumerate(PHONES)}

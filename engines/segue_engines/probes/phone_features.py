"""What the phone recogniser hears, and the phones it knows.

Separate from the network because training (torch) and run time (numpy) both start here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.probes.spectrum import Audio, mel_filters, power_spectra

VOWELS: Final = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS: Final = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES: Final = (*CONSONANTS, *VOWELS)
"""ARPAbet without stress. Class `i + 1` of the recogniser is `PHONES[i]`; class 0 is CTC's blank."""
PHONE_IDS: Final = {phone: index + 1 for index, phone in enumerate(PHONES)}
PAUSES: Final = frozenset({",", ".", "?", "!", ";", ":", "-", "_", " ", "sil", "sp", "pau", "…"})
BANDS: Final = 64
_LOW_HZ: Final = 60.0
_HIGH_HZ: Final = 7600.0
_FLOOR: Final = 1e-8


def log_mel(audio: Audio) -> NDArray[np.float32]:
    """Log mel bands with the utterance's own mean taken out, so that level and microphone do not matter.

    Parameters
    ----------
    audio
        At 16 kHz.

    Returns
    -------
    array
        `(1 + samples // 160, 64) float32`.
    """
    bands = power_spectra(audio) @ mel_filters(BANDS, _LOW_HZ, _HIGH_HZ)
    loudest = float(bands.max(initial=_FLOOR))
    logs = np.log(np.maximum(bands, loudest * 1e-7 + _FLOOR))
    centred: NDArray[np.float32] = (logs - logs.mean(axis=0)) / np.float32(3.0)
    return centred


def phone_ids(phones: Iterable[str]) -> tuple[list[int], int]:
    """Classes of the phones of a text, stress and pauses dropped, and how many phones are not ARPAbet."""
    ids: list[int] = []
    unknown = 0
    for phone in phones:
        name = phone.rstrip("012")
        if name in PHONE_IDS:
            ids.append(PHONE_IDS[name])
        elif phone not in PAUSES:
            unknown += 1
    return ids, unknown

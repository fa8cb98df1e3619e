"""espeak-ng as a source of speech with exact phone times.

Only training uses it: the trained voices ship without it. The library is driven by phones, not by text, so that what
is spoken is what the run-time front end would have said, and it reports the sample at which each phone begins, so no
aligner is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue_engines.demo.text import PAUSES, Sentence

RATE_HZ: Final = 22050

_MNEMONICS: Final = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI", "IH": "I",
    "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "B": "b", "CH": "tS", "D": "d", "DH": "D", "F": "f",
    "G": "g", "HH": "h", "JH": "dZ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "N", "P": "p", "R": "r", "S": "s",
    "SH": "S", "T": "t", "TH": "T", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "Z",
}  # fmt: skip
_UNSTRESSED: Final = {"AH": "@", "ER": "3", "IY": "i", "UW": "u:"}
_FAMILY: Final = {
    "t#": "T", "t2": "T", "?": "T", "@L": "L", "l#": "L", "n-": "N", "r-": "R", "@": "AH", "@2": "AH", "a#": "AE",
    "I#": "IH", "I2": "IH", "IR": "IH", "i@": "IH", "i": "IY", "3": "ER", "0": "AA", "O": "AO", "O@": "AO", "o@": "AO",
    "e@": "EH", "A@": "AA", "U@": "UH", "aI@": "AY", "E2": "EH", "u": "UW", "oU#": "OW", "V#": "AH", "aa": "AE",
    "d#": "D", "z#": "Z", "s#": "S", "w#": "W", "i@3": "IH", "aI3": "AY", "aU@": "AW", "ER": "EH", "VR": "AH",
}  # fmt: skip
_FAMILY_OF_EVENT: Final = {mnemonic: phone for phone, mnemonic in _MNEMONICS.items()} | _FAMILY

_EVENT_PHONEME: Final = 7
_EVENT_END: Final = 0
_PHONE_INPUT_UTF8: Final = 0x101
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """An espeak voice and how it is bent into a speaker of its own.

    Attributes
    ----------
    voice
        espeak's name, such as `en-us+m3`.
    rate_wpm, pitch, pitch_range
        espeak's parameters.
    resample
        Factor on the playback rate: below 1 lowers pitch and formants together, as of a larger speaker.
    """

    voice: str
    rate_wpm: int = 170
    pitch: int = 50
    pitch_range: int = 50
    resample: float = 1.0

    @property
    def rate_hz(self) -> float:
        """Rate at which the samples of this speaker are to be played."""
        return RATE_HZ * self.resample


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech with its phones.

    Attributes
    ----------
    samples
        `(samples,) float32`, mono, at the speaker's `rate_hz`.
    phones, word_starts
        As in `Sentence`, without those that espeak left out.
    starts
        Sample at which each phone begins; one more entry than phones, the last is the end.
    """

    samples: NDArray[np.float32]
    phones: tuple[str, ...]
    word_starts: tuple[bool, ...]
    starts: tuple[int, ...]


class Espeak:
    """The library; one per process, since its state is global."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._blocks: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        if self._library.espeak_Initialize(2, 0, None, 1) <= 0:
            raise OSError("espeak-ng could not start: is its data installed?")
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type != _EVENT_END:
            event = events[place]
            if event.type == _EVENT_PHONEME:
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
                self._events.append((event.sample, name.decode("utf-8", "replace")))
            place += 1
        return 0

    def speak(self, sentence: Sentence, speaker: Speaker) -> Utterance | None:
        """Speak one sentence; `None` when too much of it does not match what was asked for."""
        self._blocks.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
            raise ValueError(f"espeak-ng knows no voice {speaker.voice!r}")
        for number, value in (
            (_PARAMETER_RATE, speaker.rate_wpm),
            (_PARAMETER_PITCH, speaker.pitch),
            (_PARAMETER_RANGE, speaker.pitch_range),
        ):
            self._library.espeak_SetParameter(number, value, 0)
        text = phone_input(sentence).encode() + b"\0"
        self._library.espeak_Synth(text, len(text), 0, 1, 0, _PHONE_INPUT_UTF8, None, None)
        samples = np.concatenate(self._blocks).astype(np.float32) / 32768.0
        return _aligned(sentence, samples, self._events)


def phone_input(sentence: Sentence) -> str:
    """The sentence in espeak's own phone notation: `[[h@l'oU w'3:ld]].`"""
    clauses: list[str] = []
    words: list[str] = []
    for phone, starts in zip(sentence.phones, sentence.word_starts, strict=True):
        if phone in PAUSES:
            clauses.append(f"[[{' '.join(words)}]]{phone}")
            words = []
        elif starts or not words:
            words.append(_mnemonic(phone))
        else:
            words[-1] += "|" + _mnemonic(phone)
    return " ".join(clauses)


def _mnemonic(phone: str) -> str:
    if not phone[-1].isdigit():
        return _MNEMONICS[phone]
    vowel, stress = phone[:-1], phone[-1]
    if stress == "0":
        return _UNSTRESSED.get(vowel, _MNEMONICS[vowel])
    return ("'" if stress == "1" else ",") + _MNEMONICS[vowel]


def _aligned(sentence: Sentence, samples: NDArray[np.float32], events: Sequence[tuple[int, str]]) -> Utterance | None:
    heard = _families(events)
    pairs = _align([_family(phone) for phone in sentence.phones], [family for _, family in heard])
    if len(pairs) < 0.9 * len(sentence.phones) or not pairs or pairs[0][1] > 1:
        return None
    starts = [heard[there][0] for _, there in pairs]
    starts[0] = 0
    _part_merged(starts)
    if any(second <= first for first, second in pairwise(starts)):
        return None
    phones = tuple(sentence.phones[here] for here, _ in pairs)
    word_starts = tuple(sentence.word_starts[here] for here, _ in pairs)
    return Utterance(samples, phones, word_starts, (*starts, len(samples)))


def _part_merged(starts: list[int]) -> None:
    """espeak reports a vowel and the R or L that colours it as one stretch: give the second phone its last 40 %."""
    for place in range(1, len(starts) - 1):
        if starts[place] == starts[place + 1]:
            starts[place] = round(0.4 * starts[place - 1] + 0.6 * starts[place + 1]) if place else 0


def _families(events: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Start and ARPAbet family of each event; a run of pauses is one."""
    heard: list[tuple[int, str]] = []
    for sample, name in events:
        family = "pause" if name.startswith("_") else _FAMILY_OF_EVENT.get(name, name)
        if family == "pause" and (not heard or heard[-1][1] == "pause"):
            continue
        heard.append((sample, family))
    return heard


def _family(phone: str) -> str:
    return "pause" if phone in PAUSES else phone.rstrip("012")


def _align(wanted: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of places that match in a cheapest edit of `wanted` into `heard`; like sounds may stand for each other."""
    rows, columns = len(wanted) + 1, len(heard) + 1
    cost = np.zeros((rows, columns))
    cost[:, 0], cost[0, :] = np.arange(rows), np.arange(columns)
    for i in range(1, rows):
        for j in range(1, columns):
            swap = cost[i - 1, j - 1] + _difference(wanted[i - 1], heard[j - 1])
            cost[i, j] = min(swap, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    pairs: list[tuple[int, int]] = []
    i, j = rows - 1, columns - 1
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + _difference(wanted[i - 1], heard[j - 1]):
            pairs.append((i - 1, j - 1))
            i, j = i - 1, j - 1
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


_VOWELS: Final = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})


def _difference(wanted: str, heard: str) -> float:
    if wanted == heard:
        return 0.0
    if wanted in _VOWELS and heard in _VOWELS:
        return 0.6
    return 3.0

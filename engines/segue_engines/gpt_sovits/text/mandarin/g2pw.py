"""Readings of hanzi by G2PW, the BERT that the original asks, where somebody has put its files.

Separate from `polyphones`, which needs nothing but pypinyin: this needs onnxruntime and 600 MB. It answers for the
hanzi that its tables have and leaves all others to pypinyin. Nothing is downloaded, and its `config.py`, which upstream
runs, is only read.

Source: Chen et al.: g2pW (2022), and the layout of `G2PWModel_1.1` as GPT-SoVITS at 48b1a01 reads it.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.errors import SegueError
from segue_engines.gpt_sovits.text.installed import library
from segue_engines.gpt_sovits.text.mandarin.polyphones import Word
from segue_engines.gpt_sovits.text.mandarin.syllables import syllable_to_phones
from segue_engines.gpt_sovits.text.pieces import Tongue

_MODELS: Final = ("g2pW.onnx", "g2pw.onnx")
_POLYPHONIC: Final = "POLYPHONIC_CHARS.txt"
_MONOPHONIC: Final = "MONOPHONIC_CHARS.txt"
_PINYIN: Final = "bopomofo_to_pinyin_wo_tune_dict.json"
_WORDS: Final = ("polyphonic.rep", "polyphonic-fix.rep")
_VOCABULARIES: Final = (
    "vocab.txt",
    "tokenizer.json",
    "../chinese-roberta-wwm-ext-large/vocab.txt",
    "../chinese-roberta-wwm-ext-large/tokenizer.json",
)
_MOST_TABLE_BYTES: Final = 64 << 20
_NOT_ASKED: Final = frozenset("一不和咋嗲剖差攢倒難奔勁拗肖瘙誒泊听噢")
"""Hanzi with several readings for which upstream does not trust the model."""
_NOT_SINGLE: Final = frozenset("似攢")
"""Hanzi whose single reading upstream does not trust."""
_CONTEXT: Final = 16
"""Characters to either side of the hanzi in question that the model sees, as upstream cuts them."""
_LONGEST: Final = 510
_REMEMBERED: Final = 4096
_RULE: Final = re.compile(r"^\s*(?P<word>[^:\s]+)\s*:\s*\[(?P<readings>[^\]]*)\]")
_AGREES: Final = 1e-4


@dataclass(frozen=True, slots=True)
class _Tables:
    """What lies beside the model.

    Attributes
    ----------
    labels
        Readings in bopomofo, tone last, in the order of the model's answer.
    readings_of
        Places in `labels` that a hanzi may have; the hanzi are numbered in the order of their code points.
    single
        Pinyin of hanzi with one reading.
    words
        Words that are read as upstream says, whatever the model thinks.
    """

    labels: tuple[str, ...]
    readings_of: Mapping[str, tuple[int, ...]]
    numbers: Mapping[str, int]
    single: Mapping[str, str]
    pinyin: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    vocabulary: Mapping[str, int]
    masked: bool


class G2pw:
    """Polyphones by G2PW. Safe to call from several threads; model and tables are loaded with the first sentence.

    Parameters
    ----------
    folder
        `G2PWModel` as upstream unpacks it, with `vocab.txt` or `tokenizer.json` of a Chinese BERT in it or in
        `chinese-roberta-wwm-ext-large` beside it.
    threads
        That one sentence is computed with.

    Raises
    ------
    SegueError
        A file is missing, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._model_file = _first_of(folder, _MODELS)
        self._vocabulary_file = _first_of(folder, _VOCABULARIES)
        for name in (_POLYPHONIC, _MONOPHONIC, _PINYIN):
            _first_of(folder, (name,))
        self._runtime: Any = _onnxruntime()
        self._lock = threading.Lock()
        self._loaded: tuple[_Tables, _Model] | None = None
        self._told = lru_cache(maxsize=_REMEMBERED)(self._sentence)

    def readings(self, words: Sequence[Word]) -> Sequence[Sequence[str | None]]:
        """Read words; `None` for a hanzi that neither model nor tables have."""
        told = self._told("".join(word.text for word in words))
        tables, _ = self._parts()
        readings: list[Sequence[str | None]] = []
        place = 0
        for word in words:
            found = told[place : place + len(word.text)]
            readings.append(_corrected(word.text, found, tables.words))
            place += len(word.text)
        return readings

    def _parts(self) -> tuple[_Tables, _Model]:
        with self._lock:
            if self._loaded is None:
                tables = _tables(self._folder, self._vocabulary_file)
                options = self._runtime.SessionOptions()
                options.intra_op_num_threads = self._threads
                options.log_severity_level = 3
                session = self._runtime.InferenceSession(
                    str(self._model_file), sess_options=options, providers=["CPUExecutionProvider"]
                )
                self._loaded = tables, _Model(session, tables)
            return self._loaded

    def _sentence(self, sentence: str) -> tuple[str | None, ...]:
        """Pinyin of each hanzi of a sentence in simplified characters."""
        tables, model = self._parts()
        written = _traditional(sentence)
        asked = [
            place for place, hanzi in enumerate(written) if hanzi in tables.readings_of and hanzi not in _NOT_ASKED
        ]
        readings = [tables.single.get(hanzi) for hanzi in written]
        if asked:
            first, last = max(asked[0] - _CONTEXT, 0), asked[-1] + _CONTEXT + 1
            seen = written[first:last]
            for start in range(0, len(seen), _LONGEST):
                part = seen[start : start + _LONGEST]
                inside = [place for place in asked if 0 <= place - first - start < len(part)]
                told = model.labels_of(part, [place - first - start for place in inside])
                for place, label in zip(inside, told, strict=True):
                    readings[place] = _as_pinyin(label, tables.pinyin)
        return tuple(readings)


class _Model:
    """The network: which of its readings a hanzi of a sentence has."""

    def __init__(self, session: Any, tables: _Tables) -> None:
        self._session = session
        self._tables = tables
        self._once = self._takes_a_sentence_once()

    def labels_of(self, text: str, places: Sequence[int]) -> list[str]:
        """Labels of the hanzi at `places`, all of which have readings; `text` has at most 510 characters."""
        if not places:
            return []
        return [self._tables.labels[best] for best in self._probabilities(text, places, once=self._once).argmax(axis=1)]

    def _takes_a_sentence_once(self) -> bool:
        """Whether the model takes one sentence for several hanzi: it does where places are broadcast over sentences."""
        hanzi = "".join(sorted(self._tables.readings_of)[:2])
        if len(hanzi) < 2:
            return False
        alone = self._probabilities(hanzi, [0, 1], once=False)
        try:
            together = self._probabilities(hanzi, [0, 1], once=True)
        except Exception:  # noqa: BLE001 - the runtime's own errors have no common type; any means no
            return False
        return together.shape == alone.shape and bool(np.abs(together - alone).max() <= _AGREES)

    def _probabilities(self, text: str, places: Sequence[int], *, once: bool) -> NDArray[np.float32]:
        """`(places, labels) float32`."""
        tables, vocabulary = self._tables, self._tables.vocabulary
        tokens = ["[CLS]", *text.lower(), "[SEP]"]
        row = [vocabulary.get(token, vocabulary["[UNK]"]) for token in tokens]
        ids = np.array([row] * (1 if once else len(places)), np.int64)
        hanzi = [text[place] for place in places]
        masks = np.full((len(places), len(tables.labels)), 0.0 if tables.masked else 1.0, np.float32)
        for place, char in enumerate(hanzi if tables.masked else ()):
            masks[place, list(tables.readings_of[char])] = 1.0
        answer = self._session.run(
            None,
            {
                "input_ids": ids,
                "token_type_ids": np.zeros_like(ids),
                "attention_mask": np.ones_like(ids),
                "phoneme_mask": masks,
                "char_ids": np.array([tables.numbers[char] for char in hanzi], np.int64),
                "position_ids": np.array(places, np.int64) + 1,
            },
        )[0]
        return np.asarray(answer, np.float32)


def _onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise SegueError(f"G2PW needs onnxruntime ({error}): pip install 'segue[g2pw]'") from error


def _first_of(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise SegueError(f"G2PW: {folder} holds no {' and no '.join(names)}; it must be upstream's G2PWModel, unpacked")


def _text(file: Path) -> str:
    size = file.stat().st_size
    if size > _MOST_TABLE_BYTES:
        raise SegueError(f"G2PW: {file.name} has {size} bytes; a table has at most {_MOST_TABLE_BYTES}")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SegueError(f"G2PW: {file} cannot be read: {error}") from error


def _tables(folder: Path, vocabulary_file: Path) -> _Tables:
    pairs = _pairs(folder / _POLYPHONIC)
    by_char = _setting(folder / "config.py", "use_char_phoneme", default=False)
    labels = sorted({f"{char} {reading}" if by_char else reading for char, reading in pairs})
    places = {label: place for place, label in enumerate(labels)}
    readings_of: dict[str, tuple[int, ...]] = {}
    for char, reading in pairs:
        label = f"{char} {reading}" if by_char else reading
        readings_of[char] = (*readings_of.get(char, ()), places[label])
    pinyin = _json(folder / _PINYIN)
    single = {
        char: found
        for char, reading in _pairs(folder / _MONOPHONIC)
        if char not in _NOT_SINGLE and (found := _as_pinyin(reading, pinyin)) is not None
    }
    return _Tables(
        labels=tuple(labels),
        readings_of=readings_of,
        numbers={char: number for number, char in enumerate(sorted(readings_of))},
        single=single,
        pinyin=pinyin,
        words={word: found for name in _WORDS for word, found in _rules(folder / name)},
        vocabulary=_vocabulary(vocabulary_file),
        masked=_setting(folder / "config.py", "use_mask", default=True),
    )


def _pairs(file: Path) -> list[tuple[str, str]]:
    lines = [line.split("\t") for line in _text(file).splitlines() if line.strip()]
    if wrong := next((line for line in lines if len(line) != 2), None):
        raise SegueError(f"G2PW: {file.name} has a line {wrong!r}; expected a hanzi, a tab and its reading")
    return [(char, reading.strip()) for char, reading in lines]


def _json(file: Path) -> dict[str, str]:
    try:
        found = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise SegueError(f"G2PW: {file.name} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SegueError(f"G2PW: {file.name} does not map bopomofo to pinyin")
    return found


def _vocabulary(file: Path) -> dict[str, int]:
    """Token to number, of a BERT's `vocab.txt` (one a line) or `tokenizer.json`."""
    if file.suffix == ".txt":
        known = {token: number for number, token in enumerate(_text(file).splitlines())}
    else:
        try:
            known = {str(token): int(number) for token, number in json.loads(_text(file))["model"]["vocab"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SegueError(f"G2PW: {file} holds no vocabulary of a BERT: {error!r}") from error
    if missing := {"[CLS]", "[SEP]", "[UNK]"} - known.keys():
        raise SegueError(f"G2PW: {file} is no vocabulary of a BERT: it lacks {', '.join(sorted(missing))}")
    return known


def _setting(config: Path, name: str, *, default: bool) -> bool:
    """A truth value that `config.py` assigns, read without running it."""
    if not config.is_file():
        return default
    try:
        body = ast.parse(_text(config)).body
    except (SyntaxError, ValueError) as error:
        raise SegueError(f"G2PW: {config} is no Python: {error}") from error
    assigned = {
        target.id: statement.value.value
        for statement in body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    return bool(assigned.get(name, default))


def _rules(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Words with their readings, as `湖泊: ['hu2','po1']`, where there is such a file."""
    if not file.is_file():
        return []
    found = [match for line in _text(file).splitlines() if (match := _RULE.match(line))]
    return [(match["word"], tuple(re.findall(r"[a-zü:]+[1-5]", match["readings"]))) for match in found]


def _corrected(word: str, readings: Sequence[str | None], words: Mapping[str, tuple[str, ...]]) -> Sequence[str | None]:
    """What is known of the word goes before what the model says, else what is known of its hanzi."""
    known = words.get(word)
    if known is not None and len(known) == len(word):
        return [_spelled(reading) for reading in known]
    return [
        _spelled(words[char][0]) if words.get(char) else reading for char, reading in zip(word, readings, strict=True)
    ]


def _as_pinyin(label: str, pinyin: Mapping[str, str]) -> str | None:
    """Pinyin with its tone of a label (`ㄏㄤ2`, or `行 ㄏㄤ2`); None for what is no syllable here."""
    bopomofo, tone = label.rpartition(" ")[2][:-1], label[-1:]
    spelled = pinyin.get(bopomofo)
    return _spelled(spelled + tone) if spelled else None


def _spelled(reading: str) -> str | None:
    """ü as `v`, as everything after this reads it."""
    found = reading.replace("u:", "v").replace("ü", "v")
    return found if syllable_to_phones(found) is not None else None


def _traditional(sentence: str) -> str:
    """As the model was taught: in the characters of Taiwan, one for one."""
    converter = _converter()
    written = str(converter.convert(sentence))
    if len(written) == len(sentence):
        return written
    each = [str(converter.convert(char)) for char in sentence]
    return "".join(new if len(new) == 1 else old for old, new in zip(sentence, each, strict=True))


@lru_cache(maxsize=1)
def _converter() -> Any:
    return library("opencc", tongue=Tongue.ZH).OpenCC("s2tw")

"""G2PW's folder, read as upstream reads it, with a tiny model of the same signature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.gpt_sovits.onnx_writer import g2pw_model

from segue.errors import SegueError
from segue_engines.gpt_sovits.text import TextFrontEnd, Word
from segue_engines.gpt_sovits.text.mandarin.g2pw import G2pw
from segue_engines.registry import get_engine

POLYPHONIC = [
    (char, reading)
    for char, readings in (
        ("行", "ㄏㄤ2 ㄒㄧㄥ2"),
        ("長", "ㄓㄤ3 ㄔㄤ2"),
        ("女", "ㄋㄩ3 ㄖㄨ3"),
        ("和", "ㄏㄨㄛ4 ㄏㄜ2"),
    )
    for reading in readings.split()
]
MONOPHONIC = [("銀", "ㄧㄣ2"), ("走", "ㄗㄡ3"), ("似", "ㄙ4")]
PINYIN = {
    "ㄏㄤ": "hang", "ㄒㄧㄥ": "xing", "ㄓㄤ": "zhang", "ㄔㄤ": "chang", "ㄋㄩ": "nü", "ㄖㄨ": "ru",
    "ㄏㄜ": "he", "ㄏㄨㄛ": "huo", "ㄧㄣ": "yin", "ㄗㄡ": "zou", "ㄙ": "si",
}  # fmt: skip
LABELS = sorted({reading for _, reading in POLYPHONIC})
HANZI = sorted({char for char, _ in POLYPHONIC})
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *HANZI, "走", "銀"]


def model_folder(place: Path, *, broadcasts: bool = True) -> Path:
    """行 is háng unless 走 follows, 長 is zhǎng at the end of a sentence and cháng before a hanzi."""
    folder = place / "G2PWModel"
    folder.mkdir(parents=True)
    (folder / "POLYPHONIC_CHARS.txt").write_text("\n".join("\t".join(pair) for pair in POLYPHONIC) + "\n")
    (folder / "MONOPHONIC_CHARS.txt").write_text("\n".join("\t".join(pair) for pair in MONOPHONIC) + "\n")
    (folder / "bopomofo_to_pinyin_wo_tune_dict.json").write_text(json.dumps(PINYIN))
    (folder / "char_bopomofo_dict.json").write_text("{}")
    (folder / "config.py").write_text("raise SystemExit('never run')\nuse_mask = True\nuse_char_phoneme = False\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    by_hanzi = np.zeros((len(HANZI), len(LABELS)), np.float32)
    by_next = np.zeros((len(VOCABULARY), len(LABELS)), np.float32)
    by_hanzi[HANZI.index("行"), LABELS.index("ㄏㄤ2")] = 1
    by_hanzi[HANZI.index("女"), LABELS.index("ㄋㄩ3")] = 1
    by_next[VOCABULARY.index("走"), LABELS.index("ㄒㄧㄥ2")] = 5
    by_next[VOCABULARY.index("[SEP]"), LABELS.index("ㄓㄤ3")] = 5
    by_hanzi[HANZI.index("長"), LABELS.index("ㄔㄤ2")] = 1
    by_hanzi[:, LABELS.index("ㄖㄨ3")] += 3  # no reading of most: the mask must keep it out
    by_hanzi[HANZI.index("女"), LABELS.index("ㄖㄨ3")] = 0
    (folder / "g2pW.onnx").write_bytes(g2pw_model(by_hanzi, by_next, broadcasts=broadcasts))
    return folder


def readings(polyphones: G2pw, *words: str) -> list[list[str | None]]:
    return [list(each) for each in polyphones.readings([Word(word, "n") for word in words])]


@pytest.mark.parametrize("broadcasts", [True, False])
def test_a_hanzi_is_read_by_its_sentence(tmp_path: Path, broadcasts: bool) -> None:
    g2pw = G2pw(model_folder(tmp_path, broadcasts=broadcasts))
    assert readings(g2pw, "银行", "行长") == [["yin2", "hang2"], ["hang2", "zhang3"]]
    assert readings(g2pw, "行", "走") == [["xing2"], ["zou3"]]
    assert readings(g2pw, "长", "走") == [["chang2"], ["zou3"]]


def test_what_it_does_not_know_or_is_not_trusted_with_is_left_to_pypinyin(tmp_path: Path) -> None:
    g2pw = G2pw(model_folder(tmp_path))
    assert readings(g2pw, "你", "和", "似") == [[None], [None], [None]]


def test_the_dots_of_u_are_written_as_v(tmp_path: Path) -> None:
    assert readings(G2pw(model_folder(tmp_path)), "女") == [["nv3"]]


def test_words_of_upstreams_list_go_before_the_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "polyphonic.rep").write_text("银行: ['yin2','xing2']\n走: ['zou4']\n")
    (folder / "polyphonic-fix.rep").write_text("行长: ['hang2', 'chang2']\n女行: ['lv3']\n")
    g2pw = G2pw(folder)
    assert readings(g2pw, "银行", "行长", "走") == [["yin2", "xing2"], ["hang2", "chang2"], ["zou4"]]
    assert readings(g2pw, "女行") == [["nv3", "hang2"]], "a rule of another length is none"


def test_a_sentence_of_any_length_is_read(tmp_path: Path) -> None:
    g2pw = G2pw(model_folder(tmp_path))
    (told,) = readings(g2pw, "行走" * 400)
    assert set(told[::2]) <= {"xing2", "hang2"}
    assert told[1::2] == ["zou3"] * 400


def test_the_front_end_speaks_with_it(tmp_path: Path) -> None:
    front_end = TextFrontEnd(polyphones=G2pw(model_folder(tmp_path)))
    (piece,) = front_end.read_target("你行走。", language="zh")
    assert piece.symbols[2:6] == ("x", "ing2", "z", "ou3")


@pytest.mark.parametrize("missing", ["g2pW.onnx", "POLYPHONIC_CHARS.txt", "MONOPHONIC_CHARS.txt", "vocab.txt"])
def test_a_file_that_is_missing_is_named_at_once(tmp_path: Path, missing: str) -> None:
    folder = model_folder(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(SegueError, match=missing):
        G2pw(folder)


def test_the_vocabulary_may_be_that_of_roberta_beside_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "vocab.txt").unlink()
    beside = tmp_path / "chinese-roberta-wwm-ext-large"
    beside.mkdir()
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    (beside / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    assert readings(G2pw(folder), "行", "走") == [["xing2"], ["zou3"]]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("POLYPHONIC_CHARS.txt", "行 ㄏㄤ2\n", "a hanzi, a tab and its reading"),
        ("bopomofo_to_pinyin_wo_tune_dict.json", "[", "is no JSON"),
        ("bopomofo_to_pinyin_wo_tune_dict.json", '{"a": 1}', "does not map"),
        ("vocab.txt", "a\nb\n", r"lacks \[CLS\]"),
        ("config.py", "use_mask = (", "is no Python"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    folder = model_folder(tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(SegueError, match=complaint):
        readings(G2pw(folder), "行")


def test_an_engine_finds_it_by_its_setting_and_has_no_other(tmp_path: Path) -> None:
    engine = get_engine("gpt-sovits", {"g2pw": str(model_folder(tmp_path))})
    assert engine.name == "gpt-sovits"
    with pytest.raises(SegueError, match=r"holds no g2pW\.onnx"):
        get_engine("gpt-sovits", {"g2pw": str(tmp_path)})
    for name, wrong in (("gpt-sovits", {"bert": "x"}), ("gpt-sovits", {"g2pw": 5}), ("demo", {"g2pw": "x"})):
        with pytest.raises(SegueError, match="has no setting"):
            get_engine(name, wrong)

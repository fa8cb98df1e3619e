"""Each voice gets a recording that the original would take as a prompt, or a reason why there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue_cli.importing.recordings import (
    Lists,
    NoRecording,
    Recording,
    Recordings,
    find_lists,
    read_duration,
)


class Tree:
    """A folder of GPT-SoVITS with recordings whose lengths need no sound."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lengths: dict[str, float] = {}

    def audio(self, place: str, length_s: float) -> str:
        """Add a recording; returns its path as a list would have it."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.lengths[path.name] = length_s
        return str(path)

    def list(self, place: str, *lines: str) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def trained_on(self, name: str, *audio: str) -> None:
        self.list(f"logs/{name}/2-name2text-0.txt", *(f"{each}\tn i3\t[2]\t你" for each in audio))

    def found(self, name: str, *given: Path) -> Recording | NoRecording:
        lists = (Lists.of(given), Lists.of(find_lists(self.root)))
        recordings = Recordings(root=self.root, lists=lists, duration=lambda path: self.lengths.get(path.name))
        return recordings.of_voice(name)

    def chosen(self, name: str, *given: Path) -> str:
        found = self.found(name, *given)
        assert isinstance(found, Recording), found
        return found.path.name


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "GPT-SoVITS")


def test_the_recording_nearest_to_six_seconds_is_taken(tree: Tree) -> None:
    lengths = {"a.wav": 3.0, "b.wav": 7.1, "c.wav": 5.2, "d.wav": 2.9, "e.wav": 60.0, "f.wav": 6.8}
    lines = [f"{tree.audio(f'output/slicer_opt/{name}', s)}|ann|ZH|第{name}句" for name, s in lengths.items()]
    tree.list("output/asr_opt/x.list", *lines)
    found = tree.found("ann")
    assert found == Recording(
        path=tree.root / "output/slicer_opt/c.wav", text="第c.wav句", language="zh", duration_s=5.2
    )


@pytest.mark.parametrize(("length_s", "taken"), [(2.999, False), (3.0, True), (10.0, True), (10.001, False)])
def test_only_what_the_original_takes_as_a_prompt_is_taken(tree: Tree, length_s: float, taken: bool) -> None:
    tree.list("x.list", f"{tree.audio('a.wav', length_s)}|ann|zh|你好。")
    assert isinstance(tree.found("ann"), Recording) is taken


def test_what_it_was_trained_on_goes_before_the_speaker_and_the_lists_name(tree: Tree) -> None:
    trained, spoken, named = (tree.audio(f"{name}.wav", 6.0) for name in ("trained", "spoken", "named"))
    tree.list("ann.list", f"{named}|slicer_opt|zh|三")
    assert tree.chosen("ann") == "named.wav"
    tree.list("b.list", f"{spoken}|ann|zh|二")
    assert tree.chosen("ann") == "spoken.wav"
    tree.list("c.list", f"{trained}|slicer_opt|zh|一")
    tree.trained_on("ann", "trained.wav")
    assert tree.chosen("ann") == "trained.wav"


def test_a_list_that_is_given_goes_before_those_of_the_folder(tree: Tree, tmp_path: Path) -> None:
    tree.list("x.list", f"{tree.audio('a.wav', 6.0)}|ann|zh|一", f"{tree.audio('b.wav', 6.0)}|bob|zh|一")
    given = tmp_path / "mine.list"
    given.write_text(f"{tree.audio('mine.wav', 4.0)}|ann|en|One.\n", encoding="utf-8")
    assert tree.chosen("ann", given) == "mine.wav"
    assert tree.chosen("bob", given) == "b.wav"


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("output/slicer_opt/a.wav", "output/slicer_opt/a.wav"),
        ("a.wav", "output/asr_opt/a.wav"),
        ("D:\\GPT-SoVITS\\output\\x\\a.wav", "output/x/a.wav"),
        ("/home/other/GPT-SoVITS/data/a.wav", "data/a.wav"),
        ("/gone/a.wav", "output/slicer_opt/a.wav"),
        ("/gone/a.wav", "output/denoise_opt/a.wav"),
        ("/gone/a.wav", "logs/ann/5-wav32k/a.wav"),
    ],
)
def test_recordings_are_found_where_the_folder_is_now(tree: Tree, said: str, place: str) -> None:
    tree.audio(place, 5.0)
    tree.list("output/asr_opt/x.list", f"{said}|ann|zh|你好。")
    found = tree.found("ann")
    assert isinstance(found, Recording)
    assert found.path == tree.root / place


@pytest.mark.parametrize(
    ("said", "tag"),
    [("ZH", "zh"), ("JP", "ja"), ("ja", "ja"), ("EN", "en"), ("En", "en"), ("KO", "ko"), ("Yue", "yue")],
)
def test_languages_become_tags(tree: Tree, said: str, tag: str) -> None:
    tree.list("x.list", f"{tree.audio('a.wav', 5.0)}|ann|{said}|x")
    found = tree.found("ann")
    assert isinstance(found, Recording)
    assert found.language == tag


def test_a_text_may_hold_bars(tree: Tree) -> None:
    tree.list("x.list", f"{tree.audio('a.wav', 5.0)}|ann|en| one | two ")
    found = tree.found("ann")
    assert isinstance(found, Recording)
    assert found.text == "one | two"


def test_no_line_at_all_says_how_to_give_one(tree: Tree) -> None:
    found = tree.found("ann")
    assert isinstance(found, NoRecording)
    assert found.reason == (
        "no *.list names a recording of 'ann': give one with --list, with lines PATH|ann|LANGUAGE|TEXT"
    )


def test_lines_that_will_not_do_are_counted_by_reason(tree: Tree) -> None:
    tree.list(
        "x.list",
        "/gone/1.wav|ann|zh|一",
        "/gone/2.wav|ann|zh|二",
        f"{tree.audio('short.wav', 1.0)}|ann|zh|三",
        f"{tree.audio('long.wav', 11.0)}|ann|zh|四",
        f"{tree.audio('mute.wav', 5.0)}|ann|zh|",
        f"{tree.audio('klingon.wav', 5.0)}|ann|tlh|nuqneH",
        f"{tree.root / 'x.list'}|ann|zh|no sound",
        "no line of a list",
        "",
    )
    found = tree.found("ann")
    assert isinstance(found, NoRecording)
    assert found.reason == (
        "no recording of 3 to 10 s: 2 not found, 1 shorter, 1 longer, 1 without a text, "
        "1 in an unknown language ('tlh'), 1 unreadable"
    )


def test_only_the_first_two_hundred_lines_are_tried(tree: Tree) -> None:
    lines = [f"{tree.audio(f'{number}.wav', 4.0)}|ann|zh|x" for number in range(200)]
    tree.list("x.list", *lines, f"{tree.audio('better.wav', 6.0)}|ann|zh|x")
    assert tree.chosen("ann") == "0.wav"


def test_lists_are_looked_for_everywhere_but_in_what_is_not_the_users(tree: Tree) -> None:
    for place in ("x.list", "output/asr_opt/y.list", "deep/er/z.list"):
        tree.list(place, "")
    for place in (".git/a.list", "runtime/b.list", "logs/ann/5-wav32k/c.list", "GPT_SoVITS/pretrained_models/d.list"):
        tree.list(place, "")
    assert [path.name for path in find_lists(tree.root)] == ["x.list", "z.list", "y.list"]


def test_a_list_that_cannot_be_read_is_named_and_the_others_are_read(tree: Tree) -> None:
    tree.list("b.list", f"{tree.audio('a.wav', 5.0)}|ann|zh|x")
    (tree.root / "a.list").write_bytes("派蒙".encode("gbk"))
    lists = Lists.of(find_lists(tree.root))
    assert [(path.name, reason[:17]) for path, reason in lists.unread] == [("a.list", "cannot be read: '")]
    assert list(lists.by_speaker) == ["ann"]


def test_odd_paths_are_not_found(tree: Tree) -> None:
    tree.list("x.list", "a\0b|ann|zh|x", f"{'a' * 300}|ann|zh|x", "|ann|zh|x", ".|ann|zh|x")
    found = tree.found("ann")
    assert isinstance(found, NoRecording)
    assert found.reason == "no recording of 3 to 10 s: 4 not found"


def test_a_duration_is_read_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(44_100 * 4, np.float32), 44_100)
    assert read_duration(path) == pytest.approx(4.0)
    path.write_bytes(b"RIFF")
    assert read_duration(path) is None
    assert read_duration(tmp_path / "missing.wav") is None

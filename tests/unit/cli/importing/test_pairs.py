"""Which files make a voice, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue_cli.importing.pairs import Epochs, InvalidEpoch, Pair, Problem, pair_up, weight_files


def paired(root: Path, *paths: str, epochs: Epochs | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Voice to the files chosen, and what is no voice to the reason."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    gpt, sovits, problems = weight_files(root)
    pairs, unpaired = pair_up(gpt, sovits, epochs=epochs or Epochs(), root=root)
    return {pair.label: _files(pair) for pair in pairs}, _reasons([*problems, *unpaired])


def _files(pair: Pair) -> str:
    return " ".join(f"{each.path.parent.name}/{each.path.name}" for each in (pair.gpt, pair.sovits))


def _reasons(problems: list[Problem]) -> dict[str, str]:
    return {problem.what: problem.reason for problem in problems}


def test_the_highest_epoch_and_of_it_the_highest_step_is_taken(tmp_path: Path) -> None:
    found, problems = paired(
        tmp_path,
        "GPT_weights_v2/ann-e5.ckpt",
        "GPT_weights_v2/ann-e15.ckpt",
        "SoVITS_weights_v2/ann_e8_s96.pth",
        "SoVITS_weights_v2/ann_e8_s104.pth",
        "SoVITS_weights_v2/ann_e4_s999.pth",
    )
    assert found == {"ann": "GPT_weights_v2/ann-e15.ckpt SoVITS_weights_v2/ann_e8_s104.pth"}
    assert problems == {}


@pytest.mark.parametrize(
    ("wishes", "files"),
    [
        (["5"], "GPT_weights/ann-e5.ckpt SoVITS_weights/ann_e5_s20.pth"),
        (["gpt=5"], "GPT_weights/ann-e5.ckpt SoVITS_weights/ann_e8_s30.pth"),
        (["sovits=5"], "GPT_weights/ann-e15.ckpt SoVITS_weights/ann_e5_s20.pth"),
        (["5", "gpt=15"], "GPT_weights/ann-e15.ckpt SoVITS_weights/ann_e5_s20.pth"),
    ],
)
def test_an_epoch_that_is_asked_for_is_taken(tmp_path: Path, wishes: list[str], files: str) -> None:
    found, _ = paired(
        tmp_path,
        "GPT_weights/ann-e5.ckpt",
        "GPT_weights/ann-e15.ckpt",
        "SoVITS_weights/ann_e5_s20.pth",
        "SoVITS_weights/ann_e8_s30.pth",
        epochs=Epochs.parse(wishes),
    )
    assert found == {"ann": files}


def test_an_epoch_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    paths = ("GPT_weights/ann-e15.ckpt", "GPT_weights/ann-e5.ckpt", "SoVITS_weights/ann_e8_s30.pth")
    _, problems = paired(tmp_path, *paths, epochs=Epochs(gpt=8))
    assert problems == {"SoVITS_weights/ann_e8_s30.pth": "no gpt file of epoch 8; there are 5, 15"}
    _, problems = paired(tmp_path, *paths, epochs=Epochs(sovits=15))
    assert problems == {"SoVITS_weights/ann_e8_s30.pth": "no sovits file of epoch 15; there are 8"}


@pytest.mark.parametrize("wish", ["", "e8", "gpt=", "gpt=x", "vits=8", "-1", "1.5", "9" * 20])
def test_an_epoch_that_means_nothing_is_refused(wish: str) -> None:
    with pytest.raises(InvalidEpoch, match="--epoch is a number, gpt=NUMBER or sovits=NUMBER"):
        Epochs.parse([wish])


def test_halves_of_the_same_ending_go_together_and_then_any(tmp_path: Path) -> None:
    found, _ = paired(
        tmp_path,
        "GPT_weights_v2/ann-e20.ckpt",
        "GPT_weights_v2Pro/ann-e10.ckpt",
        "SoVITS_weights_v2Pro/ann_e8_s1.pth",
        "GPT_weights_v2/bob-e3.ckpt",
        "GPT_weights/bob-e4.ckpt",
        "SoVITS_weights_v2ProPlus/bob_e8_s1.pth",
    )
    assert found == {
        "ann": "GPT_weights_v2Pro/ann-e10.ckpt SoVITS_weights_v2Pro/ann_e8_s1.pth",
        "bob": "GPT_weights/bob-e4.ckpt SoVITS_weights_v2ProPlus/bob_e8_s1.pth",
    }


def test_a_name_in_several_folders_is_several_voices(tmp_path: Path) -> None:
    found, _ = paired(
        tmp_path,
        "GPT_weights_v2/ann-e1.ckpt",
        "SoVITS_weights/ann_e1_s1.pth",
        "SoVITS_weights_v2/ann_e1_s1.pth",
        "SoVITS_weights_v2Pro/ann_e1_s1.pth",
    )
    assert list(found) == ["ann", "ann-v2", "ann-v2pro"]


def test_names_may_hold_what_file_names_hold(tmp_path: Path) -> None:
    found, problems = paired(
        tmp_path,
        "GPT_weights/派蒙 v2-e3_x-e15.ckpt",
        "SoVITS_weights/派蒙 v2-e3_x_e8_s200.pth",
        "GPT_weights/lora-e1.ckpt",
        "SoVITS_weights_v3/lora_e2_s30_l32.pth",
    )
    assert list(found) == ["lora", "paimeng-v2-e3-x"]
    assert problems == {}


def test_what_is_alone_or_named_otherwise_is_listed_and_stops_nothing(tmp_path: Path) -> None:
    found, problems = paired(
        tmp_path,
        "GPT_weights/ann-e1.ckpt",
        "SoVITS_weights/ann_e1_s1.pth",
        "GPT_weights/gpt only-e3.ckpt",
        "SoVITS_weights/sovits only_e3_s1.pth",
        "SoVITS_weights/best.pth",
        "GPT_weights/new\nline-e1.ckpt",
        "GPT_weights/.hidden-e1.ckpt",
        "GPT_weights/readme.txt",
        "GPT_weights/folder-e1.ckpt/x",
    )
    assert list(found) == ["ann"]
    assert problems == {
        "GPT_weights/gpt only-e3.ckpt": "no SoVITS_weights*/gpt only_eN_sM.pth beside it",
        "SoVITS_weights/sovits only_e3_s1.pth": "no GPT_weights*/sovits only-eN.ckpt beside it",
        "'best.pth'": "is not named as the trainer names its files (NAME_eN_sM.pth); rename it",
        r"'new\nline-e1.ckpt'": "is not named as the trainer names its files (NAME-eN.ckpt); rename it",
    }

"""How a folder of voices finds its shared models, and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.gpt_sovits.pretrained import reduced_sizes, write_models

from segue_cli.layout import Layout
from segue_cli.model_lines import models_lines
from segue_cli.shared_models import (
    NOTE,
    EngineMissing,
    NoModels,
    models_in,
    models_of,
    require_engine,
    voices_of_engine,
    write_note,
)
from segue_cli.up.certificates import ensure_certificates
from segue_cli.up.configs import Plan, write_configs
from segue_sidecar.config import load_config

VOICE = """\
apiVersion: segue.dev/v1alpha1
kind: VoiceModel
metadata: {name: NAME}
spec:
  engine: gpt-sovits
  weights: {gpt: {uri: a.ckpt}, sovits: {uri: b.pth}}
  reference: {uri: c.wav, text: Hello., language: en}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of GPT-SoVITS with all models but the speaker network."""
    root = tmp_path_factory.mktemp("GPT-SoVITS")
    write_models(root / "GPT_SoVITS" / "pretrained_models", reduced_sizes())
    (root / "GPT_SoVITS" / "pretrained_models" / "sv" / "pretrained_eres2netv2w24s4ep4.ckpt").unlink()
    return root


def home(checkout: Path) -> Path:
    return checkout / "GPT_SoVITS" / "pretrained_models"


@pytest.mark.parametrize("below", ["", "GPT_SoVITS", "GPT_SoVITS/pretrained_models"])
def test_a_checkout_or_the_folder_of_the_models_may_be_named(checkout: Path, below: str) -> None:
    models = models_in(checkout / below)
    assert models is not None
    assert models.directory == home(checkout)


def test_what_is_there_and_what_an_absent_one_disables_is_said(checkout: Path) -> None:
    models = models_in(checkout)
    assert models is not None
    there, *absent = models.lines
    assert there.startswith("shared models of gpt-sovits: chinese-hubert-base, chinese-roberta-wwm-ext-large (")
    assert absent == [
        "absent: pretrained_eres2netv2w24s4ep4.ckpt; without it: v2Pro and v2ProPlus voices cannot be prepared: it "
        "makes the speaker embedding that they follow"
    ]


def test_their_size_is_that_of_the_files_that_are_read(checkout: Path) -> None:
    models = models_in(checkout)
    assert models is not None
    read = {"config.json", "tokenizer.json", "pytorch_model.bin"}
    assert models.size_bytes == sum(path.stat().st_size for path in home(checkout).rglob("*") if path.name in read)


def test_import_writes_down_where_they_are_and_up_reads_it(checkout: Path, tmp_path: Path) -> None:
    models = models_in(checkout)
    assert models is not None
    assert models_of(tmp_path, named=None) is None
    write_note(tmp_path, models)
    assert models_of(tmp_path, named=None) == models
    assert voices_of_engine(tmp_path) == [], "the note is no voice, and no mistake"


def test_what_is_named_goes_before_the_note(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("sharedModels: {gpt-sovits: {directory: /nowhere}}")
    with pytest.raises(NoModels, match=rf"/nowhere \({NOTE}\) holds none of the shared models \(chinese-hubert-base"):
        models_of(tmp_path, named=None)
    found = models_of(tmp_path, named=checkout)
    assert found is not None
    assert found.directory == home(checkout)


@pytest.mark.parametrize("note", ["[", "sharedModels: {}", "- 1", "\x00"])
def test_a_note_that_cannot_be_read_says_what_it_should_be(tmp_path: Path, note: str) -> None:
    (tmp_path / NOTE).write_text(note)
    with pytest.raises(NoModels, match="remove it, or name the folder with --models"):
        models_of(tmp_path, named=None)


def test_voices_of_the_engine_need_torch(tmp_path: Path) -> None:
    for name in ("ann", "ben", "cid", "dan"):
        (tmp_path / f"{name}.yaml").write_text(VOICE.replace("NAME", name))
    names = voices_of_engine(tmp_path)
    with pytest.raises(EngineMissing, match=r"ann, ben, cid, …: .*needs torch.*pip install 'segue\[gpt-sovits\]'"):
        require_engine(names, has=lambda _: None)
    require_engine(names, has=lambda _: "found")
    require_engine([], has=lambda _: None)


def test_they_come_into_the_sidecars_file(checkout: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.create()
    plan = Plan(
        layout=layout,
        voices=tmp_path,
        host="127.0.0.1",
        port=8000,
        status_port=1,
        control_port=2,
        sidecar_status_port=3,
        pod_uid="pod-1",
        budget_bytes=1,
        models=home(checkout),
    )
    operator_tls, sidecar_tls = ensure_certificates(layout.tls)
    write_configs(plan, operator_tls=operator_tls, sidecar_tls=sidecar_tls)
    assert load_config(plan.sidecar_config).shared_models["gpt-sovits"].directory == home(checkout)
    assert "sharedModels" not in json.loads(plan.server_config.read_text())


def state(**changes: Any) -> dict[str, Any]:
    return {
        "pod": "local",
        "engine": "gpt-sovits",
        "phase": "Ready",
        "reason": "",
        "message": "",
        "source": "/models",
        "progress": {"fraction": 0.0},
        "parts": [{"name": "hubert", "sizeBytes": 189_000_000}],
        "absent": {},
        **changes,
    }


SHOWN: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "shared models of gpt-sovits: hubert 189.0 MB"),
    (
        {"absent": {"speaker": "no Pro voices"}},
        "shared models of gpt-sovits: hubert 189.0 MB; absent: speaker (no Pro voices)",
    ),
    (
        {"parts": [], "phase": "Preparing", "progress": {"fraction": 0.4}},
        "shared models of gpt-sovits: Preparing 40% (from /models)",
    ),
    (
        {"parts": [], "phase": "Failed", "reason": "WeightsError", "message": "hubert: tensor x"},
        "shared models of gpt-sovits: Failed: hubert: tensor x (from /models)",
    ),
    ({"parts": []}, "shared models of gpt-sovits: none in /models"),
)


@pytest.mark.parametrize(("changes", "line"), SHOWN)
def test_one_line_says_how_they_stand(changes: dict[str, Any], line: str) -> None:
    assert models_lines([state(**changes)]) == [line]


def test_pods_that_say_the_same_share_a_line() -> None:
    same = [state(pod="a"), state(pod="b")]
    assert models_lines(same) == ["shared models of gpt-sovits: hubert 189.0 MB"]
    assert models_lines([*same, state(pod="c", parts=[])])[1] == "shared models of gpt-sovits: none in /models (on c)"

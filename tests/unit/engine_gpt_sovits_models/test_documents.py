"""The programs in the documents run as they stand there, and what they compute is what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.support.gpt_sovits.files import small_sovits_file
from tests.support.gpt_sovits.folder import ending_t2s_file

_DOCUMENT = Path(__file__).parents[3] / "docs" / "engines.md"
_MARKED = re.compile(
    r"<!-- run by tests/unit/engine_gpt_sovits_models/test_documents\.py -->\n```python\n(.*?)```", re.S
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """What the programs expect to find."""
    root = tmp_path_factory.mktemp("documents")
    ending_t2s_file("t2s-reduced-a", seed=4).write(root / "voice-e15.ckpt")
    small_sovits_file().write(root / "voice_e8_s200.pth")
    (root / "pretrained_models").symlink_to(models)
    time = np.arange(4 * 24_000) / 24_000
    sound = 0.4 * np.sin(2 * np.pi * 150 * time) * np.sin(9 * time) ** 2
    soundfile.write(root / "reference.wav", sound.astype(np.float32), 24_000)
    return root


def _run(place: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    programs = _MARKED.findall(_DOCUMENT.read_text(encoding="utf-8"))
    assert len(programs) == 2
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(compile(programs[place], f"docs/engines.md, program {place + 1}", "exec"), found)
    return found


def test_every_figure_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(0, folder, monkeypatch)
    assert found["spec"].shape == (1, 1025, 200)
    assert found["vector"].shape == (1, 20_480)
    assert found["features"].shape == (1, 768, 229)
    assert found["codes"].shape == (114,)
    assert found["vectors"].shape == (7, 1024)
    assert found["prefill"].shape == (1, 1025)
    assert torch.equal(found["logits"][:1], found["prefill"])
    assert found["logits"].shape == (4, 1025)
    for generated in found["together"]:
        assert generated.tokens == found["greedy"].tokens
    assert found["greedy"].tokens[:114] == tuple(found["codes"].tolist())
    assert len(found["sampled"].semantic) > 10
    assert float(found["chances"].sum()) == pytest.approx(1.0, abs=1e-5)
    assert int((found["chances"] > 0).sum()) <= 15
    assert found["samples"].shape == (1280 * len(found["greedy"].semantic),)
    assert bool(torch.isfinite(found["samples"]).all())


def test_by_way_of_the_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(1, folder, monkeypatch)
    assert found["voice"].sample_rate == 32_000
    assert found["samples"].size > 1280 * 11
    assert float(np.abs(found["samples"]).max()) > 0.0

"""Reduced shared models, written once; one torch thread, so that figures do not depend on how many cores are free."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.gpt_sovits.pretrained import reduced_sizes, write_hubert, write_roberta
from tests.support.gpt_sovits.torch_writer import Tensor, write_torch_file

from segue_engines.gpt_sovits.models.shapes import speaker_shapes


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hubert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "chinese-hubert-base"
    write_hubert(folder, reduced_sizes())
    return folder


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "chinese-roberta-wwm-ext-large"
    write_roberta(folder, reduced_sizes())
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, hubert_folder: Path, roberta_folder: Path) -> Path:
    """All of them, as the hub's repository holds them; the speaker network of numbers that are quick to make."""
    root = tmp_path_factory.mktemp("root")
    for folder in (hubert_folder, roberta_folder):
        (root / folder.name).symlink_to(folder)
    (root / "sv").mkdir()
    tensors = {name: Tensor(shape, "float16", partial(_quick, name, shape)) for name, shape in speaker_shapes().items()}
    write_torch_file(root / "sv" / "pretrained_eres2netv2w24s4ep4.ckpt", tensors)
    return root


def _quick(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """One row of numbers over and over: 51 million drawn ones take as long as all else here together."""
    if len(shape) == 1:
        return np.full(shape, 0.0 if name.endswith(("bias", "running_mean")) else 1.0, np.float32)
    row = np.random.default_rng(1).standard_normal(65_521).astype(np.float32)
    return np.resize(row / np.sqrt(np.prod(shape[1:])), shape)

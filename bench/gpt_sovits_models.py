"""What the shared models of GPT-SoVITS cost by how they are kept: memory, and processor time of a text and a reference.

Separate from the bench of the engine because it needs no voice. Real shapes with drawn weights; one thread, processor
time, so that it can be measured on a busy machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from tests.support.gpt_sovits.pretrained import full_sizes, reduced_sizes, write_hubert, write_roberta

from bench.table import Options, at_least, note, parse_options, print_lines
from segue_cli.measure.environment import environment, write_report
from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA
from segue_engines.gpt_sovits.models.preparing import ModelDtype, prepare_model
from segue_engines.gpt_sovits.models.shared import hubert_network, roberta_network

TEXT: Final = "今天天气很好,我们一起去公园散步吧." * 6
CHARACTERS: Final = (20, 100)
RECORDING_S: Final = 6
COSINE: Final = 0.9999
"""How near to fp32 the vectors must be in any type."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where a promise is broken."""
    options: Options = parse_options("gpt_sovits_models", arguments)
    measured_in = environment()
    torch.set_num_threads(1)
    sizes = reduced_sizes() if options.short else full_sizes()
    with TemporaryDirectory() as folder:
        write_roberta(Path(folder, ROBERTA), sizes)
        write_hubert(Path(folder, HUBERT), sizes)
        roberta = _with_cosines({dtype: _roberta(Path(folder, ROBERTA), dtype) for dtype in ModelDtype})
        hubert = {dtype: _hubert(Path(folder, HUBERT), dtype) for dtype in ModelDtype}
    write_report(options.out / "gpt_sovits_models.json", {"roberta": roberta, "hubert": hubert}, measured_in)
    lines = [note(f"roberta, {dtype}", _told(figures)) for dtype, figures in roberta.items()]
    lines += [note(f"hubert, {dtype}", _told(figures)) for dtype, figures in hubert.items()]
    lines += [at_least(f"roberta, {dtype}: cosine", found["cosine"], COSINE) for dtype, found in roberta.items()]
    return 0 if print_lines("gpt_sovits_models", lines, short=options.short) else 1


def _roberta(folder: Path, dtype: ModelDtype) -> dict[str, Any]:
    part = prepare_model(ROBERTA, folder, dtype=dtype)
    network = roberta_network(part)
    figures: dict[str, Any] = {"mb": sum(array.nbytes for array in part.tensors.values()) / 1e6}
    for count in CHARACTERS:
        figures[f"{count}_characters_s"] = _seconds(lambda count=count: network.of(TEXT[:count]))  # type: ignore[misc]
    return figures | {"vectors": network.of(TEXT[: CHARACTERS[-1]])}


def _with_cosines(measured: dict[ModelDtype, dict[str, Any]]) -> dict[ModelDtype, dict[str, float]]:
    vectors = {dtype: figures.pop("vectors") for dtype, figures in measured.items()}
    exact = vectors[ModelDtype.FP32]
    for dtype, found in vectors.items():
        measured[dtype]["cosine"] = float((exact * found).sum() / np.linalg.norm(exact) / np.linalg.norm(found))
    return measured


def _hubert(folder: Path, dtype: ModelDtype) -> dict[str, float]:
    part = prepare_model(HUBERT, folder, dtype=dtype)
    network = hubert_network(part)
    signal = torch.randn(16_000 * RECORDING_S, generator=torch.Generator().manual_seed(1)) * 0.1
    return {
        "mb": sum(array.nbytes for array in part.tensors.values()) / 1e6,
        f"{RECORDING_S}_s_of_sound_s": _seconds(lambda: network(signal)),
    }


def _seconds(work: Callable[[], object]) -> float:
    """Processor time of the best of four, after a first that warms up."""
    work()
    best = float("inf")
    for _ in range(4):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())


if __name__ == "__main__":
    sys.exit(main())

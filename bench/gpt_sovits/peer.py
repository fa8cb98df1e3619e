"""gsv-tts-lite (PyPI, MIT): the networks of another server for these voices, driven without its downloads.

Separate because it is not ours: installed once into a folder of the cache, without its dependencies (language packages
and runtimes that the networks do not need), never into the project's environment. Its packages' `__init__` files, which
import all of those, are stepped over; the two network modules are its own, unchanged, and run on the same torch.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor

from bench.gpt_sovits.voices import WeightFiles
from segue_engines.gpt_sovits.sovits.network import SAMPLE_RATE
from segue_engines.gpt_sovits.t2s.network import Utterance

VERSION: Final = "0.4.7"
_WANTED: Final = (f"gsv-tts-lite=={VERSION}", "einops==0.8.1", "tqdm==4.67.1")
_HOLLOW: Final = ("gsv_tts", "gsv_tts.GPT_SoVITS", "gsv_tts.GPT_SoVITS.G2P")
_RENAMED: Final = {
    "self_attn.in_proj_weight": "qkv.weight",
    "self_attn.in_proj_bias": "qkv.bias",
    "self_attn.out_proj": "out_proj",
    "linear1": "mlp.0",
    "linear2": "mlp.2",
}


def installed() -> Path | None:
    """Its folder; installs it the first time. None where that fails (no network)."""
    cache = Path(os.environ.get("SEGUE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "segue")
    folder = cache.expanduser() / "bench" / f"gsv-tts-lite-{VERSION}"
    if not (folder / ".ready").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*install, "--upgrade", "--target", str(folder), *_WANTED], check=False)
        if done.returncode:
            return None
        (folder / ".ready").touch()
    return folder


class Peer:
    """Its two networks with the same weights."""

    def __init__(self, folder: Path, files: WeightFiles, *, positions: int, batches: Sequence[int]) -> None:
        """Build them.

        Parameters
        ----------
        positions
            Of its cache in each batch size; it computes attention over all of them whatever is filled, so the fewer
            the faster.
        """
        self._condition: Tensor | None = None
        t2s_module, sovits_module = _modules(folder)
        with _quiet():
            self._t2s = t2s_module.Text2SemanticDecoder(dict(files.t2s_config))
            self._t2s.load_state_dict(_t2s_names(files.t2s))
            self._t2s.eval()
            cpu = torch.device("cpu")
            self._t2s.initialize_runtime(torch.float32, cpu, [(size, positions) for size in batches])
            model, data = files.sovits_config["model"], files.sovits_config["data"]
            self._sovits = sovits_module.SynthesizerTrn(
                data["filter_length"] // 2 + 1, 32, n_speakers=data["n_speakers"], **model
            )
            weights = {name: torch.from_numpy(array) for name, array in files.sovits.items()}
            self._sovits.load_state_dict(weights, strict=False)
            self._sovits.dec.remove_weight_norm()
            self._sovits.eval()

    def tokens_per_s(self, utterances: Sequence[Utterance]) -> float:
        """Of all together, prefills included: one alone, or several in its batch mode, until its cache is full."""
        begin = time.perf_counter()
        with _quiet():
            if len(utterances) == 1:
                (one,) = utterances
                bert = torch.zeros(1, len(one.phones), 1024)
                said = self._t2s.infer(one.phones[None], one.prompt[None], bert).shape[-1]
            else:
                pieces, _ = self._t2s.infer_batched(
                    [each.phones for each in utterances],
                    [each.prompt for each in utterances],
                    [torch.zeros(len(each.phones), 1024) for each in utterances],
                )
                said = sum(len(piece) for piece in pieces)
        return float(said / (time.perf_counter() - begin))

    def real_time_factor(self, codes: Tensor, phones: Tensor, spectrogram: Tensor, speaker: Tensor) -> float:
        """Seconds for a second of sound; the condition is made once and kept, as by us."""
        if self._condition is None:
            with torch.inference_mode():
                self._condition = self._sovits.get_ge(spectrogram, speaker)
        begin = time.perf_counter()
        samples, _ = self._sovits.decode(codes[None, None], phones[None], self._condition)
        return float((time.perf_counter() - begin) * SAMPLE_RATE / samples.shape[-1])


def _modules(folder: Path) -> tuple[Any, Any]:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for name in _HOLLOW:
        hollow = ModuleType(name)
        hollow.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = hollow
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            importlib.import_module("gsv_tts.GPT_SoVITS.GPT.t2s_model"),
            importlib.import_module("gsv_tts.GPT_SoVITS.SoVITS.models"),
        )


def _t2s_names(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, array in tensors.items():
        own = name.removeprefix("model.").replace("h.layers.", "t2s_transformer.blocks.")
        for theirs, other in _RENAMED.items():
            own = own.replace(theirs, other)
        renamed[own] = torch.from_numpy(array)
    return renamed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its progress bars and the deprecations of its torch calls."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

"""The two weight files of a GPT-SoVITS voice, read as data and checked before memory is taken.

numpy only: the command line and the sidecar look at files without torch. A voice is a T2S `.ckpt` (text to semantic
tokens, `gpt` in a VoiceModel) and a SoVITS `.pth` (tokens to sound, `sovits`).

    with open_sovits(path) as checkpoint:              # reads no tensor yet
        checkpoint.version, checkpoint.config
        folded = fold_weight_norm(checkpoint.tensors, file=checkpoint.file)
        tensors = dict(cast(folded, ServingDtype.FP32, file=checkpoint.file))
"""

from __future__ import annotations

from segue_engines.gpt_sovits.formats.casting import ServingDtype, cast
from segue_engines.gpt_sovits.formats.checkpoint import (
    Limits,
    SovitsCheckpoint,
    T2SCheckpoint,
    open_sovits,
    open_t2s,
    read_sovits,
    read_t2s,
)
from segue_engines.gpt_sovits.formats.config import SovitsConfig, T2SConfig
from segue_engines.gpt_sovits.formats.folding import fold_weight_norm
from segue_engines.gpt_sovits.formats.shapes import sovits_shapes, t2s_shapes
from segue_engines.gpt_sovits.formats.versions import SERVED, ModelVersion, UnsupportedVersion

__all__ = [
    "SERVED",
    "Limits",
    "ModelVersion",
    "ServingDtype",
    "SovitsCheckpoint",
    "SovitsConfig",
    "T2SCheckpoint",
    "T2SConfig",
    "UnsupportedVersion",
    "cast",
    "fold_weight_norm",
    "open_sovits",
    "open_t2s",
    "read_sovits",
    "read_t2s",
    "sovits_shapes",
    "t2s_shapes",
]

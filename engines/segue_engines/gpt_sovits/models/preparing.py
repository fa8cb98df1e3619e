"""Files of the shared models to parts: what the sidecar's child does once per pod.

Separate from the networks, which run elsewhere: here are hostile files, there is served memory. Which tensors a part
has and how they lie is written down here and seen again in `shared`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segue.engine import PreparedModels, PreparedPart, PrepareOptions
from segue.errors import InvalidVoiceModel, WeightsError
from segue_engines.gpt_sovits.formats import Limits, ServingDtype, cast
from segue_engines.gpt_sovits.models.catalog import (
    CONFIG,
    HUBERT,
    ROBERTA,
    SERVED_MODELS,
    SPEAKER,
    VOCABULARIES,
    WEIGHTS,
    find_model,
    first_of,
)
from segue_engines.gpt_sovits.models.config import HubertConfig, RobertaConfig
from segue_engines.gpt_sovits.models.shapes import hubert_shapes, roberta_shapes, speaker_shapes
from segue_engines.gpt_sovits.models.vocabulary import Vocabulary
from segue_engines.gpt_sovits.models.weights import ModelTensors, open_model

CHARACTERS: Final = "vocabulary.characters"
IDS: Final = "vocabulary.ids"

_PLACE: Final = "encoder.pos_conv_embed.conv.weight"


class ModelDtype(StrEnum):
    """How the matrices of HuBERT and RoBERTa are kept: the option `dtype` of the shared models.

    `fp16` is what the published files hold, so it loses nothing: products are computed in float32. `fp32` takes twice
    the memory and saves the widening. `bf16` multiplies in bfloat16: fast where the processor can, and less exact.
    """

    FP16 = "fp16"
    FP32 = "fp32"
    BF16 = "bf16"


def prepare_models(root: Path, options: PrepareOptions) -> PreparedModels:
    """Read, check and repack the models below a root; see `SharesModels.prepare_models`."""
    dtype = _dtype(options.options)
    limits = Limits(max_tensor_bytes=options.max_tensor_bytes, max_total_bytes=options.max_total_bytes)
    parts: dict[str, PreparedPart] = {}
    absent: dict[str, str] = {}
    for name, model in SERVED_MODELS.items():
        found = find_model(root, model)
        if found.path is None:
            absent[name] = f"{found.missing}; without it: {model.disables}"
        else:
            parts[name] = prepare_model(name, found.path, dtype=dtype, limits=limits)
    return PreparedModels(parts=parts, absent=absent)


def prepare_model(
    name: str, path: Path, *, dtype: ModelDtype = ModelDtype.FP16, limits: Limits | None = None
) -> PreparedPart:
    """Prepare one model from its folder, or its file.

    Raises
    ------
    WeightsError
        Unsafe, corrupt or wrongly shaped files; the message names file, tensor and expectation.
    """
    prepare = {HUBERT: _hubert, ROBERTA: _roberta, SPEAKER: _speaker}[name]
    try:
        return prepare(path, dtype, limits or Limits())
    except WeightsError as error:
        raise type(error)(f"{SERVED_MODELS[name].title}: {error}") from error


def _hubert(folder: Path, dtype: ModelDtype, limits: Limits) -> PreparedPart:
    config = HubertConfig.read(folder / CONFIG)
    with open_model(first_of(folder, WEIGHTS), hubert_shapes(config), prefix="hubert.", limits=limits) as tensors:
        plain = _packed(tensors, {"q_proj": 0, "k_proj": 1, "v_proj": 2})
        return PreparedPart(
            tensors=_served(_folded(plain, tensors), dtype, tensors.file), meta={"config": asdict(config)}
        )


def _roberta(folder: Path, dtype: ModelDtype, limits: Limits) -> PreparedPart:
    config = RobertaConfig.read(folder / CONFIG)
    vocabulary = Vocabulary.read(first_of(folder, VOCABULARIES), size=config.vocab_size)
    with open_model(first_of(folder, WEIGHTS), roberta_shapes(config), prefix="bert.", limits=limits) as tensors:
        served = _served(_packed(tensors, {"query": 0, "key": 1, "value": 2}), dtype, tensors.file)
    special = {"unknown": vocabulary.unknown, "first": vocabulary.first, "last": vocabulary.last}
    return PreparedPart(
        tensors={**served, CHARACTERS: vocabulary.characters, IDS: vocabulary.ids},
        meta={"config": asdict(config), "vocabulary": special},
    )


def _speaker(path: Path, dtype: ModelDtype, limits: Limits) -> PreparedPart:
    """Always float32: it is small, and all of it is convolutions."""
    del dtype
    with open_model(path, speaker_shapes(), limits=limits) as tensors:
        return PreparedPart(tensors=dict(cast(tensors.items(), ServingDtype.FP32, file=tensors.file)))


def _packed(tensors: ModelTensors, projections: Mapping[str, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Lay query, key and value of each attention into one matrix, in this order, in the place of the query."""
    for name in tensors:
        attention, _, rest = name.rpartition(".")
        place, _, projection = attention.rpartition(".")
        if projection not in projections:
            yield name, tensors[name]
        elif projections[projection] == 0:
            yield f"{place}.qkv.{rest}", np.concatenate([tensors[f"{place}.{each}.{rest}"] for each in projections])


def _folded(plain: Iterable[tuple[str, NDArray[Any]]], tensors: ModelTensors) -> Iterator[tuple[str, NDArray[Any]]]:
    """Fold the weight norm of the convolution that tells places, whose norm is over all but its *last* axis."""
    for name, array in plain:
        if name == f"{_PLACE}_v":
            direction = array.astype(np.float32)
            norms = np.sqrt(np.square(direction, dtype=np.float64).sum(axis=(0, 1), keepdims=True)).astype(np.float32)
            if not norms.all():
                raise WeightsError(f"{tensors.file}: tensor {name!r} is all zeros at one place and has no direction")
            yield _PLACE, direction * (tensors[f"{_PLACE}_g"].astype(np.float32) / norms)
        elif name != f"{_PLACE}_g":
            yield name, array


def _served(tensors: Iterable[tuple[str, NDArray[Any]]], dtype: ModelDtype, file: str) -> dict[str, NDArray[Any]]:
    """Matrices in the type that is served, all else in float32, one after the other."""
    served: dict[str, NDArray[Any]] = {}
    for name, array in tensors:
        served.update(cast([(name, array)], _stored_as(name, array, dtype), file=file))
    return served


def _stored_as(name: str, array: NDArray[Any], dtype: ModelDtype) -> ServingDtype:
    """The folded convolution is no float16 number any more, and embeddings are looked up, not multiplied."""
    if array.ndim == 1 or name == _PLACE or dtype is ModelDtype.FP32:
        return ServingDtype.FP32
    multiplied = array.ndim == 2 and "embeddings" not in name
    return ServingDtype.BF16 if dtype is ModelDtype.BF16 and multiplied else ServingDtype.FP16


def _dtype(options: Mapping[str, Any]) -> ModelDtype:
    if unknown := sorted(set(options) - {"dtype"}):
        raise InvalidVoiceModel(f"the shared models have no option {unknown[0]!r}; they have 'dtype'", field=unknown[0])
    chosen = options.get("dtype", ModelDtype.FP16)
    if chosen not in tuple(ModelDtype):
        known = ", ".join(repr(each.value) for each in ModelDtype)
        raise InvalidVoiceModel(f"dtype of the shared models is {chosen!r}; expected one of {known}", field="dtype")
    return ModelDtype(chosen)

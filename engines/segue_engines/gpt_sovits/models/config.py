"""The `config.json` of HuBERT and RoBERTa, read with bounds.

Separate from the weights because the shapes of all tensors follow from these numbers. Keys are those of the files; one
that is absent has the value that published models of the kind have. What only training needs is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from segue.errors import WeightsError
from segue_engines.gpt_sovits.formats.config import Settings
from segue_engines.gpt_sovits.formats.shapes import BERT_FEATURES, SSL_FEATURES

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_LAYERS: Final = 64
MAX_TOKENS: Final = 512
"""What RoBERTa reads at once, its first and last token included."""

READ_LAYER: Final = -3
"""Which of RoBERTa's hidden states is read, counted from the last: the layers after it are not needed."""

CONV_KERNELS: Final = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES: Final = (5, 2, 2, 2, 2, 2, 2)
"""HuBERT's: together 320 samples at 16 kHz, 50 features a second, which is what the codebook was trained on."""

_HUBERT: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "do_stable_layer_norm": False,
    "conv_dim": [512] * 7,
    "conv_kernel": list(CONV_KERNELS),
    "conv_stride": list(CONV_STRIDES),
    "conv_bias": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "conv_pos_batch_norm": False,
}
_BERT: Final[Mapping[str, Any]] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "vocab_size": 21_128,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "position_embedding_type": "absolute",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubertConfig:
    """Sizes of a HuBERT; names as in its `config.json`."""

    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    layer_norm_eps: float
    conv_dim: tuple[int, ...]
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    hidden_size: int = SSL_FEATURES

    @classmethod
    def read(cls, path: Path) -> HubertConfig:
        """Read a `config.json`.

        Raises
        ------
        WeightsError
            No JSON, another kind of model, or a number that no network is built with.
        """
        settings = _settings(path, kind="hubert", defaults=_HUBERT)
        settings.equal("hidden_size", SSL_FEATURES)
        for key in ("hidden_act", "feat_extract_activation", "feat_extract_norm", "feat_proj_layer_norm"):
            settings.equal(key, _HUBERT[key])
        for key in ("do_stable_layer_norm", "conv_bias", "conv_pos_batch_norm"):
            settings.equal(key, False)
        for key in ("conv_kernel", "conv_stride"):
            if settings.wholes(key, low=1, high=64, longest=16) != tuple(_HUBERT[key]):
                raise settings.refusal(key, f"expected {_HUBERT[key]}: 50 features a second")
        channels = settings.wholes("conv_dim", low=8, high=2048, longest=len(CONV_KERNELS))
        if len(channels) != len(CONV_KERNELS):
            raise settings.refusal("conv_dim", f"expected {len(CONV_KERNELS)} numbers")
        return cls(
            num_hidden_layers=settings.whole("num_hidden_layers", low=1, high=MAX_LAYERS),
            num_attention_heads=_divisor(settings, "num_attention_heads", SSL_FEATURES),
            intermediate_size=settings.whole("intermediate_size", low=8, high=16_384),
            layer_norm_eps=_small(settings, "layer_norm_eps"),
            conv_dim=channels,
            num_conv_pos_embeddings=settings.whole("num_conv_pos_embeddings", low=2, high=512),
            num_conv_pos_embedding_groups=_divisor(settings, "num_conv_pos_embedding_groups", SSL_FEATURES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RobertaConfig:
    """Sizes of a Chinese RoBERTa, which is a BERT in all but its training; names as in its `config.json`."""

    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    layer_norm_eps: float
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_size: int = BERT_FEATURES

    @property
    def layers_read(self) -> int:
        """Layers up to the hidden state that is read."""
        return self.num_hidden_layers + READ_LAYER + 1

    @classmethod
    def read(cls, path: Path) -> RobertaConfig:
        """Read a `config.json`; errors as `HubertConfig.read`."""
        settings = _settings(path, kind="bert", defaults=_BERT)
        settings.equal("hidden_size", BERT_FEATURES)
        for key in ("hidden_act", "position_embedding_type"):
            settings.equal(key, _BERT[key])
        return cls(
            num_hidden_layers=settings.whole("num_hidden_layers", low=-READ_LAYER, high=MAX_LAYERS),
            num_attention_heads=_divisor(settings, "num_attention_heads", BERT_FEATURES),
            intermediate_size=settings.whole("intermediate_size", low=8, high=16_384),
            layer_norm_eps=_small(settings, "layer_norm_eps"),
            vocab_size=settings.whole("vocab_size", low=4, high=1 << 18),
            max_position_embeddings=settings.whole("max_position_embeddings", low=MAX_TOKENS, high=1 << 15),
            type_vocab_size=settings.whole("type_vocab_size", low=1, high=16),
        )


def read_json(path: Path, *, max_bytes: int) -> Any:
    """Read a JSON file of bounded size.

    Raises
    ------
    WeightsError
        It cannot be read, is larger, or no JSON.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise WeightsError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    if len(raw) > max_bytes:
        raise WeightsError(f"{path.name}: larger than {max_bytes} bytes")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path.name}: no JSON: {str(error)[:80]}") from error


def _settings(path: Path, *, kind: str, defaults: Mapping[str, Any]) -> Settings:
    found = Settings.of(read_json(path, max_bytes=MAX_CONFIG_BYTES), path.name, "config")
    if found.has("model_type"):
        found.equal("model_type", kind)
    return Settings(found.file, found.place, {**defaults, **found.values})


def _divisor(settings: Settings, key: str, of: int) -> int:
    value = settings.whole(key, low=1, high=of)
    if of % value:
        raise settings.refusal(key, f"expected a divisor of {of}")
    return value


def _small(settings: Settings, key: str) -> float:
    value = settings.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-14 <= value <= 1e-2:
        raise settings.refusal(key, "expected a number from 1e-14 to 1e-2")
    return float(value)

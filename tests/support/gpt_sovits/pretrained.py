"""The pretrained models that all voices share, as published: of real or reduced shapes, with drawn weights.

Separate from the voices' files because these have containers and names of other people: `transformers` for HuBERT and
RoBERTa, 3D-Speaker for the speaker network. Heads that Segue passes over are written, too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.support.gpt_sovits.files import table
from tests.support.gpt_sovits.torch_writer import Tensor, write_torch_file
from tests.support.gpt_sovits.weights import Shape, drawn

from segue_engines.gpt_sovits.models.catalog import HUBERT, ROBERTA, SPEAKER, model_files
from segue_engines.gpt_sovits.models.config import READ_LAYER, HubertConfig, RobertaConfig
from segue_engines.gpt_sovits.models.shapes import hubert_shapes, roberta_shapes

SPECIAL: Final = ("[PAD]", *(f"[unused{place}]" for place in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Where the published vocabulary has them: 0, 100, 101, 102, 103."""

_FULL: Final = 21_128


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the models are. Widths that voices are tied to (768, 1024, the whole speaker network) never change."""

    hubert: Mapping[str, Any]
    roberta: Mapping[str, Any]
    vocabulary: tuple[str, ...]


def full_sizes() -> Sizes:
    """As published: 95 and 325 million numbers."""
    hubert = {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "conv_dim": [512] * 7}
    roberta = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    return Sizes(hubert=hubert, roberta=roberta, vocabulary=_vocabulary("gbk"))


def reduced_sizes() -> Sizes:
    """Small enough for tests: few and narrow layers, and the hanzi of the first level of GB 2312."""
    hubert = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32] * 7}
    roberta = {"num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 64}
    return Sizes(hubert=hubert, roberta=roberta, vocabulary=_vocabulary("gb2312"))


def write_models(folder: Path, sizes: Sizes, *, seed: int = 1, safetensors: bool = False) -> None:
    """Write all models as `pretrained_models` holds them."""
    write_hubert(folder / "chinese-hubert-base", sizes, seed=seed, safetensors=safetensors)
    write_roberta(folder / "chinese-roberta-wwm-ext-large", sizes, seed=seed, safetensors=safetensors)
    write_speaker(folder / model_files()[SPEAKER][0], seed=seed)


def write_hubert(folder: Path, sizes: Sizes, *, seed: int = 1, safetensors: bool = False) -> None:
    """A `HubertModel`."""
    config = {**_HUBERT_CONFIG, **sizes.hubert}
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", _PREPROCESSOR)
    shapes: dict[str, Shape] = {"masked_spec_embed": (768,)}
    shapes |= hubert_shapes(HubertConfig.read(folder / "config.json"))
    _write_weights(folder, _tensors(shapes, f"{HUBERT}-{seed}"), safetensors=safetensors)


def write_roberta(folder: Path, sizes: Sizes, *, seed: int = 1, safetensors: bool = False) -> None:
    """A `BertForMaskedLM`, all layers and its head included, and its tokenizer."""
    config = {**_ROBERTA_CONFIG, **sizes.roberta, "vocab_size": len(sizes.vocabulary)}
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer.json", _tokenizer(sizes.vocabulary))
    read = RobertaConfig.read(folder / "config.json")
    width = read.hidden_size
    whole = replace(read, num_hidden_layers=read.num_hidden_layers - 1 - READ_LAYER)
    shapes: dict[str, Shape] = {f"bert.{name}": shape for name, shape in roberta_shapes(whole).items()}
    shapes |= {
        "cls.predictions.bias": (len(sizes.vocabulary),),
        "cls.predictions.transform.dense.weight": (width, width),
        "cls.predictions.transform.dense.bias": (width,),
        "cls.predictions.transform.LayerNorm.weight": (width,),
        "cls.predictions.transform.LayerNorm.bias": (width,),
    }
    tensors = _tensors(shapes, f"{ROBERTA}-{seed}")
    tensors["bert.embeddings.position_ids"] = Tensor.of(np.arange(512, dtype=np.int64)[None])
    _write_weights(folder, tensors, safetensors=safetensors)


def write_speaker(path: Path, *, seed: int = 1) -> None:
    """The speaker network; its shapes do not depend on anything. The seed of the golden vectors gives their network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = table("sv-eres2netv2").shapes
    write_torch_file(path, _tensors(shapes, str(seed)))


def _tensors(shapes: Mapping[str, Shape], key: str, *, dtype: str = "float16") -> dict[str, Tensor]:
    return {
        name: Tensor(
            tuple(shape),
            "int64" if name.endswith("num_batches_tracked") else dtype,
            partial(drawn, name, shape, seed=key),
        )
        for name, shape in shapes.items()
    }


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], *, safetensors: bool) -> None:
    if safetensors:
        write_safetensors(folder / "model.safetensors", tensors)
    else:
        write_torch_file(folder / "pytorch_model.bin", tensors)


_SAFE: Final = {"float16": "F16", "float32": "F32", "bfloat16": "BF16", "int64": "I64"}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the safetensors format: length, JSON, and the bytes one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in tensors.items():
        size = int(np.prod(tensor.shape, dtype=np.int64)) * (8 if tensor.dtype == "int64" else _width(tensor.dtype))
        header[name] = {
            "dtype": _SAFE[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for tensor in tensors.values():
            file.write(tensor.stored())


def _width(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _vocabulary(encoding: str) -> tuple[str, ...]:
    """Special tokens, ASCII, marks and hanzi, each hanzi also as the continuation of a word, as published."""
    hanzi = [char for char in map(chr, range(0x4E00, 0x9FA6)) if _encodable(char, encoding)]
    marks = [*map(chr, range(33, 127)), *"…—、。，！？：；“”‘’（）《》"]
    marks = [mark for mark in dict.fromkeys(marks) if not mark.isupper()]
    if encoding == "gb2312":
        return (*SPECIAL, *marks, *hanzi[:3755])
    tokens = [*SPECIAL, *marks, *hanzi[: (_FULL - len(SPECIAL) - len(marks)) // 2]]
    tokens += [f"##{hanzi[place]}" for place in range(_FULL - len(tokens))]
    return tuple(tokens)


def _encodable(char: str, encoding: str) -> bool:
    try:
        raw = char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return encoding != "gb2312" or raw < b"\xd8"


def _tokenizer(vocabulary: tuple[str, ...]) -> dict[str, Any]:
    """As `tokenizers` writes a fast BERT tokenizer."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ids = {token: place for place, token in enumerate(vocabulary)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **flags} for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing",
            "sep": ["[SEP]", ids["[SEP]"]],
            "cls": ["[CLS]", ids["[CLS]"]],
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


_HUBERT_CONFIG: Final[Mapping[str, Any]] = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "hidden_size": 768,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-05,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "do_stable_layer_norm": False,
    "conv_bias": False,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "torch_dtype": "float16",
}
_ROBERTA_CONFIG: Final[Mapping[str, Any]] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "hidden_size": 1024,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float16",
}
_PREPROCESSOR: Final = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}

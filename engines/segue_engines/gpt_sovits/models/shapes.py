"""Every tensor that the files of the shared models must hold, by their configs.

Separate from the reading because a test holds these functions against the models of `transformers` and against the
table of the published speaker network. Names are those of the files, without the prefix that a model with a head puts
before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from segue_engines.gpt_sovits.models.config import CONV_KERNELS, HubertConfig, RobertaConfig

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

SPEAKER_BLOCKS: Final = (3, 4, 6, 3)
_STEM: Final = 64
_BASE_WIDTH: Final = 24
_SCALE: Final = 4
_EXPANSION: Final = 4
_FUSING: Final = (3, 4)
"""Stages whose blocks weigh the pieces of a map against each other; the first two add them."""


def hubert_shapes(config: HubertConfig) -> Shapes:
    """Tensors of `HubertModel`."""
    width, channels = config.hidden_size, config.conv_dim
    shapes: Shapes = {}
    for layer, (kernel, before, after) in enumerate(zip(CONV_KERNELS, (1, *channels), channels, strict=False)):
        shapes[f"feature_extractor.conv_layers.{layer}.conv.weight"] = (after, before, kernel)
    shapes |= _norm("feature_extractor.conv_layers.0.layer_norm", channels[0])
    shapes |= _norm("feature_projection.layer_norm", channels[-1])
    shapes |= _linear("feature_projection.projection", width, channels[-1])
    reach = config.num_conv_pos_embeddings
    shapes["encoder.pos_conv_embed.conv.bias"] = (width,)
    shapes["encoder.pos_conv_embed.conv.weight_g"] = (1, 1, reach)
    shapes["encoder.pos_conv_embed.conv.weight_v"] = (width, width // config.num_conv_pos_embedding_groups, reach)
    shapes |= _norm("encoder.layer_norm", width)
    for layer in range(config.num_hidden_layers):
        shapes |= _under(f"encoder.layers.{layer}", _hubert_layer(width, config.intermediate_size))
    return shapes


def roberta_shapes(config: RobertaConfig) -> Shapes:
    """Tensors of `BertModel` up to the layer that is read."""
    width = config.hidden_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, width),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, width),
        **_norm("embeddings.LayerNorm", width),
    }
    for layer in range(config.layers_read):
        shapes |= _under(f"encoder.layer.{layer}", _bert_layer(width, config.intermediate_size))
    return shapes


def speaker_shapes() -> Shapes:
    """Tensors of the published ERes2NetV2 (base width 24, scale 4) up to its fused map."""
    shapes: Shapes = {"conv1.weight": (_STEM, 1, 3, 3), **_batch_norm("bn1", _STEM)}
    entering = _STEM
    for stage, blocks in enumerate(SPEAKER_BLOCKS, start=1):
        planes = _STEM << (stage - 1)
        for block in range(blocks):
            shapes |= _under(f"layer{stage}.{block}", _speaker_block(entering, planes, fuses=stage in _FUSING))
            entering = planes * _EXPANSION
    shapes["layer3_ds.weight"] = (entering, entering // 2, 3, 3)
    return shapes | _under("fuse34", _fusion(entering))


def _under(place: str, shapes: Mapping[str, Shape]) -> Shapes:
    return {f"{place}.{name}": shape for name, shape in shapes.items()}


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    return {f"{name}.{key}": (width,) for key in ("weight", "bias", "running_mean", "running_var")}


def _hubert_layer(width: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        shapes |= _linear(f"attention.{name}", width, width)
    return (
        shapes
        | _norm("layer_norm", width)
        | _linear("feed_forward.intermediate_dense", inner, width)
        | _linear("feed_forward.output_dense", width, inner)
        | _norm("final_layer_norm", width)
    )


def _bert_layer(width: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for name in ("query", "key", "value"):
        shapes |= _linear(f"attention.self.{name}", width, width)
    return (
        shapes
        | _linear("attention.output.dense", width, width)
        | _norm("attention.output.LayerNorm", width)
        | _linear("intermediate.dense", inner, width)
        | _linear("output.dense", width, inner)
        | _norm("output.LayerNorm", width)
    )


def _speaker_block(entering: int, planes: int, *, fuses: bool) -> Shapes:
    width = planes * _BASE_WIDTH // _STEM
    leaving = planes * _EXPANSION
    shapes: Shapes = {"conv1.weight": (width * _SCALE, entering, 1, 1), **_batch_norm("bn1", width * _SCALE)}
    for piece in range(_SCALE):
        shapes |= {f"convs.{piece}.weight": (width, width, 3, 3), **_batch_norm(f"bns.{piece}", width)}
    for piece in range(_SCALE - 1 if fuses else 0):
        shapes |= _under(f"fuse_models.{piece}", _fusion(width))
    shapes |= {"conv3.weight": (leaving, width * _SCALE, 1, 1), **_batch_norm("bn3", leaving)}
    if entering != leaving:
        shapes |= {"shortcut.0.weight": (leaving, entering, 1, 1), **_batch_norm("shortcut.1", leaving)}
    return shapes


def _fusion(width: int) -> Shapes:
    inner = width // 4
    return {
        "local_att.0.weight": (inner, 2 * width, 1, 1),
        "local_att.0.bias": (inner,),
        **_batch_norm("local_att.1", inner),
        "local_att.3.weight": (width, inner, 1, 1),
        "local_att.3.bias": (width,),
        **_batch_norm("local_att.4", width),
    }

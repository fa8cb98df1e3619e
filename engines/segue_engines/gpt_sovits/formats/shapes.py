"""Every tensor that a file must hold, by its config.

Separate from the reading because a test holds these functions against the tables of real files. Names are those of the
files; the order is that of the original's state dicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from segue_engines.gpt_sovits.formats.config import CODES, MRTE_CHANNELS, PHONEMES, SovitsConfig, T2SConfig

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

BERT_FEATURES: Final = 1024
SSL_FEATURES: Final = 768
SPEAKER_FEATURES: Final = 20_480
SPECTRUM_BINS: Final = 704
"""The lower part of the 1025 bins of a reference spectrogram: all that the speaker encoder looks at."""

_REFERENCE_WIDTH: Final = 128
_RELATIVE_WINDOW: Final = 4
_COUPLINGS: Final = 4
_WAVENET_LAYERS: Final = 4
_WAVENET_KERNEL: Final = 5
_EDGE_KERNEL: Final = 7

UNUSED: Final = frozenset(f"quantizer.vq.layers.0._codebook.{name}" for name in ("inited", "cluster_size", "embed_avg"))
"""Bookkeeping of the codebook's training: there in real files, never needed, and so never read."""


def is_ignored(name: str) -> bool:
    """Whether a SoVITS tensor may be there but is of no use: bookkeeping, and the encoder that only training has."""
    return name in UNUSED or "enc_q" in name


def t2s_shapes(config: T2SConfig) -> Shapes:
    """Tensors of a `.ckpt`."""
    width = config.hidden_dim
    shapes = {
        "model.bert_proj.weight": (width, BERT_FEATURES),
        "model.bert_proj.bias": (width,),
        "model.ar_text_embedding.word_embeddings.weight": (config.phoneme_vocab_size, width),
        "model.ar_text_position.alpha": (1,),
        "model.ar_audio_embedding.word_embeddings.weight": (config.vocab_size, width),
        "model.ar_audio_position.alpha": (1,),
    }
    for layer in range(config.n_layer):
        shapes |= _under(f"model.h.layers.{layer}", _t2s_layer(width))
    return shapes | {"model.ar_predict_layer.weight": (config.vocab_size, width)}


def sovits_shapes(config: SovitsConfig) -> Shapes:
    """Tensors of a `.pth`, without those that `is_ignored`."""
    gin = config.gin_channels
    shapes = (
        _under("enc_p", _prior_encoder(config))
        | _under("dec", _generator(config))
        | _under("flow", _flow(config))
        | _under("ref_enc", _reference_encoder(gin))
        | {
            "ssl_proj.weight": (SSL_FEATURES, SSL_FEATURES, 2),
            "ssl_proj.bias": (SSL_FEATURES,),
            "quantizer.vq.layers.0._codebook.embed": (CODES, SSL_FEATURES),
        }
    )
    if config.version.is_pro:
        shapes |= _linear("sv_emb", gin, SPEAKER_FEATURES) | _linear("ge_to512", MRTE_CHANNELS, gin)
        shapes["prelu.weight"] = (gin,)
    return shapes


def _under(place: str, shapes: Mapping[str, Shape]) -> Shapes:
    return {f"{place}.{name}": shape for name, shape in shapes.items()}


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _conv(name: str, rows: int, columns: int, kernel: int = 1) -> Shapes:
    return {f"{name}.weight": (rows, columns, kernel), f"{name}.bias": (rows,)}


def _normed_conv(name: str, rows: int, columns: int, kernel: int = 1) -> Shapes:
    """A convolution whose weight is stored as length and direction of each row."""
    return {
        f"{name}.bias": (rows,),
        f"{name}.weight_g": (rows, 1, 1),
        f"{name}.weight_v": (rows, columns, kernel),
    }


def _t2s_layer(width: int) -> Shapes:
    return {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        **_linear("self_attn.out_proj", width, width),
        **_linear("linear1", 4 * width, width),
        **_linear("linear2", width, 4 * width),
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
    }


def _prior_encoder(config: SovitsConfig) -> Shapes:
    hidden = config.hidden_channels
    return {
        **_conv("ssl_proj", hidden, SSL_FEATURES),
        **_under("encoder_ssl", _encoder(config, config.n_layers // 2)),
        **_under("encoder_text", _encoder(config, config.n_layers)),
        "text_embedding.weight": (PHONEMES, hidden),
        **_under("mrte", _cross_attention(hidden)),
        **_under("encoder2", _encoder(config, config.n_layers // 2)),
        **_conv("proj", 2 * config.inter_channels, hidden),
    }


def _encoder(config: SovitsConfig, layers: int) -> Shapes:
    hidden, inner, kernel = config.hidden_channels, config.filter_channels, config.kernel_size
    relative = (1, 2 * _RELATIVE_WINDOW + 1, hidden // config.n_heads)
    attention: Shapes = {"emb_rel_k": relative, "emb_rel_v": relative}
    for name in ("conv_q", "conv_k", "conv_v", "conv_o"):
        attention |= _conv(name, hidden, hidden)
    norm: Shapes = {"gamma": (hidden,), "beta": (hidden,)}
    lists: dict[str, Shapes] = {
        "attn_layers": attention,
        "norm_layers_1": norm,
        "ffn_layers": _conv("conv_1", inner, hidden, kernel) | _conv("conv_2", hidden, inner, kernel),
        "norm_layers_2": norm,
    }
    return {
        name: shape
        for place, shapes in lists.items()
        for layer in range(layers)
        for name, shape in _under(f"{place}.{layer}", shapes).items()
    }


def _cross_attention(hidden: int) -> Shapes:
    shapes: Shapes = {}
    for name in ("conv_q", "conv_k", "conv_v", "conv_o"):
        shapes |= _conv(f"cross_attention.{name}", MRTE_CHANNELS, MRTE_CHANNELS)
    return {
        **shapes,
        **_conv("c_pre", MRTE_CHANNELS, hidden),
        **_conv("text_pre", MRTE_CHANNELS, hidden),
        **_conv("c_post", hidden, MRTE_CHANNELS),
    }


def _generator(config: SovitsConfig) -> Shapes:
    width = config.upsample_initial_channel
    shapes = _conv("conv_pre", width, config.inter_channels, _EDGE_KERNEL)
    widths = [width >> stage for stage in range(len(config.upsample_rates) + 1)]
    for stage, kernel in enumerate(config.upsample_kernel_sizes):
        shapes |= {
            f"ups.{stage}.bias": (widths[stage + 1],),
            f"ups.{stage}.weight_g": (widths[stage], 1, 1),
            f"ups.{stage}.weight_v": (widths[stage], widths[stage + 1], kernel),
        }
    for block, (channels, kernel, steps) in enumerate(_residual_blocks(config, widths[1:])):
        for row in ("convs1", "convs2"):
            for step in range(steps):
                shapes |= _normed_conv(f"resblocks.{block}.{row}.{step}", channels, channels, kernel)
    shapes["conv_post.weight"] = (1, widths[-1], _EDGE_KERNEL)
    return shapes | _conv("cond", width, config.gin_channels)


def _residual_blocks(config: SovitsConfig, widths: list[int]) -> Iterator[tuple[int, int, int]]:
    """Channels, kernel and number of dilations of each block, stage by stage."""
    for channels in widths:
        for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
            yield channels, kernel, len(dilations)


def _flow(config: SovitsConfig) -> Shapes:
    """Four couplings at even places; the odd ones reverse the channels and hold nothing."""
    hidden, half = config.hidden_channels, config.inter_channels // 2
    shapes: Shapes = {}
    for place in range(0, 2 * _COUPLINGS, 2):
        network: Shapes = {}
        for layer in range(_WAVENET_LAYERS):
            network |= _normed_conv(f"in_layers.{layer}", 2 * hidden, hidden, _WAVENET_KERNEL)
        for layer in range(_WAVENET_LAYERS):
            outputs = hidden if layer == _WAVENET_LAYERS - 1 else 2 * hidden
            network |= _normed_conv(f"res_skip_layers.{layer}", outputs, hidden)
        network |= _normed_conv("cond_layer", 2 * hidden * _WAVENET_LAYERS, config.gin_channels)
        shapes |= {
            **_conv(f"flows.{place}.pre", hidden, half),
            **_under(f"flows.{place}.enc", network),
            **_conv(f"flows.{place}.post", half, hidden),
        }
    return shapes


def _reference_encoder(gin: int) -> Shapes:
    width = _REFERENCE_WIDTH
    shapes = _linear("spectral.0.fc", width, SPECTRUM_BINS) | _linear("spectral.3.fc", width, width)
    for layer in range(2):
        shapes |= _conv(f"temporal.{layer}.conv1.conv", 2 * width, width, 5)
    for name in ("w_qs", "w_ks", "w_vs", "fc"):
        shapes |= _linear(f"slf_attn.{name}", width, width)
    return shapes | _linear("fc.fc", gin, width)

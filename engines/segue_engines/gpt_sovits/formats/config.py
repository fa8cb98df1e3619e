"""The configs inside the two files, read with bounds.

Separate from the checkpoints because the shapes of all tensors are derived from these numbers: each is held to what the
networks can be built with before anything is computed from it. Names are those of the original; what training alone
needs (learning rates, dropout, …) is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from segue.errors import WeightsError
from segue_engines.gpt_sovits.formats.versions import ModelVersion, UnsupportedVersion

PHONEMES: Final = 732
"""Symbols of v2 and its successors."""

V1_PHONEMES: Final = 512
CODES: Final = 1024
"""Entries of the codebook; the T2S vocabulary has one more, the end."""

SAMPLE_RATE_HZ: Final = 32_000
HOP_SAMPLES: Final = 640
WINDOW_SAMPLES: Final = 2048
MAX_SEC: Final = 54
"""What all published T2S configs say."""

_SOUND: Final = {
    "sampling_rate": SAMPLE_RATE_HZ,
    "hop_length": HOP_SAMPLES,
    "filter_length": WINDOW_SAMPLES,
    "win_length": WINDOW_SAMPLES,
}

MRTE_CHANNELS: Final = 512
"""Inside the cross attention between phonemes and tokens. v2 adds the speaker vector there, so it needs this width."""

HIDDEN_CHANNELS: Final = 192
"""Fixed by the published networks: the cross attention is built for this width whatever the config says."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A dict of a config, read with bounds; every complaint names the file and the key."""

    file: str
    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, data: Any, file: str, place: str) -> Self:
        """Take a value that must be a dict with text keys."""
        if not isinstance(data, Mapping):
            raise WeightsError(f"{file}: {place} is {_shown(data)}; expected a dict, as GPT-SoVITS' trainer writes it")
        return cls(file, place, data)

    def section(self, key: str) -> Settings:
        """Go one level down."""
        return Settings.of(self.values.get(key), self.file, f"{self.place}.{key}")

    def whole(self, key: str, *, low: int, high: int) -> int:
        """Take an integer between `low` and `high`."""
        return self._held(self.values.get(key), key, low=low, high=high)

    def wholes(self, key: str, *, low: int, high: int, longest: int) -> tuple[int, ...]:
        """Take a list of 1 to `longest` integers between `low` and `high`."""
        return self._row(self.values.get(key), key, low=low, high=high, longest=longest)

    def rows(self, key: str, *, low: int, high: int, longest: int) -> tuple[tuple[int, ...], ...]:
        """Take a list of such lists."""
        values = self._listed(self.values.get(key), key, longest=longest)
        return tuple(
            self._row(row, f"{key}[{place}]", low=low, high=high, longest=longest) for place, row in enumerate(values)
        )

    def has(self, key: str) -> bool:
        """Whether the key is there at all."""
        return key in self.values

    def equal(self, key: str, expected: str | int | bool) -> None:
        """Insist on one value."""
        found = self.values.get(key)
        if type(found) is not type(expected) or found != expected:
            raise self.refusal(key, f"expected {expected!r}")

    def refusal(self, key: str, expectation: str) -> WeightsError:
        """An error about one key."""
        return WeightsError(f"{self.file}: {self.place}.{key} is {_shown(self.values.get(key))}; {expectation}")

    def _row(self, values: Any, key: str, *, low: int, high: int, longest: int) -> tuple[int, ...]:
        listed = self._listed(values, key, longest=longest)
        return tuple(self._held(each, f"{key}[{place}]", low=low, high=high) for place, each in enumerate(listed))

    def _listed(self, values: Any, key: str, *, longest: int) -> list[Any] | tuple[Any, ...]:
        if not isinstance(values, list | tuple) or not 1 <= len(values) <= longest:
            raise WeightsError(
                f"{self.file}: {self.place}.{key} is {_shown(values)}; expected a list of 1 to {longest} numbers"
            )
        return values

    def _held(self, value: Any, key: str, *, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WeightsError(
                f"{self.file}: {self.place}.{key} is {_shown(value)}; expected a whole number from {low} to {high}"
            )
        return value


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class T2SConfig:
    """Sizes of a T2S network.

    Attributes
    ----------
    hidden_dim
        Width of the rows; the feed-forward part is four times as wide (`linear_units` of the file is not read).
    head, n_layer
        Attention heads and layers.
    phoneme_vocab_size, vocab_size, eos
        732 phonemes; 1024 codes and, as the last id, the end.
    max_sec
        Longest clip of the training: generation stops after 50 tokens for each second of it.
    """

    hidden_dim: int
    head: int
    n_layer: int
    phoneme_vocab_size: int = PHONEMES
    vocab_size: int = CODES + 1
    eos: int = CODES
    max_sec: int = MAX_SEC

    @classmethod
    def read(cls, config: Any, file: str) -> Self:
        """Read `config` of a `.ckpt`.

        Raises
        ------
        UnsupportedVersion
            A v1 file.
        WeightsError
            A number is missing or out of range.
        """
        whole = Settings.of(config, file, "config")
        model = whole.section("model")
        if model.values.get("phoneme_vocab_size") == V1_PHONEMES:
            raise UnsupportedVersion(
                f"{file}: a GPT-SoVITS v1 file ({V1_PHONEMES} phonemes); served are voices with the {PHONEMES} "
                f"phonemes of v2 and later: train the same data as v2Pro or v2ProPlus"
            )
        model.equal("phoneme_vocab_size", PHONEMES)
        model.equal("vocab_size", CODES + 1)
        model.equal("EOS", CODES)
        hidden = model.whole("hidden_dim", low=2, high=4096)
        head = model.whole("head", low=1, high=128)
        if hidden % head or hidden % 2:
            raise model.refusal("hidden_dim", f"expected an even number that {head} heads divide")
        model.equal("embedding_dim", hidden)
        return cls(
            hidden_dim=hidden,
            head=head,
            n_layer=model.whole("n_layer", low=1, high=96),
            max_sec=_longest_clip(whole),
        )

    def model_section(self) -> dict[str, Any]:
        """The `model` section again, in the file's names, as plain JSON for the header of an arena."""
        return {
            "embedding_dim": self.hidden_dim,
            "hidden_dim": self.hidden_dim,
            "head": self.head,
            "n_layer": self.n_layer,
            "phoneme_vocab_size": self.phoneme_vocab_size,
            "vocab_size": self.vocab_size,
            "EOS": self.eos,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SovitsConfig:
    """Sizes of a SoVITS network, in the names of the original.

    Attributes
    ----------
    gin_channels
        Width of the speaker vector `ge`.
    upsample_rates
        Their product is the hop, 640 samples for each 20 ms frame.
    """

    version: ModelVersion
    inter_channels: int
    filter_channels: int
    n_heads: int
    n_layers: int
    kernel_size: int
    gin_channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    hidden_channels: int = HIDDEN_CHANNELS
    sampling_rate: int = SAMPLE_RATE_HZ
    hop_length: int = HOP_SAMPLES
    filter_length: int = WINDOW_SAMPLES
    win_length: int = WINDOW_SAMPLES

    @classmethod
    def read(cls, config: Any, version: ModelVersion, file: str) -> Self:
        """Read `config` of a `.pth`, attributes of its objects as dicts.

        Raises
        ------
        WeightsError
            A number is missing or out of range, or numbers contradict each other.
        """
        whole = Settings.of(config, file, "config")
        _check_sound(whole)
        model = whole.section("model")
        model.equal("hidden_channels", HIDDEN_CHANNELS)
        model.equal("resblock", "1")
        model.equal("semantic_frame_rate", "25hz")
        gin = model.whole("gin_channels", low=1, high=8192)
        if not version.is_pro and gin != MRTE_CHANNELS:
            raise model.refusal("gin_channels", f"expected {MRTE_CHANNELS} in a {version} voice")
        inter = model.whole("inter_channels", low=2, high=4096)
        if inter % 2:
            raise model.refusal("inter_channels", "expected an even number: the flow takes halves")
        heads = model.whole("n_heads", low=1, high=HIDDEN_CHANNELS)
        if HIDDEN_CHANNELS % heads:
            raise model.refusal("n_heads", f"expected a divisor of {HIDDEN_CHANNELS}")
        return cls(
            version=version,
            inter_channels=inter,
            filter_channels=model.whole("filter_channels", low=1, high=16_384),
            n_heads=heads,
            n_layers=model.whole("n_layers", low=2, high=64),
            kernel_size=_odd(model, "kernel_size"),
            gin_channels=gin,
            **_generator(model),
        )

    def model_section(self) -> dict[str, Any]:
        """The `model` section again, in the file's names, as plain JSON for the header of an arena."""
        return {
            "version": str(self.version),
            "hidden_channels": self.hidden_channels,
            "inter_channels": self.inter_channels,
            "filter_channels": self.filter_channels,
            "n_heads": self.n_heads,
            "n_layers": self.n_layers,
            "kernel_size": self.kernel_size,
            "gin_channels": self.gin_channels,
            "upsample_rates": list(self.upsample_rates),
            "upsample_kernel_sizes": list(self.upsample_kernel_sizes),
            "upsample_initial_channel": self.upsample_initial_channel,
            "resblock_kernel_sizes": list(self.resblock_kernel_sizes),
            "resblock_dilation_sizes": [list(row) for row in self.resblock_dilation_sizes],
        }


def _longest_clip(whole: Settings) -> int:
    data = whole.section("data") if whole.has("data") else None
    if data is None or not data.has("max_sec"):
        return MAX_SEC
    return data.whole("max_sec", low=1, high=3600)


def _check_sound(whole: Settings) -> None:
    """What the recordings of the training were like; a config that does not say it is taken at its word."""
    if not whole.has("data"):
        return
    data = whole.section("data")
    for key, expected in _SOUND.items():
        if data.has(key):
            data.equal(key, expected)


def _odd(model: Settings, key: str) -> int:
    value = model.whole(key, low=1, high=31)
    if value % 2 == 0:
        raise model.refusal(key, "expected an odd number")
    return value


def _generator(model: Settings) -> dict[str, Any]:
    """The part that makes samples of frames."""
    rates = model.wholes("upsample_rates", low=1, high=64, longest=8)
    kernels = model.wholes("upsample_kernel_sizes", low=1, high=128, longest=8)
    initial = model.whole("upsample_initial_channel", low=1, high=8192)
    if math.prod(rates) != HOP_SAMPLES:
        raise model.refusal("upsample_rates", f"expected a product of {HOP_SAMPLES}, not {math.prod(rates)}")
    excess = [kernel - rate for kernel, rate in zip(kernels, rates, strict=False)]
    if len(kernels) != len(rates) or any(each < 0 or each % 2 for each in excess):
        raise model.refusal("upsample_kernel_sizes", f"expected, for rates {rates}, kernels that exceed them evenly")
    if initial % (1 << len(rates)):
        raise model.refusal("upsample_initial_channel", f"expected a multiple of {1 << len(rates)}: each stage halves")
    sizes = model.wholes("resblock_kernel_sizes", low=1, high=31, longest=8)
    if not all(size % 2 for size in sizes):
        raise model.refusal("resblock_kernel_sizes", "expected odd numbers")
    dilations = model.rows("resblock_dilation_sizes", low=1, high=64, longest=8)
    if len(dilations) != len(sizes) or any(len(row) != 3 for row in dilations):
        raise model.refusal("resblock_dilation_sizes", f"expected {len(sizes)} lists of three")
    return {
        "upsample_rates": rates,
        "upsample_kernel_sizes": kernels,
        "upsample_initial_channel": initial,
        "resblock_kernel_sizes": sizes,
        "resblock_dilation_sizes": dilations,
    }

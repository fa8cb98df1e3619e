"""What a VoiceModel and a request may ask of this engine, read with bounds.

Separate from the engine because the same settings come from three places: the voice's `spec.options`, then a request's
options over them, then the request's own speed and seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from segue.engine import SynthesisRequest
from segue.errors import InvalidVoiceModel, OptionRejected
from segue_engines.gpt_sovits.row import INTERVAL_S, Delivery
from segue_engines.gpt_sovits.sampling import Sampling
from segue_engines.gpt_sovits.sovits.packing import DecoderDtype
from segue_engines.gpt_sovits.t2s.linear import multiplies_bfloat16
from segue_engines.gpt_sovits.t2s.packing import T2SDtype
from segue_engines.gpt_sovits.text import Cut

_SLOWEST, _FASTEST = 0.25, 4.0
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "top_k": (1, 1025),
    "top_p": (0.0, 1.0),
    "temperature": (0.0, 5.0),
    "repetition_penalty": (0.1, 10.0),
    "speed": (_SLOWEST, _FASTEST),
    "fragment_interval": (0.0, 3.0),  # the server takes four seconds of silence for a voice that failed
}
_AUTO: Final = "auto"
_WHOLE: Final = frozenset({"top_k"})
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "decode": ("chunks", "whole"),
    "text_split_method": (Cut.MARKS, *(cut for cut in Cut if cut is not Cut.MARKS)),
}
"""The first where nothing is said."""
_VOICE_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "dtype": (*T2SDtype, _AUTO),
    "decoder_dtype": tuple(DecoderDtype),
}
_VOICE_ONLY: Final = (*_VOICE_WORDS, "language")


class _Mistake(Exception):
    """An option that is none, or has a value that means nothing."""

    def __init__(self, option: str, message: str) -> None:
        self.option = option
        super().__init__(message)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse `spec.options` that this engine does not have, or cannot follow.

    Raises
    ------
    InvalidVoiceModel
        The message names the option and what is expected.
    """
    try:
        _check(options, known={*_RANGES, *_WORDS, *_VOICE_ONLY})
        for name in _VOICE_WORDS:
            _choice(options, name)
        if not isinstance(options.get("language", ""), str):
            raise _Mistake("language", f"language is {options['language']!r}; expected text, such as 'zh'")
    except _Mistake as mistake:
        raise InvalidVoiceModel(str(mistake), field=f"spec.options.{mistake.option}") from None


def dtype_of(options: Mapping[str, Any]) -> T2SDtype:
    """How the T2S matrices are to be served; `auto` is decided by this machine's processor."""
    chosen = _choice(options, "dtype")
    if chosen == _AUTO:
        return T2SDtype.BF16 if multiplies_bfloat16() else T2SDtype.FP32
    return T2SDtype(chosen)


def decoder_dtype_of(options: Mapping[str, Any]) -> DecoderDtype:
    """What the decoder's generator is to compute in."""
    return DecoderDtype(_choice(options, "decoder_dtype"))


def cut_of(voice: Mapping[str, Any], request: SynthesisRequest) -> str:
    """Where the text of a request is to be cut. Its options were checked by `delivery_of`."""
    return _choice({**voice, **request.options}, "text_split_method")


def delivery_of(voice: Mapping[str, Any], request: SynthesisRequest) -> Delivery:
    """How a request is to be spoken: its own options over those of the voice, their speeds multiplied.

    Parameters
    ----------
    voice
        `spec.options`, checked when the voice was built.

    Raises
    ------
    OptionRejected
        An option of the request that this engine does not have, or out of range.
    """
    try:
        _check(request.options, known={*_RANGES, *_WORDS})
    except _Mistake as mistake:
        raise OptionRejected(str(mistake), option=mistake.option) from None
    options = {**voice, **request.options}
    defaults = Sampling()
    return Delivery(
        seed=request.seed,
        speed=min(max(_number(options, "speed", 1.0) * request.speed, _SLOWEST), _FASTEST),
        sampling=Sampling(
            top_k=int(_number(options, "top_k", defaults.top_k)),
            top_p=_number(options, "top_p", defaults.top_p),
            temperature=_number(options, "temperature", defaults.temperature),
            repetition_penalty=_number(options, "repetition_penalty", defaults.repetition_penalty),
        ),
        whole=_choice(options, "decode") == "whole",
        interval_s=_number(options, "fragment_interval", INTERVAL_S),
    )


def _check(options: Mapping[str, Any], *, known: set[str]) -> None:
    if unknown := sorted(set(options) - known):
        raise _Mistake(unknown[0], f"the gpt-sovits engine has no option {unknown[0]!r}; it has {sorted(known)}")
    for name, (low, _) in _RANGES.items():
        _number(options, name, low)
    for name in _WORDS:
        _choice(options, name)


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    low, high = _RANGES[name]
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _Mistake(name, f"{name} is {value!r}; expected a number from {low:g} to {high:g}")
    if name in _WHOLE and value != int(value):
        raise _Mistake(name, f"{name} is {value!r}; expected a whole number")
    return float(value)


def _choice(options: Mapping[str, Any], name: str) -> str:
    """One of several words, the first where nothing is said."""
    choices = _WORDS.get(name) or _VOICE_WORDS[name]
    value = options.get(name, choices[0])
    if value not in choices:
        raise _Mistake(name, f"{name} is {value!r}; expected one of {', '.join(map(repr, map(str, choices)))}")
    return str(value)

"""Parameters of `/tts` as api_v2 has them: names, types and checks in its order and its words.

Separate because this is somebody else's contract. A parameter that is not sent is None here, because then the voice's
own options decide, whose defaults are those of the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import QueryParams
from typing_extensions import override

from segue_server.api.errors import ApiError

LANGUAGES: Final = frozenset(
    {"auto", "auto_yue", "en", "zh", "ja", "yue", "ko", "all_zh", "all_ja", "all_yue", "all_ko"}
)
"""Of the original from version v2 on."""
_CUTS: Final = frozenset({"cut0", "cut1", "cut2", "cut3", "cut4", "cut5"})
_SEVERAL: Final = "aux_ref_audio_paths"


class CompatError(ApiError):
    """An error in the shape of the original: a message, and where there is more to say, that as `Exception`."""

    def __init__(
        self, status: int, message: str, *, exception: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(status, message, extra=extra)
        self.exception = exception

    @property
    @override
    def content(self) -> Mapping[str, Any]:
        """`{"message": …, "Exception": …}`."""
        exception = {} if self.exception is None else {"Exception": self.exception}
        return {"message": self.message, **exception, **self.extra}


class MediaType(StrEnum):
    """`media_type`."""

    WAV = "wav"
    RAW = "raw"
    OGG = "ogg"
    AAC = "aac"


class TtsRequest(BaseModel):
    """What `/tts` takes. Values may be written as text, as in a query; unknown names are ignored, as there."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = None
    text_lang: str | None = None
    ref_audio_path: str | None = None
    aux_ref_audio_paths: list[str] | None = None
    prompt_text: str | None = None
    prompt_lang: str | None = None
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    text_split_method: str | None = None
    speed_factor: float | None = None
    fragment_interval: float | None = None
    seed: int | None = None
    media_type: str | None = None
    streaming_mode: bool | int | None = None
    batch_size: int | None = None
    batch_threshold: float | None = None
    split_bucket: bool | None = None
    parallel_infer: bool | None = None
    sample_steps: int | None = None
    super_sampling: bool | None = None
    overlap_length: int | None = None
    min_chunk_length: int | None = None

    @property
    def mode(self) -> int:
        """`streaming_mode` as a number, 0 to 3."""
        return int(self.streaming_mode or 0)

    @property
    def media(self) -> MediaType:
        """`media_type`."""
        return MediaType(self.media_type or MediaType.WAV)


def from_query(query: str) -> TtsRequest:
    """Read the parameters of a GET.

    Raises
    ------
    CompatError
        400.
    """
    params = QueryParams(query)
    values: dict[str, Any] = dict(params)
    if _SEVERAL in params:
        values[_SEVERAL] = params.getlist(_SEVERAL)
    try:
        return _checked(TtsRequest.model_validate(values))
    except ValidationError as error:
        raise _invalid(error) from error


def from_json(body: bytes) -> TtsRequest:
    """Read the body of a POST.

    Raises
    ------
    CompatError
        400.
    """
    try:
        return _checked(TtsRequest.model_validate_json(body))
    except ValidationError as error:
        raise _invalid(error) from error


def _checked(request: TtsRequest) -> TtsRequest:
    """Check as the original does, in its order. Its `ref_audio_path` is not asked for: voices have one of their own."""
    if not request.text:
        raise CompatError(400, "text is required")
    _check_language("text_lang", request.text_lang)
    if request.ref_audio_path:
        _check_language("prompt_lang", request.prompt_lang)
    if request.media_type is not None and request.media_type not in frozenset(MediaType):
        raise CompatError(400, f"media_type: {request.media_type} is not supported")
    if request.text_split_method is not None and request.text_split_method not in _CUTS:
        raise CompatError(400, f"text_split_method:{request.text_split_method} is not supported")
    if request.mode not in range(4):
        raise CompatError(400, "the value of streaming_mode must be 0, 1, 2, 3(int) or true/false(bool)")
    return request


def _check_language(name: str, language: str | None) -> None:
    if not language:
        raise CompatError(400, f"{name} is required")
    if language.lower() not in LANGUAGES:
        raise CompatError(400, f"{name}: {language} is not supported in version v2")


def _invalid(error: ValidationError) -> CompatError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "the body"
    found = "" if first["type"] == "json_invalid" else f" (found {str(first['input'])[:80]!r})"
    return CompatError(400, f"{name}: {first['msg']}{found}")

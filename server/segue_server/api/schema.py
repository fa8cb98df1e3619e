"""The shapes of the API's bodies: what is accepted, and what OpenAPI says about it.

Separate from the endpoints because this is a contract: exact, checked by schemathesis, and the one place where a
request's JSON becomes typed values.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from segue.memory.messages import VoiceName
from segue_server.api.errors import ApiError
from segue_server.audio.formats import SAMPLE_RATES, AudioFormat, OutputSpec, aac_available, rates_of
from segue_server.synthesis.recordings import ReferenceAsk
from segue_server.synthesis.spec import SpeechSpec, normalised

MAX_SEED = 2**63 - 1
MAX_REFERENCES = 8
T = TypeVar("T")


class StreamFormat(StrEnum):
    """`stream_format`."""

    AUDIO = "audio"
    SSE = "sse"


class CacheUse(StrEnum):
    """`cache`: `no-store` neither asks the result cache nor leaves anything in it."""

    DEFAULT = "default"
    NO_STORE = "no-store"


def _whole(value: Any) -> Any:
    """JSON knows no integers: 24000.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The bounds stand inside, else they are lost on the way into the JSON schema.
Seed: TypeAlias = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_whole)]
SampleRate: TypeAlias = Annotated[int, BeforeValidator(_whole)]


class VoiceRef(BaseModel):
    """A voice by its id."""

    model_config = ConfigDict(strict=True)

    id: str = Field(min_length=1, max_length=253)


LanguageName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z]+([_-][A-Za-z0-9]+)*$", max_length=35)]


class ReferenceBody(BaseModel):
    """A recording on the server that this request is to be spoken like: `path` or `uri`, one of them."""

    model_config = ConfigDict(strict=True, extra="forbid")

    path: str | None = Field(
        default=None, min_length=1, max_length=4096, description="Beneath a folder that the server allows."
    )
    uri: str | None = Field(default=None, min_length=1, max_length=4096, description="file: URI of the same.")
    text: str | None = Field(
        default=None,
        max_length=2048,
        description="What is said in it. Speech continues it then; without, it lends its timbre.",
    )
    language: LanguageName | None = Field(default=None, description="Of the text; found out without it.")


class SpeechOptions(BaseModel):
    """What the engine of the voice has beside OpenAI's fields; names that are not listed are the engine's own."""

    model_config = ConfigDict(strict=True, extra="allow")

    speed: float | None = Field(default=None, ge=0.25, le=4.0, description="As the field of the body.")
    seed: Seed | None = Field(default=None, description="As the field of the body.")
    language: LanguageName | None = Field(
        default=None, description="As the field of the body, or a name that only the engine knows (auto, all_zh)."
    )
    reference: ReferenceBody | None = Field(default=None, description="Spoken like this recording.")
    references: list[ReferenceBody] | None = Field(
        default=None, max_length=MAX_REFERENCES, description="Several: the first is continued, all lend their timbre."
    )

    @property
    def of_engine(self) -> dict[str, Any]:
        """The engine's own."""
        return dict(self.__pydantic_extra__ or {})


class SpeechRequest(BaseModel):
    """Body of `POST /v1/audio/speech`. Fields that are not listed are ignored, as OpenAI's clients may send more."""

    model_config = ConfigDict(strict=True, title="SpeechRequest")

    model: str | None = Field(default=None, max_length=256, description="Accepted for compatibility; any value.")
    input: str = Field(min_length=1, description="The text to speak.")
    voice: Annotated[str, Field(min_length=1, max_length=253)] | VoiceRef = Field(
        description="Name of a voice of your namespace, or an alias of one."
    )
    instructions: str | None = Field(
        default=None, max_length=4096, description="Accepted for compatibility and ignored: voices speak as trained."
    )
    response_format: AudioFormat | None = Field(
        default=None,
        description="Default mp3. pcm: 24 kHz signed 16-bit little-endian mono. aac needs an extra of the server.",
    )
    speed: float | None = Field(default=None, ge=0.25, le=4.0, description="Default 1.")
    stream_format: StreamFormat | None = Field(
        default=None,
        description="Answers are chunked and sent as they are made. audio, said explicitly: in small pieces, for the "
        "earliest first sound. sse: the same as server-sent events.",
    )
    seed: Seed | None = Field(default=None, description="Without one, the same text sounds the same each time.")
    sample_rate: SampleRate | None = Field(
        default=None, json_schema_extra={"enum": [*SAMPLE_RATES, None]}, description="Hz. opus: 8, 12, 16, 24, 48 kHz."
    )
    language: str | None = Field(default=None, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)
    user: str | None = Field(default=None, max_length=512, description="Keeps a listener on one version in a canary.")
    cache: CacheUse | None = Field(default=None, description="Default: use the result cache.")
    options: SpeechOptions | None = Field(
        default=None,
        description="Parameters of the voice's engine, such as top_k of gpt-sovits; unknown ones are refused by it.",
    )


def request_model(max_input_chars: int) -> type[SpeechRequest]:
    """`SpeechRequest` with the bound that is configured."""
    return create_model(
        "SpeechRequest",
        __base__=SpeechRequest,
        __doc__=SpeechRequest.__doc__,
        input=(str, Field(min_length=1, max_length=max_input_chars, description="The text to speak.")),
    )


class ErrorDetail(BaseModel):
    """What went wrong, and what to do."""

    message: str
    type: str
    param: str | None = Field(description="The field of the body that is meant.")
    code: str | None
    span: list[int] | None = Field(default=None, description="text_rejected: first character, and the one after.")


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail


class VoiceItem(BaseModel):
    """One voice."""

    id: str
    name: str


class VoiceList(BaseModel):
    """`GET /v1/audio/voices`."""

    voices: list[VoiceItem]


class ModelItem(BaseModel):
    """One model."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: str = "list"
    data: list[ModelItem]


def parse_speech(body: bytes, model: type[SpeechRequest]) -> SpeechRequest:
    """Read a body.

    Raises
    ------
    ApiError
        400, naming the field.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error


def to_spec(request: SpeechRequest, *, namespace: str, voice: str, pin: str | None, use_cache: bool) -> SpeechSpec:
    """What the request asks for.

    Parameters
    ----------
    voice
        Its name, aliases resolved.

    Raises
    ------
    ApiError
        400: a combination that cannot be served.
    """
    text = normalised(request.input)
    if not text:
        raise ApiError(400, "input holds nothing but white space", param="input", code="empty_input")
    audio_format = request.response_format or AudioFormat.MP3
    _check_output(audio_format, request.sample_rate)
    streamed = request.stream_format is StreamFormat.SSE
    options = request.options or SpeechOptions()
    speed = _once("speed", request.speed, options.speed)
    return SpeechSpec(
        voice=VoiceName(namespace, voice),
        text=text,
        language=_once("language", request.language, options.language) or "",
        speed=1.0 if speed is None else speed,
        seed=_once("seed", request.seed, options.seed),
        # A FLAC file without its length is refused by libsndfile, so only those who ask for a stream get one.
        output=OutputSpec(
            format=audio_format,
            sample_rate=request.sample_rate,
            whole=audio_format is AudioFormat.FLAC and not streamed,
        ),
        streaming=request.stream_format is not None,
        pin=pin,
        use_cache=use_cache and request.cache is not CacheUse.NO_STORE,
        options=options.of_engine,
    )


def references_of(request: SpeechRequest) -> tuple[ReferenceAsk, ...]:
    """The recordings that a request names.

    Raises
    ------
    ApiError
        400: one without a place, or with two.
    """
    options = request.options or SpeechOptions()
    named = [("options.reference", options.reference)] if options.reference is not None else []
    named += [(f"options.references.{place}", each) for place, each in enumerate(options.references or ())]
    return tuple(_ask(field, reference) for field, reference in named)


def _ask(field: str, reference: ReferenceBody) -> ReferenceAsk:
    places = [place for place in (reference.path, reference.uri) if place is not None]
    if len(places) != 1:
        raise ApiError(400, f"{field}: name its path or its uri, one of them", param=field, code="invalid_value")
    return ReferenceAsk(
        place=places[0], text=(reference.text or "").strip(), language=reference.language or "", field=field
    )


def _once(field: str, plain: T | None, option: T | None) -> T | None:
    """A value that may stand in two places."""
    if plain is not None and option is not None and plain != option:
        raise ApiError(
            400,
            f"options.{field} is {option!r}, but {field} is {plain!r}: say it once",
            param=f"options.{field}",
            code="invalid_value",
        )
    return plain if plain is not None else option


_NESTED = frozenset({"options"})


def _check_output(audio_format: AudioFormat, sample_rate: int | None) -> None:
    if sample_rate is not None and sample_rate not in rates_of(audio_format):
        allowed = ", ".join(map(str, rates_of(audio_format)))
        raise ApiError(
            400,
            f"sample_rate {sample_rate} is not possible for {audio_format.value}: use one of {allowed}",
            param="sample_rate",
            code="invalid_value",
        )
    if audio_format is AudioFormat.AAC and not aac_available():
        raise ApiError(
            400,
            'response_format "aac" needs PyAV on the server: pip install "segue[aac]"',
            param="response_format",
            code="codec_missing",
        )


def _invalid(error: ValidationError) -> ApiError:
    """OpenAI answers 400, naming one field."""
    first = error.errors(include_url=False)[0]
    # Branches of a union show up in the location: only the field's own name means anything to a caller.
    place = [str(part) for part in first["loc"]]
    field = ".".join(place if place[0] in _NESTED else place[:1]) if place else None
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['msg']}", code="invalid_json")
    if first["type"] == "string_too_long" and field == "input":
        limit = first.get("ctx", {}).get("max_length")
        found = len(str(first["input"]))
        message = f"input has {found} characters; at most {limit} are taken: split the text"
        return ApiError(400, message, param="input", code="string_above_max_length")
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    shown = "" if first["type"] == "missing" else f" (found {_shown(first['input'])})"
    return ApiError(400, f"{field or 'the body'}: {first['msg']}{shown}", param=field, code=code)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"

"""`/compat/{voice}/tts`: what a request of a GPT-SoVITS client means here."""

from __future__ import annotations

import secrets
from typing import Any, Final

from segue.errors import SegueError
from segue.memory.messages import VoiceName
from segue_server.api.callers import Callers
from segue_server.api.compat.parameters import CompatError, MediaType, TtsRequest, from_json, from_query
from segue_server.api.dialect import Asked
from segue_server.api.errors import ApiError, explain
from segue_server.api.exchange import Exchange, Header
from segue_server.api.keys import KeyRing
from segue_server.api.schema import MAX_REFERENCES, MAX_SEED
from segue_server.audio.formats import AudioFormat, OutputSpec, aac_available
from segue_server.config import ServerConfig
from segue_server.revisions.roster import Roster
from segue_server.synthesis.failures import SpeechFailed
from segue_server.synthesis.recordings import ReferenceAsk
from segue_server.synthesis.spec import SpeechSpec, normalised_lines

_SLOWEST, _FASTEST = 0.25, 4.0
_RAW_HZ: Final = 32_000
"""Raw samples carry no rate: the clients take them for the original's."""
_FORMATS: Final = {
    MediaType.WAV: AudioFormat.WAV,
    MediaType.RAW: AudioFormat.PCM,
    MediaType.OGG: AudioFormat.VORBIS,
    MediaType.AAC: AudioFormat.AAC,
}
_PASSED_ON: Final = ("top_k", "top_p", "temperature", "repetition_penalty", "text_split_method")
_DECODES: Final = {0: "whole", 1: "whole", 2: "chunks", 3: "chunks"}


class CompatDialect:
    """Requests and errors as api_v2 has them; Segue's headers as everywhere."""

    def __init__(self, *, keys: KeyRing, roster: Roster, config: ServerConfig) -> None:
        """For callers whom `keys` knows."""
        self._callers = Callers(keys=keys, roster=roster, config=config)
        self._roster = roster
        self._config = config

    async def understand(self, exchange: Exchange) -> Asked:
        """Read key, headers and parameters."""
        caller = self._callers.who(exchange)
        request = await self._request(exchange)
        asked = str(exchange.scope["path_params"]["voice"])
        voice = VoiceName(caller.namespace, self._callers.voice_meant(asked, caller))
        references, reference_headers = self._references(request, namespace=caller.namespace)
        return Asked(
            spec=self._spec(request, voice=voice, pin=exchange.pin, use_cache=exchange.use_cache),
            listener=self._callers.listener(exchange, caller),
            text=request.text or "",
            references=references,
            media_type=f"audio/{request.media}",
            collected=request.mode == 0,
            headers=reference_headers,
        )

    def refusal(self, error: SegueError, *, text: str | None) -> ApiError:
        """`{"message": …, "Exception": …}`: 400 for whatever the original could not speak either.

        What it does not know (keys, other voices, a full queue, a cold voice) has the status codes of the other API.
        """
        if isinstance(error, CompatError):
            return error
        told = explain(error, text=text, normalise=normalised_lines)
        failed = CompatError(
            400 if isinstance(error, SpeechFailed) else told.status,
            "tts failed",
            exception=told.message,
            extra=told.extra,
        )
        failed.retry_after_s = told.retry_after_s
        return failed

    async def _request(self, exchange: Exchange) -> TtsRequest:
        if exchange.scope["method"] == "GET":
            request = from_query(exchange.scope["query_string"].decode("latin-1"))
        else:
            request = from_json(await self._callers.body(exchange))
        found, limit = len(request.text or ""), self._config.max_input_chars
        if found > limit:
            raise CompatError(400, f"text has {found} characters; at most {limit} are taken: split the text")
        return request

    def _spec(self, request: TtsRequest, *, voice: VoiceName, pin: str | None, use_cache: bool) -> SpeechSpec:
        text = normalised_lines(request.text or "")
        if not text:
            raise CompatError(400, "text is required")
        speed = 1.0 if request.speed_factor is None else request.speed_factor
        if not _SLOWEST <= speed <= _FASTEST:
            raise CompatError(400, f"speed_factor: {speed:g} is not supported; use {_SLOWEST:g} to {_FASTEST:g}")
        seed = -1 if request.seed is None else request.seed
        if not -1 <= seed <= MAX_SEED:
            raise CompatError(400, f"seed: {seed} is not supported; use -1 (random) or 0 to {MAX_SEED}")
        return SpeechSpec(
            voice=voice,
            text=text,
            language=(request.text_lang or "").lower(),
            speed=speed,
            seed=secrets.randbits(63) if seed == -1 else seed,
            output=_output(request),
            streaming=request.mode != 0,
            pin=pin,
            use_cache=use_cache and seed != -1,
            options=self._options(request, voice),
        )

    def _options(self, request: TtsRequest, voice: VoiceName) -> dict[str, Any]:
        sent = {name: value for name in _PASSED_ON if (value := getattr(request, name)) is not None}
        if request.fragment_interval is not None:
            sent["fragment_interval"] = max(request.fragment_interval, 0.0)
        known = self._roster.voice(voice)
        if known is not None and known.said.engine == "gpt-sovits":
            sent["decode"] = _DECODES[request.mode]
        return sent

    def _references(
        self, request: TtsRequest, *, namespace: str
    ) -> tuple[tuple[ReferenceAsk, ...], tuple[Header, ...]]:
        """The recordings that are named, where this server takes any; else the voice speaks like its own.

        The original cannot speak without `ref_audio_path`, so its clients always send one: refusing it would refuse
        all of them. Which recording it is that the voice speaks like is told in a header.
        """
        if not request.ref_audio_path or not self._config.references.roots_of(namespace):
            return (), ((b"segue-reference", b"voice"),)
        main = ReferenceAsk(
            place=request.ref_audio_path,
            text=(request.prompt_text or "").strip(),
            language=(request.prompt_lang or "").lower(),
            field="ref_audio_path",
        )
        paths = [path for path in request.aux_ref_audio_paths or () if path]
        if len(paths) > MAX_REFERENCES:
            raise CompatError(
                400, f"aux_ref_audio_paths: {len(paths)} are too many; at most {MAX_REFERENCES} are taken"
            )
        further = [ReferenceAsk(place=path, field="aux_ref_audio_paths") for path in paths]
        return (main, *further), ((b"segue-reference", b"request"),)


def _output(request: TtsRequest) -> OutputSpec:
    audio_format = _FORMATS[request.media]
    if audio_format is AudioFormat.AAC and not aac_available():
        raise CompatError(
            400, "media_type: aac is not supported", exception='it needs PyAV on the server: pip install "segue[aac]"'
        )
    return OutputSpec(
        format=audio_format,
        sample_rate=_RAW_HZ if audio_format is AudioFormat.PCM else None,
        whole=audio_format is AudioFormat.WAV and request.mode == 0,
    )

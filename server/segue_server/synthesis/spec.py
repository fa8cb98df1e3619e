"""What one request asks for, once it was understood: the value that everything after the API layer works with."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.engine import ReferenceRecording, SynthesisRequest
from segue.memory.messages import VoiceName
from segue_server.audio.formats import OutputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """By what a listener is known; see `segue.memory.admission.listener_key`."""

    request_id: str
    session: str | None = None
    user: str | None = None
    api_key: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSpec:
    """One request.

    Attributes
    ----------
    voice
        In the caller's namespace.
    text
        Normalised: NFC, white space collapsed.
    language
        BCP-47 primary tag; empty: the voice's own.
    speed
        0.25 to 4.
    seed
        None: the same text sounds the same each time, by a seed drawn from it.
    output
        Format and rate.
    streaming
        The listener asked for a stream: small pieces, the first as early as possible. Else the engine may make pieces
        of the size that is cheapest; they are sent as they come all the same, and the samples are the same.
    pin
        Revision asked for, or a prefix of it.
    use_cache
        Whether the result cache may answer, and may keep the answer.
    options
        Parameters of the engine.
    references
        The request's own recordings; none: the voice's.
    """

    voice: VoiceName
    text: str
    language: str
    speed: float
    seed: int | None
    output: OutputSpec
    streaming: bool = False
    pin: str | None = None
    use_cache: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[ReferenceRecording, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechKeys:
    """What identifies one answer.

    Attributes
    ----------
    result
        Of the encoded bytes.
    seed
        What is used for randomness: the request's own, else a hash of all that makes the sound.
    """

    result: bytes
    seed: int


def keys_of(spec: SpeechSpec, *, revision: str, engine_build: str) -> SpeechKeys:
    """Identify the answer of `revision` to `spec`.

    The drawn seed does not depend on the format, so that all formats of one text carry the same speech.
    """
    sound: list[object] = [str(spec.voice), revision, engine_build, spec.text, spec.language, spec.speed, spec.seed]
    if spec.options or spec.references:
        said = [[each.digest, each.text, each.language] for each in spec.references]
        sound += [sorted(spec.options.items()), said]
    digest = _digest(sound)
    seed = spec.seed if spec.seed is not None else int.from_bytes(digest[:8], "big") >> 1
    output = [spec.output.format.value, spec.output.sample_rate, spec.output.whole]
    return SpeechKeys(result=_digest([*sound, seed, *output]), seed=seed)


def synthesis_request(spec: SpeechSpec, *, seed: int, language: str) -> SynthesisRequest:
    """What the engine is asked; `language` is the voice's own."""
    return SynthesisRequest(
        text=spec.text,
        language=spec.language or language or "en",
        speed=spec.speed,
        seed=seed,
        streaming=spec.streaming and not spec.output.whole,
        options=spec.options,
    )


def normalised(text: str) -> str:
    """NFC, white space collapsed: spellings of the same text share an answer."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def normalised_lines(text: str) -> str:
    """The same line by line, for engines to which a line break means something; empty lines are dropped."""
    return "\n".join(line for line in map(normalised, text.splitlines()) if line)


def original_span(text: str, span: tuple[int, int], *, normalise: Callable[[str], str] = normalised) -> tuple[int, int]:
    """Where in `text` that lies which is at `span` of its normal form; combining marks belong to what they mark."""

    def length(characters: int) -> int:
        return len(normalise(text[:characters]))

    characters = range(len(text) + 1)
    first = max(bisect_left(characters, span[0] + 1, key=length) - 1, 0)
    last = min(bisect_left(characters, span[1], key=length), len(text))
    while last < len(text) and unicodedata.combining(text[last]):
        last += 1
    return first, max(first, last)


def _digest(fields: list[object]) -> bytes:
    return hashlib.blake2b(json.dumps(fields, ensure_ascii=True, sort_keys=True).encode(), digest_size=20).digest()

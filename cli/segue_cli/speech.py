"""Getting something said: over the speech API, or by an engine in this process without any server.

Separate from the command because the two ways share what is wished for and what comes back, and nothing else.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from segue.errors import SegueError, WeightsError
from segue_cli.examples import CHECKOUT
from segue_cli.finding import usual_folders
from segue_cli.revisions import short

if TYPE_CHECKING:
    from segue.model.documents import LocatedVoice

FAVOURITE = "narrator"
TIMEOUT_S = 120.0


class NotSaid(SegueError):
    """The speech API refused, or does not answer."""


class NoVoice(SegueError):
    """No voice of that name, or none at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be said how."""

    text: str
    voice: str | None = None
    format: str = "wav"
    speed: float = 1.0
    seed: int | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of it."""

    audio: bytes
    description: str


# --- over the speech API ----------------------------------------------------------------------------------------------


def over_http(server: str, wish: Wish) -> Spoken:
    """Ask a speech API.

    Raises
    ------
    NotSaid
        It does not answer, or refuses; the message is its own.
    """
    voice = wish.voice or _first_voice(server, wish)
    body: dict[str, Any] = {
        "model": "segue",
        "input": wish.text,
        "voice": voice,
        "response_format": wish.format,
        "speed": wish.speed,
    }
    if wish.seed is not None:
        body["seed"] = wish.seed
    audio, headers = _call(server, "POST", "/v1/audio/speech", wish, body=body)
    named = headers.get("segue-voice") or voice
    shielded = f", shielded by {short(headers['segue-shielded'])}" if headers.get("segue-shielded") else ""
    return Spoken(audio, f"{len(audio):,} bytes, {named} {short(headers.get('segue-revision'))}{shielded} at {server}")


def _first_voice(server: str, wish: Wish) -> str:
    content, _ = _call(server, "GET", "/v1/audio/voices", wish)
    found = [str(each["id"]) for each in json.loads(content).get("voices", [])]
    if not found:
        raise NoVoice(f"{server} has no voice that is ready; segue get says why")
    return FAVOURITE if FAVOURITE in found else found[0]


def _call(
    server: str, method: str, path: str, wish: Wish, *, body: dict[str, Any] | None = None
) -> tuple[bytes, dict[str, str]]:
    parts = urlsplit(server if "://" in server else f"http://{server}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotSaid(f"a server is written http://HOST:PORT, not {server!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if wish.api_key:
        headers["Authorization"] = f"Bearer {wish.api_key}"
    content = json.dumps(body).encode() if body is not None else None
    try:
        with closing(kind(parts.hostname, parts.port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, parts.path.rstrip("/").removesuffix("/v1") + path, content, headers)
            response = connection.getresponse()
            answer = response.read()
            named = {name.lower(): value for name, value in response.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        raise NotSaid(f"{server} does not answer: {error}") from error
    if response.status != 200:
        raise NotSaid(f"{server} answered {response.status}: {_reason(answer)}")
    return answer, named


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")


# --- in this process --------------------------------------------------------------------------------------------------


def in_process(wish: Wish, *, voices: Path | None) -> Spoken:
    """Prepare, build and speak here: no server, no shared memory, no verification.

    Raises
    ------
    NoVoice, SegueError
        No such voice; weights that cannot be used; a text that cannot be read.
    """
    from segue.engine import SynthesisRequest
    from segue_engines.registry import get_engine
    from segue_engines.speak import load_voice, synthesize
    from segue_server.audio.encoder import make_encoder
    from segue_server.audio.formats import AudioFormat, OutputSpec

    located = choose_voice(wish.voice, folders=_folders(voices))
    spec = located.voice.spec
    files = {name: _local_file(source.uri, located.file) for name, source in spec.weights.items()}
    synthesizer = load_voice(get_engine(spec.engine.value), files, options=dict(spec.options))
    try:
        request = SynthesisRequest(
            text=wish.text, language=str(spec.options.get("language", "en")), speed=wish.speed, seed=wish.seed or 0
        )
        samples = synthesize(synthesizer, request)
        rate = synthesizer.sample_rate
    finally:
        synthesizer.close()
    encoder = make_encoder(OutputSpec(format=AudioFormat(wish.format), whole=True), engine_rate=rate)
    audio = encoder.feed(samples) + encoder.finish()
    return Spoken(audio, f"{samples.size / rate:.1f} s of {located.voice.key}, without a server")


def choose_voice(name: str | None, *, folders: Iterator[Path]) -> LocatedVoice:
    """The voice of that name in the first folder that has it; without a name narrator, or the first there is.

    Raises
    ------
    NoVoice
        None; the message lists what there is.
    """
    from segue.model.documents import read_folder

    seen: list[str] = []
    for folder in folders:
        found = read_folder(folder).voices
        seen += [located.voice.key for located in found]
        wanted = name or FAVOURITE
        key = wanted if "/" in wanted else f"default/{wanted}"
        match = next((located for located in found if located.voice.key == key), None)
        if match is not None or (found and name is None):
            return match or found[0]
    if not seen:
        raise NoVoice(
            "there are no voices here: go to a checkout of Segue (it brings examples/voices), or name a folder of "
            "VoiceModel files with --voices or SEGUE_VOICES"
        )
    known = ", ".join(dict.fromkeys(seen))
    raise NoVoice(f"there is no voice {name or FAVOURITE}; found: {known} (name another folder with --voices)")


def _folders(voices: Path | None) -> Iterator[Path]:
    if voices is not None and not voices.is_dir():
        raise NoVoice(f"{voices} is not a folder of voices")
    wanted = [voices] if voices is not None else [*usual_folders(), CHECKOUT / "voices"]
    return (folder for folder in wanted if folder.is_dir())


def _local_file(uri: str, yaml: Path) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise WeightsError(f"{uri} is not local: start segue up, which fetches it")
    path = Path(unquote(parts.path)) if parts.scheme else yaml.parent / uri
    if not path.is_file():
        raise WeightsError(f"{yaml}: {path} does not exist")
    return path

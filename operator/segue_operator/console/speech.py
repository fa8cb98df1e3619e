"""A sentence in the voice of one resident revision, from the speech API of a pod that has it.

The operator asks on behalf of the page, so that no server needs to trust a web page (CORS), and because only the
operator knows which pod has which revision. It adds no right to speak: where servers ask for a key, the person's own
key goes through, and it is kept nowhere here.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field

from segue.errors import SegueError
from segue.model.scalars import short
from segue_operator.console.config import SpeechAccess
from segue_operator.console.detail import pods_of
from segue_operator.console.source import Source
from segue_operator.fleet.pod import Pod

LONGEST_TEXT = 500
AT_A_TIME = 2
MOST_WAITING = 8
WITHIN_S = 60.0
LARGEST_BYTES = 32 << 20


class NotSaid(SegueError):
    """A sentence that could not be had.

    Attributes
    ----------
    status
        What the page is answered.
    """

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


class Sentence(BaseModel):
    """Body of `POST /api/voices/NAMESPACE/NAME/speech`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str = Field(pattern=r"^[0-9a-f]{64}$")
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    seed: int | None = Field(default=None, ge=0, le=2**31)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A WAV file, and the revision that really spoke."""

    audio: bytes
    revision: str


@dataclass(slots=True)
class Speaker:
    """Asks servers, a few at a time."""

    access: SpeechAccess
    source: Source
    transport: httpx.AsyncBaseTransport | None = None
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))
    _waiting: int = 0

    async def say(self, key: str, sentence: Sentence, *, authorization: str | None) -> Spoken:
        """Have it said.

        Parameters
        ----------
        authorization
            The person's own `Authorization` header for the speech API.

        Raises
        ------
        NotSaid
            No pod has the revision, the server refuses or does not answer, or too much was asked at once.
        """
        if self._waiting >= MOST_WAITING:
            raise NotSaid("too many sentences at once; try again in a moment", status=429)
        self._waiting += 1
        try:
            async with self._places, asyncio.timeout(WITHIN_S):
                return await self._ask(key, self._address(key, sentence.revision), sentence, authorization)
        except TimeoutError as error:
            raise NotSaid(f"no answer within {WITHIN_S:g} s", status=504) from error
        finally:
            self._waiting -= 1

    def _address(self, key: str, revision: str) -> str:
        """Base URL of a server that has the revision."""
        voice = self.source.document(key)
        if voice is None:
            raise NotSaid(f"there is no voice {key}", status=404)
        uid = voice["metadata"].get("uid", "")
        having = [pod for pod in pods_of(key, voice, self.source) if _has(pod, key, uid, revision)]
        if not having:
            raise NotSaid(f"no pod in reach has {short(revision)} of {key} ready; choose another version", status=404)
        if self.access.url is not None:
            return self.access.url
        pod = next((pod for pod in having if pod.record.facts.ready), having[0])
        host = urlsplit(pod.record.url).hostname or ""
        port = self.access.ports.get(pod.record.fleet.name, self.access.port)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _ask(self, key: str, base: str, sentence: Sentence, authorization: str | None) -> Spoken:
        body = {"model": "segue", "input": sentence.text, "voice": key.partition("/")[2], "response_format": "wav"}
        if sentence.seed is not None:
            body["seed"] = sentence.seed  # type: ignore[assignment]
        headers = {"Segue-Pin": sentence.revision} | ({"Authorization": authorization} if authorization else {})
        try:
            async with (
                httpx.AsyncClient(transport=self.transport, trust_env=False, timeout=WITHIN_S) as client,
                client.stream("POST", f"{base}/v1/audio/speech", json=body, headers=headers) as response,
            ):
                content = await _read(response)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise NotSaid(f"the speech API at {base} cannot be asked: {said}", status=502) from error
        if response.status_code != 200:
            raise NotSaid(_refusal(response.status_code, content, key), status=_status_for(response.status_code))
        named = response.headers.get("Segue-Voice", key)
        if named != key:
            raise NotSaid(f"the speech API spoke as {named}, not as {key}: use a key of its namespace", status=409)
        return Spoken(content, response.headers.get("Segue-Revision", ""))


def _has(pod: Pod, key: str, uid: str, revision: str) -> bool:
    found = pod.standing(key, uid).revisions.get(revision)
    return pod.identity is not None and found is not None and found.ready


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > LARGEST_BYTES:
            raise NotSaid(f"the answer is longer than {LARGEST_BYTES >> 20} MiB", status=502)
    return bytes(content)


def _refusal(status: int, content: bytes, key: str) -> str:
    if status == 401:
        return "the speech API asks for a key: give yours below"
    try:
        message = str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = content[:200].decode(errors="replace")
    other = key.partition("/")[0] != "default" and status == 404
    hint = "; voices of another namespace need a key of that namespace" if other else ""
    return f"the speech API says: {message}{hint}"


def _status_for(status: int) -> int:
    """400, 404 and the like go through; 401 would mean the console's own token."""
    return 424 if status == 401 else status if 400 <= status < 500 else 502

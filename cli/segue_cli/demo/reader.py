"""One listener who has a paragraph read to them while the voice changes.

Separate from the traffic because it is paced by ear: the next sentence is asked for when the one before would have been
heard, all in one session, and the last few wait for the flip.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segue_cli.demo.script import KEPT_FOR_AFTER
from segue_cli.demo.story import Reading
from segue_cli.measure.audio import PCM_RATE_HZ, decode
from segue_cli.measure.connection import Answer, SpeechConnection, encode_post
from segue_cli.measure.load import SPEECH_PATH
from segue_cli.measure.shots import Record, Shot

PAUSE_S = 0.28
PACE = 0.85
"""Share of real time that the reader waits: the wav is what people hear, the demo should not take all day."""
TIMEOUT_S = 30.0


class Reader:
    """Reads; `records` holds each sentence like any other request."""

    def __init__(self, *, host: str, port: int, voice: str) -> None:
        self.records: list[Record] = []
        self._host, self._port, self._voice = host, port, voice
        self._samples: list[NDArray[np.float32]] = []
        self._parts: list[tuple[int, str, str]] = []
        self._length = 0

    async def read(self, sentences: Sequence[str], *, flipped: asyncio.Event) -> Reading:
        """Read all sentences; the last ones only after `flipped`."""
        connection = await SpeechConnection.open(self._host, self._port, timeout_s=TIMEOUT_S)
        try:
            for number, text in enumerate(sentences):
                if number == len(sentences) - KEPT_FOR_AFTER:
                    await flipped.wait()
                if not connection.usable:
                    connection = await SpeechConnection.open(self._host, self._port, timeout_s=TIMEOUT_S)
                heard_s = await self._sentence(connection, text, number)
                await asyncio.sleep(heard_s * PACE)
        finally:
            connection.close()
        samples = np.concatenate([*self._samples, np.zeros(0, np.float32)])
        return Reading(samples=samples, rate_hz=PCM_RATE_HZ, parts=tuple(self._parts))

    async def _sentence(self, connection: SpeechConnection, text: str, number: int) -> float:
        shot = Shot(voice=self._voice, text=text, seed=number, session="the-listener-of-the-paragraph")
        request = encode_post(
            path=SPEECH_PATH, host=f"{self._host}:{self._port}", headers=shot.headers(), body=shot.body()
        )
        start_ns = time.monotonic_ns()
        answer = await connection.exchange(request, timeout_s=TIMEOUT_S)
        self.records.append(_record(answer, start_ns))
        if answer.status != 200 or answer.error:
            return 0.5
        samples, rate_hz = decode(answer.body, response_format="pcm")
        self._parts.append((self._length, text, answer.headers.get("revision", "")))
        spoken = np.concatenate([samples, np.zeros(round(PAUSE_S * rate_hz), np.float32)])
        self._samples.append(spoken)
        self._length += len(spoken)
        return len(spoken) / rate_hz


def _record(answer: Answer, start_ns: int) -> Record:
    error = answer.error or ("" if answer.status == 200 and answer.chunks else f"status {answer.status}")
    return Record(
        shot=0,
        due_ns=start_ns,
        start_ns=start_ns,
        first_ns=answer.first_ns,
        end_ns=answer.end_ns,
        status=answer.status,
        revision=answer.headers.get("revision", ""),
        shielded=answer.headers.get("shielded", ""),
        cache=answer.headers.get("cache", ""),
        size_bytes=len(answer.body),
        digest="",
        error=error,
    )

"""A few listeners who talk to two voices, for as long as the run takes.

Little of it: what is tried is whether figures arrive, not how many. One request in ten is a question, which one of the
example updates cannot speak; some texts come again, so that the cache has something; now and then a listener goes to
the other voice.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

import httpx

LISTENERS = 6
PAUSE_S = 0.25
QUESTION_EVERY, AGAIN_EVERY, OTHER_EVERY = 10, 5, 7
REQUEST_S = 30.0


@dataclass(slots=True)
class Audience:
    """Speaks in a thread of its own until the block ends.

    Attributes
    ----------
    answers
        By HTTP status, or `failed`.
    """

    url: str
    voices: tuple[str, str]
    answers: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Audience:
        self._thread = threading.Thread(target=self._speak, name="audience")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(2 * REQUEST_S)

    def _speak(self) -> None:
        with _clients() as clients:
            for number in itertools.count():
                if self._over.wait(PAUSE_S):
                    return
                self._one(clients[number % LISTENERS], number)

    def _one(self, client: httpx.Client, number: int) -> None:
        other = number % OTHER_EVERY == 0
        body = {"model": "segue", "input": text_of(number), "voice": self.voices[other], "response_format": "wav"}
        headers = {"Segue-Session": f"listener-{number % LISTENERS}"}
        try:
            answer = client.post(f"{self.url}/v1/audio/speech", json=body, headers=headers)
            self.answers[str(answer.status_code)] += 1
        except httpx.TransportError:
            self.answers["failed"] += 1


def text_of(number: int) -> str:
    """What the request of this number says."""
    if number % QUESTION_EVERY == 3:
        return f"Is it {number}?"
    if number % AGAIN_EVERY == 1:
        return "The same as ever."
    return f"Line {number}."


@contextmanager
def _clients() -> Iterator[list[httpx.Client]]:
    clients = [httpx.Client(timeout=REQUEST_S) for _ in range(LISTENERS)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()

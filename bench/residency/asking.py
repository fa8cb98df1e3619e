"""Listeners who ask for all of the voices: a few often, most rarely, and now and then each of them in turn.

Separate from the load generator of the other benches because this one does what a client should do with a 503 that says
when to come again: it comes again. How often is counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from segue_cli.measure.texts import TEXTS

TURNS = 8
"""How often a request comes again before it counts as failed."""
SWEEP_EVERY = 5
"""In rounds of as many requests as there are voices: the others are drawn by popularity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, however often it had to come.

    Attributes
    ----------
    wait_s
        From its first sending to its last byte.
    turned_away
        What each 503 with Retry-After said that it got first.
    """

    voice: str
    began_s: float
    wait_s: float
    turned_away: tuple[str, ...]
    failure: str


@dataclass(slots=True)
class Visit:
    """All requests of a run."""

    asked: list[Asked] = field(default_factory=list)


def who_is_asked(voices: Sequence[str], *, count: int, seed: int = 1) -> Iterator[str]:
    """Voices in the order of requests: popularity falls as 1/rank (Zipf), and every fifth round asks each once."""
    draw = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(voices) + 1)]
    left = count
    for number in range(count):
        if left <= 0:
            return
        sweep = number % SWEEP_EVERY == SWEEP_EVERY - 1
        these = list(voices) if sweep else draw.choices(voices, weights, k=len(voices))
        yield from these[:left]
        left -= len(these)


async def ask_all(address: tuple[str, int], order: Sequence[str], *, listeners: int) -> Visit:
    """Send the requests of `order`, so many at a time."""
    visit, waiting = Visit(), iter(enumerate(order))
    base_url = f"http://{address[0]}:{address[1]}"
    async with (
        httpx.AsyncClient(base_url=base_url, timeout=60, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):

        async def listen() -> None:
            for number, voice in waiting:
                visit.asked.append(await ask(client, voice, number))

        for _ in range(listeners):
            group.create_task(listen())
    return visit


async def ask(client: httpx.AsyncClient, voice: str, number: int) -> Asked:
    """One request, however often it has to come. `number` chooses its text and its seed."""
    began_s, failure = time.monotonic(), "turned away too often"
    turned_away: list[str] = []
    for _ in range(TURNS):
        answer = await _post(client, voice, number)
        if isinstance(answer, str):
            failure = answer
            break
        if answer.status_code == 200 and len(answer.content) > 1000:
            failure = ""
            break
        if answer.status_code != 503 or "retry-after" not in answer.headers:
            failure = f"{answer.status_code}: {answer.text[:300]}"
            break
        turned_away.append(str(answer.json()["error"]["message"]))
        await asyncio.sleep(float(answer.headers["retry-after"]))
    return Asked(
        voice=voice,
        began_s=began_s,
        wait_s=time.monotonic() - began_s,
        turned_away=tuple(turned_away),
        failure=failure,
    )


async def _post(client: httpx.AsyncClient, voice: str, number: int) -> httpx.Response | str:
    body = {"model": "segue", "voice": voice, "input": TEXTS[number % len(TEXTS)], "response_format": "pcm"}
    try:
        return await client.post("/v1/audio/speech", json={**body, "seed": number}, headers={"Segue-Cache": "no-store"})
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"

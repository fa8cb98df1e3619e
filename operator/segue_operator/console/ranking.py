"""Which voices are asked for most: requests and seconds of speech, where somebody counts them.

Separate because it is nobody's business but the page's: read only when a page asks, at most every `FRESH_S`, from the
server of `segue up` (since its start) or from Prometheus (of a day).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from segue.errors import SegueError

FRESH_S = 10.0
WITHIN_S = 5.0
LARGEST_BYTES = 32 << 20

Vector = list[tuple[dict[str, str], float]]
Ask = Callable[[str], Awaitable[Vector]]

_REQUESTS = "sum by (voice) (increase(segue_requests_total[1d]))"
_SECONDS = "sum by (voice) (increase(segue_audio_seconds_total[1d]))"


class NotCounted(SegueError):
    """Figures that cannot be had now."""


@dataclass(slots=True)
class Ranking:
    """Read at most every `FRESH_S`.

    Attributes
    ----------
    metrics_url
        Base URL of a server with /metrics.
    prometheus
        Evaluates a query.
    """

    metrics_url: str | None = None
    prometheus: Ask | None = None
    transport: httpx.AsyncBaseTransport | None = None
    monotonic: Callable[[], float] = time.monotonic
    _known: dict[str, Any] = field(default_factory=dict)
    _at_s: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self) -> dict[str, Any]:
        """`{from, voices: {key: [requests, audio seconds]}}`; `from` empty: nobody counts, or `error` says why not."""
        async with self._reading:
            if self.monotonic() - self._at_s >= FRESH_S:
                self._known = await self._read()
                self._at_s = self.monotonic()
        return self._known

    async def _read(self) -> dict[str, Any]:
        try:
            if self.metrics_url is not None:
                return {"from": "server", "voices": await self._of_server(self.metrics_url)}
            if self.prometheus is not None:
                return {"from": "prometheus", "voices": await _of_prometheus(self.prometheus)}
        except (SegueError, httpx.HTTPError) as error:
            return {"from": "", "voices": {}, "error": str(error) or type(error).__name__}
        return {"from": "", "voices": {}}

    async def _of_server(self, url: str) -> dict[str, list[float]]:
        async with httpx.AsyncClient(transport=self.transport, trust_env=False, timeout=WITHIN_S) as client:
            response = await client.get(f"{url}/metrics")
        if response.status_code != 200 or len(response.content) > LARGEST_BYTES:
            raise NotCounted(f"{url}/metrics answered {response.status_code} with {len(response.content)} bytes")
        return await asyncio.to_thread(_sums, response.text)


def _sums(text: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, voice, value in _samples(text):
        sums = found.setdefault(voice, [0.0, 0.0])
        sums[0 if name == "segue_requests_total" else 1] += value
    return found


def _samples(text: str) -> Iterator[tuple[str, str, float]]:
    """Only the two families are parsed: a server with many voices has megabytes of histograms."""
    wanted = ("segue_requests_total", "segue_audio_seconds_total")
    lines = "\n".join(line for line in text.splitlines() if line.startswith(wanted))
    try:
        for family in text_string_to_metric_families(lines + "\n"):
            for sample in family.samples:
                if "voice" in sample.labels:
                    yield sample.name, sample.labels["voice"], sample.value
    except ValueError as error:
        raise NotCounted(f"the server's figures cannot be read: {error}") from error


async def _of_prometheus(ask: Ask) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for place, query in enumerate((_REQUESTS, _SECONDS)):
        for labels, value in await ask(query):
            if voice := labels.get("voice"):
                found.setdefault(voice, [0.0, 0.0])[place] += value
    return found

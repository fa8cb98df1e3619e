"""What `segue up` prints while it runs: problems, voices as they become ready, what the operator does.

Separate from the supervisor because it only reads (the operator's events and voices) and may fail or fall behind
without any harm to what runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from segue_cli.model_lines import models_lines

EVENT_WAIT_S = 20.0
RETRY_S = 0.3

Say = Callable[[str], None]


@dataclass(slots=True)
class Reporter:
    """Follows one operator.

    Attributes
    ----------
    serving
        To be set once all processes serve: before that no voice is called ready.
    settled
        Set once every voice can be spoken with, or never will without help.
    """

    socket: Path
    say: Say
    _said_problems: set[str] = field(default_factory=set)
    _said_models: set[str] = field(default_factory=set)
    _ready: set[str] = field(default_factory=set)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Print until cancelled. An operator that is being started again is waited for."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://operator", timeout=5.0) as client:
            last: int | None = None
            while True:
                try:
                    last = await self._turn(client, last)
                except (httpx.HTTPError, OSError, ValueError, KeyError):
                    await asyncio.sleep(RETRY_S)

    async def _turn(self, client: httpx.AsyncClient, last: int | None) -> int:
        if last is None:
            last = int((await _json(client, "/v1/events", since=2**62))["last"])
        self._show_voices(await _json(client, "/v1/voices"))
        found = await _json(client, "/v1/events", since=last, wait=EVENT_WAIT_S if self.settled.is_set() else 1.0)
        for event in found["events"]:
            self.say(f"{event['voice'] or 'segue'}: {event['message']}")
        return int(found["last"])

    def _show_voices(self, found: Mapping[str, Any]) -> None:
        for line in models_lines(each for each in found["models"] if each["phase"] in ("Ready", "Failed")):
            if line not in self._said_models:
                self.say(line)
                self._said_models.add(line)
        problems = [str(problem["text"]) for problem in found["problems"]]
        for problem in problems:
            if problem not in self._said_problems:
                self.say(f"problem: {problem}")
        self._said_problems = set(problems)
        if not self.serving.is_set():
            return
        ready = {str(voice["key"]): voice for voice in found["voices"] if voice["served"]}
        for key in sorted(ready.keys() - self._ready):
            self.say(f"ready: {key} ({ready[key]['activeRevision'][:10]})")
        self._ready = set(ready)
        if found["voices"] and all(voice["served"] or voice["stalled"] for voice in found["voices"]):
            self.settled.set()

    @property
    def ready(self) -> list[str]:
        """Voices that can be spoken with."""
        return sorted(self._ready)


def curl_line(url: str, voice: str) -> str:
    """A line that can be pasted into a shell."""
    body = json.dumps({"input": "Hello from Segue.", "voice": voice, "response_format": "wav"})
    return f"curl -s {url}/v1/audio/speech -H 'Content-Type: application/json' -d '{body}' -o hello.wav"


async def _json(client: httpx.AsyncClient, path: str, **query: float) -> dict[str, Any]:
    wait_s = float(query.get("wait", 0.0))
    response = await client.get(path, params=query, timeout=5.0 + wait_s)
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError(f"{path} answered {found!r}")
    return found

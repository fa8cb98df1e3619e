"""Pointer pages with the sidecar's own command code in front of them, under a clock that is set wrong.

`python -m bench.simulated.pages`, a JSON description on its stdin. In each process some sidecars as `segue_sidecar`
assembles them: books and journal, switchboard, arming, the control API over TLS, and a real page each; no workers and
no weights, because nobody speaks here. The wall clock of the whole process is shifted before anything of the sidecar
looks at it: Linux has namespaces for the other clocks and none for this one, and setting it would set everybody's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.simulated.lines import read_lines
from segue.garbage import settle_garbage
from segue.memory.handoff import HandoffListener
from segue.memory.messages import VoiceName
from segue.memory.page import PointerPage
from segue.tls import server_context
from segue.wire import FileSource, RevisionPhase, RevisionRequest
from segue_sidecar.api.app import make_app
from segue_sidecar.assembly import Parts, assemble
from segue_sidecar.books import Books
from segue_sidecar.config import Address, Config
from segue_sidecar.entries import RevisionEntry, Said
from segue_sidecar.journal import Journal
from segue_sidecar.listener import HttpListener
from segue_sidecar.metrics import Metrics

VOICE = "bench/together"
VOICE_UID = "uid-together"
REVISIONS = ("a" * 64, "b" * 64)


def shift_wall_clock(by_ns: int) -> None:
    """From here on `time.time_ns` and `time.time` of this process are ahead by so much."""
    real_ns: Callable[[], int] = time.time_ns
    vars(time).update(time_ns=lambda: real_ns() + by_ns, time=lambda: (real_ns() + by_ns) / 1e9)


async def serve() -> None:
    """Until stdin ends."""
    lines = read_lines(sys.stdin)
    description = json.loads(await anext(lines))
    shift_wall_clock(description["shiftNs"])
    listeners, urls = [], []
    for pod in description["pods"]:
        parts, config = _sidecar(pod, Path(description["directory"]) / pod["uid"], Path(description["tls"]))
        tls = server_context(config.tls.files, client_name=config.tls.client_name)
        listener = HttpListener(make_app(parts.services), tls=tls, request_s=config.deadlines.request_s)
        host, port = await listener.open(Address(host=pod["address"]))
        listeners.append(listener)
        urls.append(f"https://{host}:{port}")
    settle_garbage()
    print(json.dumps({"urls": urls}), flush=True)
    async for _ in lines:
        print(json.dumps({}), flush=True)
    for listener in listeners:
        await listener.close(deadline_s=1)


def _sidecar(pod: dict[str, Any], directory: Path, tls: Path) -> tuple[Parts, Config]:
    directory.mkdir(parents=True)
    config = Config.model_validate(
        {
            "pod": {"uid": pod["uid"], "name": pod["name"]},
            "tls": {"directory": str(tls)},
            "handoffDirectory": str(directory),
            "journalDirectory": str(directory),
            "cacheDirectory": str(directory),
        }
    )
    journal = Journal(directory / "journal.log")
    journal.open()
    books = Books(journal)
    parts = assemble(
        config,
        books=books,
        journals=(journal, Journal(directory / "windows.log")),
        listener=HandoffListener(directory / "sidecar.sock", allowed_uids=set()),
        metrics=Metrics(),
        background=lambda work: work(),
    )
    _seed(parts, books)
    return parts, config


def _seed(parts: Parts, books: Books) -> None:
    """A voice with two revisions that are ready, and the first of them in its word."""
    switchboard = parts.core.switchboard
    switchboard.page = PointerPage.create()
    name = VoiceName(*VOICE.split("/"))
    voice = books.new_voice(name, uid=VOICE_UID)
    request = RevisionRequest(engine="demo", weights={"any": FileSource(uri="file:///any", sha256="0" * 64)})
    for revision in REVISIONS:
        entry = RevisionEntry(voice=name, revision=revision, request=request, phase=RevisionPhase.READY)
        books.new_handle(entry)
        voice.revisions[revision] = entry
    switchboard.store(voice, Said(REVISIONS[0]))


if __name__ == "__main__":
    asyncio.run(serve())

"""A worker without a server: joins the sidecar, maps and builds what is offered, serves make-believe requests.

Run as `python -m tests.support.worker SOCKET NAME [--trouble KIND]`. Each line on stdout is one JSON event. A request
is an admission through `segue.memory.admission` and an entry in the stats page; a voice whose weights say
`"fails": true` fails each of them. With `--asked` nobody asks but the test, by lines on stdin: `ask NAMESPACE/NAME` is
one request, for which a cold voice is wanted first; `hold NAMESPACE/NAME` one that goes on until `let go`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.sharing_engine import SharingEngine
from tests.support.tiny_engine import TinyEngine, TinySynthesizer

from segue.engine import Device
from segue.errors import HandoffError
from segue.memory import memfd
from segue.memory.admission import Choice, choose, listener_key
from segue.memory.adoption import HeldRevision, introduce
from segue.memory.handoff import Connection, Received, connect_patiently
from segue.memory.host import HostMapper
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.mapped_once import MapOnce
from segue.memory.messages import (
    Failed,
    Forget,
    Hello,
    Offer,
    Page,
    Ready,
    Retire,
    Retired,
    RevisionRef,
    Serve,
    Unavailable,
    Voice,
    VoiceName,
    Want,
)
from segue.memory.mode import MemoryMode
from segue.memory.page import PageReader
from segue.memory.stats import StatsPage, create_stats_memfd
from segue.memory.stats_layout import Outcome, WorkerState
from segue.memory.voice_view import voice_view

REQUEST_EVERY_S = 0.005


def mapper_for(ref: RevisionRef) -> WeightMapper:
    """What maps an offer of a device's memory, by the driver without one."""
    from tests.support.device_memory import reader

    return reader(ref.memory)


class Resident:
    """One revision, built."""

    def __init__(self, ref: RevisionRef, parts: list[MappedPart], synthesizer: TinySynthesizer) -> None:
        self.ref = ref
        self.parts = parts
        self.synthesizer: TinySynthesizer | None = synthesizer

    def close(self) -> None:
        """Drop the views, then unmap."""
        if self.synthesizer is not None:
            self.synthesizer.close()
        self.synthesizer = None
        gc.collect()
        for part in self.parts:
            part.close()


class TestWorker:
    """The worker's whole state."""

    __test__ = False

    def __init__(self, *, name: str, trouble: str, asked: bool = False) -> None:
        self.asked = asked
        self.connection: Connection | None = None
        self.held: list[int] = []
        self.leaving: set[int] = set()
        self.wanted: set[VoiceName] = set()
        self.name = name
        self.trouble = trouble
        self.stats = StatsPage(create_stats_memfd())
        self.residents: dict[int, Resident] = {}
        self.voices: dict[int, Voice] = {}
        self.page: PageReader | None = None
        self.page_fd = -1
        self.serving = False
        self.requests = 0
        self.mapper = MapOnce(HostMapper())

    async def run(self, path: Path) -> None:
        """Connect for ever; requests go on without a connection."""
        tasks = [asyncio.create_task(self.serve())]
        if self.asked:
            tasks.append(asyncio.create_task(self.listen()))
        while True:
            connection = await connect_patiently(path)
            try:
                await self.attend(connection)
            except HandoffError as error:
                tell("lost", message=str(error))
            finally:
                connection.close()
            await asyncio.sleep(0.02)

    async def attend(self, connection: Connection) -> None:
        """One connection, to its end."""
        holdings = [
            HeldRevision(resident.ref, [fd for part in resident.parts for fd in part.export()])
            for resident in self.residents.values()
        ]
        fds = [self.stats.export()] + ([os.dup(self.page_fd)] if self.page else [])
        hello = Hello(
            worker=self.name,
            pid=os.getpid(),
            page_id=self.page.page_id if self.page else 0,
            holding=len(holdings),
            serving=self.serving,
        )
        if self.trouble == "nonsense":
            connection._sock.send(b"what?")
        await introduce(connection, hello, fds=fds, holdings=holdings)
        self.connection = connection
        while True:
            with await connection.receive() as received:
                self.hear(connection, received)

    def hear(self, connection: Connection, received: Received) -> None:
        """One message."""
        message = received.message
        match message:
            case Page():
                (self.page_fd,) = received.take()
                self.page = PageReader(self.page_fd)
            case Voice():
                self.voices[message.slot] = message
                tell("voice", slot=message.slot, suspect=message.suspect, knownGood=message.known_good)
            case Forget():
                self.voices.pop(message.slot, None)
            case Offer():
                self.take_on(connection, message.offered, received.take())
            case Serve():
                self.serving = True
                self.stats.set_state(WorkerState.SERVING)
                tell("serving")
            case Retire():
                if message.handle in self.held:
                    self.leaving.add(message.handle)
                else:
                    self.let_go(connection, message.handle)
            case Unavailable():
                self.wanted.discard(message.voice)
                tell("unavailable", voice=str(message.voice), reason=message.reason, message=message.message)
            case _:
                tell("other", kind=message.kind)

    def take_on(self, connection: Connection, ref: RevisionRef, fds: list[int]) -> None:
        """Map, build, answer; or do what the trouble says."""
        if ref.handle in self.residents:
            memfd.close_all(fds)
            connection.send(Ready(handle=ref.handle))
            return
        mapper = self.mapper if ref.memory is MemoryMode.HOST else mapper_for(ref)
        parts = [mapper.map(own, part) for part, own in ref.grouped(fds)]
        view = voice_view(parts, options=ref.options)
        synthesizer = (SharingEngine() if ref.engine == "sharing" else TinyEngine()).build(view, Device())
        assert isinstance(synthesizer, TinySynthesizer)
        shared = {model: float(part.tensors["values"][0]) for model, part in view.shared.items()}
        del view
        resident = Resident(ref, parts, synthesizer)
        troubled = self.trouble if synthesizer.meta.get("troublesome") else ""
        if troubled == "refuse":
            resident.close()
            connection.send(Failed(handle=ref.handle, reason="BuildFailed", message="the test asked for it"))
        elif troubled == "silent":
            self.residents[ref.handle] = resident
        elif troubled == "babble":
            connection._sock.send(b'{"kind":"ready","handle":"seven"}')
        else:
            self.residents[ref.handle] = resident
            connection.send(Ready(handle=ref.handle))
            tell("ready", handle=ref.handle, revision=ref.revision, shared=shared)

    def let_go(self, connection: Connection, handle: int) -> None:
        """Unmap, answer."""
        resident = self.residents.pop(handle, None)
        if resident is not None:
            resident.close()
            self.stats.retire_row(handle)
        connection.send(Retired(handle=handle))
        tell("retired", handle=handle)

    async def serve(self) -> None:
        """A request for each voice every few milliseconds, whoever is connected."""
        while True:
            await asyncio.sleep(REQUEST_EVERY_S)
            self.stats.beat(queued=0)
            if self.asked:
                self.answer_those_who_wait()
            elif self.page is not None and self.serving:
                for voice in list(self.voices.values()):
                    self.request(voice)

    async def listen(self) -> None:
        """Do what the lines on stdin say."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := (await reader.readline()).decode().split():
            match line:
                case ["ask" | "hold" as verb, name]:
                    self.want(name, hold=verb == "hold")
                case ["let", "go"]:
                    for handle in self.held:
                        self.stats.row(handle).released()
                    self.held.clear()
                    for handle in self.leaving:
                        assert self.connection is not None
                        self.let_go(self.connection, handle)
                    self.leaving.clear()
                case _:
                    tell("other", line=line)

    def want(self, name: str, *, hold: bool) -> None:
        """Speak at once, or ask the sidecar for the voice; it is spoken when its word names somebody."""
        namespace, _, short = name.partition("/")
        voice = next((one for one in self.voices.values() if one.voice == VoiceName(namespace, short)), None)
        if voice is not None and self.speak(voice, hold=hold):
            return
        assert self.connection is not None
        self.wanted.add(VoiceName(namespace, short))
        self.connection.send(Want(voice=VoiceName(namespace, short)))

    def answer_those_who_wait(self) -> None:
        """Whoever waited for a cold voice is served once it is not cold any more."""
        for voice in list(self.voices.values()):
            if voice.voice in self.wanted and self.speak(voice):
                self.wanted.discard(voice.voice)

    def speak(self, voice: Voice, *, hold: bool = False) -> bool:
        """One request; false where the voice is cold."""
        assert self.page is not None
        word = self.page.load(voice.slot)
        if word.active not in self.residents:
            return False
        revision = self.residents[word.active].ref.revision
        if hold:
            self.stats.row(word.active).admitted()
            self.held.append(word.active)
        else:
            self.request(voice)
        tell("spoke", voice=str(voice.voice), revision=revision, handle=word.active)
        return True

    def request(self, voice: Voice) -> None:
        """One request, admitted and over at once, unless its weights say that it never ends."""
        assert self.page is not None
        self.requests += 1
        word = self.page.load(voice.slot)
        choice = choose(
            word,
            voice=voice.voice,
            table={handle: resident.ref for handle, resident in self.residents.items()},
            key=listener_key(request_id=str(self.requests)),
            heartbeat_age_s=self.page.heartbeat_age_s(),
        )
        if not isinstance(choice, Choice):
            return
        self.stats.admitted(voice.slot, word.pack())
        row = self.stats.row(choice.speaker.handle)
        row.admitted()
        meta = self.meta_of(choice.speaker.handle)
        if meta.get("neverEnds"):
            return
        row.spoke(f"text {self.requests % 64}")
        row.ended(Outcome.EXCEPTION if meta.get("fails") else Outcome.SUCCESS, latency_s=0.02, audio_ms=500)
        row.released()
        if meta.get("kills"):
            row.admitted()
            os.kill(os.getpid(), 9)

    def meta_of(self, handle: int) -> dict[str, Any]:
        """What the weights of a resident say."""
        synthesizer = self.residents[handle].synthesizer
        return dict(synthesizer.meta) if synthesizer is not None else {}


def tell(event: str, **fields: Any) -> None:
    """One event on stdout."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": event, **fields}), flush=True)


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("name")
    parser.add_argument("--trouble", default="")
    parser.add_argument("--asked", action="store_true")
    arguments = parser.parse_args()
    worker = TestWorker(name=arguments.name, trouble=arguments.trouble, asked=arguments.asked)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(worker.run(arguments.socket))


if __name__ == "__main__":
    main()
    sys.exit(0)

"""A real sidecar process, real worker processes, and a client: what the sidecar's integration tests stand on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import sharing_engine, tiny_engine

from segue.control import SidecarClient
from segue.errors import ControlUnreachable
from segue.tls import OPERATOR_NAME, Authority, KeyPairFiles, client_context, sidecar_name
from segue.wire import (
    Expected,
    Fence,
    FileSource,
    PointerRequest,
    RevisionPhase,
    RevisionRequest,
    RevisionState,
    StateDocument,
    VoiceState,
    WatchTerms,
)

REPOSITORY = Path(__file__).resolve().parents[2]
POD = "pod-1"
VOICE = "default/narrator"
UID = "uid-1"
DEADLINE_S = 20.0


async def eventually(condition: Callable[[], Any], *, deadline_s: float = DEADLINE_S, what: str = "") -> None:
    """Wait until a condition holds."""
    ends_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends_s, f"never came true: {what or condition}"
        await asyncio.sleep(0.02)


@dataclass
class Process:
    """A child of the test, with what it said."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What a test worker told, of one kind."""
        lines = self.output.read_text().splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in told if event.get("event") == kind]

    def say(self, line: str) -> None:
        """Tell it something on its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.process.wait(timeout=15)


@dataclass
class World:
    """One state directory, and what runs on it."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    term: int = 1
    sequence: int = 0
    sidecar: Process | None = None

    def __post_init__(self) -> None:
        self.voices.mkdir(parents=True)
        authority = Authority.create(self.directory / "ca")
        name = sidecar_name(fleet="default", namespace="default")
        authority.issue(name, server=True, directory=self.directory / "sidecar")
        self.operator = authority.issue(OPERATOR_NAME, server=False, directory=self.directory / "operator")
        self.authority = authority

    @property
    def voices(self) -> Path:
        """The one folder that voices may name."""
        return self.directory / "voices"

    @property
    def socket(self) -> Path:
        """Of the hand-off."""
        return self.directory / "run" / "sidecar.sock"

    @property
    def ready(self) -> dict[str, Any]:
        """The sidecar's ready file."""
        document: dict[str, Any] = json.loads((self.directory / "ready.json").read_text())
        return document

    # --- processes --------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The sidecar's configuration."""
        return {
            "pod": {"uid": POD, "name": "test"},
            "tls": {"directory": str(self.directory / "sidecar")},
            "handoffDirectory": str(self.directory / "run"),
            "journalDirectory": str(self.directory / "journal"),
            "cacheDirectory": str(self.directory / "cache"),
            "readyFile": str(self.directory / "ready.json"),
            "pool": {"budgetBytes": "64Mi"},
            "sources": [{"uriPrefixes": [self.voices.as_uri()]}],
            "engines": {"tiny": tiny_engine.PLACE, "sharing": sharing_engine.PLACE},
            **self.settings,
        }

    def spawn(self, name: str, *command: str, limit: Callable[[], None] | None = None) -> Process:
        """Start a python process whose output is kept."""
        output = self.directory / f"{name}.{len(self.processes)}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE if "--asked" in command else None,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                preexec_fn=limit,  # noqa: PLW1509 - the tests start processes from one thread
            )
        started = Process(process, output)
        self.processes.append(started)
        return started

    def spawn_sidecar(self, *, limit: Callable[[], None] | None = None) -> Process:
        """Start a sidecar without waiting for it."""
        path = self.directory / "sidecar.json"
        path.write_text(json.dumps(self.config()))
        return self.spawn("sidecar", "-m", "segue_sidecar", "--config", str(path), limit=limit)

    async def start_sidecar(self, *, limit: Callable[[], None] | None = None) -> Process:
        """Start a sidecar and wait until it serves."""
        (self.directory / "ready.json").unlink(missing_ok=True)
        started = self.sidecar = self.spawn_sidecar(limit=limit)
        ready = self.directory / "ready.json"
        await eventually(lambda: ready.exists() or started.process.poll() is not None, what="the sidecar's ready file")
        assert ready.exists(), started.output.read_text()
        return started

    def start_worker(self, name: str = "w0", *, trouble: str = "", asked: bool = False) -> Process:
        """Start a worker; it connects by itself. `asked`: it speaks only when it is told to."""
        more = ["--asked"] if asked else []
        return self.spawn(name, "-m", "tests.support.worker", str(self.socket), name, "--trouble", trouble, *more)

    async def stop(self) -> None:
        """End all that was started."""
        for process in self.processes:
            process.kill()

    # --- the operator's side ----------------------------------------------------------------------------------------

    def client(self, *, files: KeyPairFiles | None = None, pod: str = POD) -> SidecarClient:
        """A client with the operator's certificate."""
        tls = client_context(files or self.operator, server_name=sidecar_name(fleet="default", namespace="default"))
        return SidecarClient(self.ready["control"], pod_uid=pod, tls=tls)

    def fence(self) -> Fence:
        """The next fence of this leader."""
        self.sequence += 1
        return Fence(self.term, self.sequence)

    def write(self, name: str, content: bytes) -> FileSource:
        """Put a weight file into the voices' folder."""
        path = self.voices / name
        path.write_bytes(content)
        return FileSource(uri=path.as_uri(), sha256=hashlib.sha256(content).hexdigest())

    def request(self, source: FileSource, **more: Any) -> RevisionRequest:
        """What to have resident."""
        return RevisionRequest(engine="tiny", weights={"tone": source}, **more)

    def version(self, number: int, **settings: Any) -> tuple[str, RevisionRequest]:
        """A revision of the tiny engine: its digest and the request for it."""
        content = tiny_engine.weights(hz=200.0 + number, version=number, **settings)
        source = self.write(f"v{number}.npz", content)
        return hashlib.sha256(b"revision" + content).hexdigest(), self.request(source)


async def state_of(client: SidecarClient) -> StateDocument:
    """The state of now."""
    document = await client.state()
    assert document is not None
    return document


async def voice_of(client: SidecarClient, voice: str = VOICE) -> VoiceState:
    """One voice of it."""
    return (await state_of(client)).voices[voice]


async def until(
    client: SidecarClient, condition: Callable[[StateDocument], Any], *, deadline_s: float = DEADLINE_S, what: str = ""
) -> StateDocument:
    """Long-poll the state until a condition holds; a sidecar that is away is asked again."""
    ends_s = time.monotonic() + deadline_s
    document: StateDocument | None = None
    while time.monotonic() < ends_s:
        try:
            document = await client.state(since=document.etag if document else None, wait_s=1.0) or document
        except ControlUnreachable:
            await asyncio.sleep(0.05)
            continue
        if document is not None and condition(document):
            return document
    raise AssertionError(f"never came true: {what or condition}: {document}")


async def until_phase(
    client: SidecarClient, revision: str, *phases: RevisionPhase, deadline_s: float = DEADLINE_S, reason: str = ""
) -> RevisionState:
    """Long-poll until a revision is in one of these phases."""

    def found(document: StateDocument) -> RevisionState | None:
        voice = document.voices.get(VOICE)
        state = voice.revisions.get(revision) if voice else None
        return state if state and state.phase in phases and (not reason or state.reason == reason) else None

    document = await until(client, found, deadline_s=deadline_s, what=f"{phases} {reason}")
    state = found(document)
    assert state is not None
    return state


async def load(world: World, client: SidecarClient, number: int, **settings: Any) -> str:
    """Bring a version up until it is Ready; its revision."""
    revision, request = world.version(number, **settings)
    await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
    state = await until_phase(client, revision, RevisionPhase.READY, RevisionPhase.FAILED)
    assert state.phase is RevisionPhase.READY, (state.reason, state.message)
    return revision


async def flip(
    world: World,
    client: SidecarClient,
    active: str | None,
    *,
    expected: str | None = None,
    watch: WatchTerms | None = None,
    **more: Any,
) -> None:
    """Point the voice at a revision."""
    request = PointerRequest(
        active=active, expected=Expected(active=expected) if expected else None, watch=watch, **more
    )
    await client.set_pointer(VOICE, request, fence=world.fence(), voice_uid=UID)


@contextlib.asynccontextmanager
async def running(
    *, workers: int = 1, trouble: str = "", asked: bool = False, **settings: Any
) -> AsyncIterator[tuple[World, SidecarClient]]:
    """A world with a sidecar, workers that serve, and a client."""
    directory = Path(tempfile.mkdtemp(prefix="segue-", dir="/tmp"))
    world = World(directory, settings)
    try:
        await world.start_sidecar()
        names = [f"w{index}" for index in range(workers)]
        started = [world.start_worker(name, trouble=trouble, asked=asked) for name in names]
        async with world.client() as client:
            for worker in started:
                await eventually(lambda worker=worker: worker.events("serving"), what="a worker to serve")  # type: ignore[misc]
            yield world, client
    finally:
        await world.stop()
        shutil.rmtree(directory, ignore_errors=True)

"""Brings up what is measured: sidecar and server (and operator, where wanted) as real processes in a fresh directory.

Separate from the benches, and made of the very parts of `segue up`: the same configuration files, certificates and
supervision. Without an operator the bench itself is the leader and commands the sidecar (`Commander`). Whatever
happens, leaving the block ends every process and removes the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.control import SidecarClient
from segue.engine import ReferenceInput
from segue.errors import ControlUnreachable, SegueError
from segue.model import VoiceSpec, revision_of
from segue.tls import KeyPairFiles, client_context, sidecar_name
from segue.wire import (
    Expected,
    Fence,
    FileSource,
    PointerRequest,
    PointerResult,
    ReferenceSource,
    RevisionPhase,
    RevisionRequest,
    RevisionState,
    StateDocument,
    Tier,
    WatchTerms,
)
from segue_cli.examples import examples_dir
from segue_cli.layout import Layout
from segue_cli.measure.processes import descendants, is_worker
from segue_cli.measure.renderings import RevisionFiles
from segue_cli.up.certificates import ensure_certificates
from segue_cli.up.configs import FLEET, NAMESPACE, Plan, ready_file, write_configs
from segue_cli.up.service import Service

START_S = 60.0
STOP_S = 15.0
READY_S = 120.0
BUDGET_BYTES = 512 << 20


class BenchFailed(SegueError):
    """What should be measured did not even come up, or refused something that it must not refuse."""


@dataclass(slots=True, kw_only=True)
class Stack:
    """The running processes and how to reach them."""

    directory: Path
    plan: Plan
    services: dict[str, Service]
    operator_tls: KeyPairFiles
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Of the speech API."""
        return self.plan.port

    @property
    def voices(self) -> Path:
        """Folder that weight files must lie in."""
        return self.plan.voices

    def pid(self, name: str) -> int:
        """Of `sidecar`, `server` or `operator`."""
        pid = self.services[name].pid
        if pid is None:
            raise BenchFailed(f"{name} is not running: {self.log[-3:]}")
        return pid

    def worker_pids(self) -> list[int]:
        """Of the server's workers: the processes that map a stats page are its direct children."""
        return [pid for pid in descendants(self.pid("server")) if is_worker(pid)]

    def all_pids(self) -> list[int]:
        """Every process of the stack, children of the sidecar included."""
        mains = [service.pid for service in self.services.values() if service.pid is not None]
        return [*mains, *(child for pid in mains for child in descendants(pid))]

    def client(self) -> SidecarClient:
        """A new client of the control API, as the operator would be."""
        tls = client_context(self.operator_tls, server_name=sidecar_name(fleet=FLEET, namespace=NAMESPACE))
        return SidecarClient(f"https://127.0.0.1:{self.plan.control_port}", pod_uid=self.plan.pod_uid, tls=tls)

    def say(self, line: str) -> None:
        """Keep what supervision reports."""
        self.log.append(line)


@contextlib.asynccontextmanager
async def running_stack(
    *,
    name: str,
    with_operator: bool = False,
    workers: int | None = None,
    server: Mapping[str, Any] | None = None,
    sidecar: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> AsyncIterator[Stack]:
    """Run the processes inside this block.

    Parameters
    ----------
    server, sidecar
        Keys put over those that `segue up` writes into the configuration files.
    environment
        Variables of the processes beside our own.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"segue-bench-{name}-"))
    try:
        stack = _prepare(directory, workers=workers, budget_bytes=budget_bytes, with_operator=with_operator)
        override_config(stack.plan.server_config, server or {})
        override_config(stack.plan.sidecar_config, sidecar or {})
        for service in stack.services.values():
            service.environment.update(environment or {})
        async with _services(stack):
            yield stack
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _prepare(directory: Path, *, workers: int | None, budget_bytes: int, with_operator: bool) -> Stack:
    layout = Layout(directory / "state")
    layout.create()
    voices = directory / "voices"
    voices.mkdir()
    ports = free_ports(4)
    plan = Plan(
        layout=layout,
        voices=voices,
        host="127.0.0.1",
        port=ports[0],
        status_port=ports[1],
        control_port=ports[2],
        sidecar_status_port=ports[3],
        pod_uid="bench",
        budget_bytes=budget_bytes,
        workers=workers,
    )
    operator_tls, sidecar_tls = ensure_certificates(layout.tls)
    write_configs(plan, operator_tls=operator_tls, sidecar_tls=sidecar_tls)
    stack = Stack(directory=directory, plan=plan, services={}, operator_tls=operator_tls)
    configs = {"sidecar": plan.sidecar_config, "server": plan.server_config}
    if with_operator:
        configs["operator"] = plan.operator_config
    stack.services = {name: _service(name, config, stack) for name, config in configs.items()}
    return stack


def _service(name: str, config: Path, stack: Stack) -> Service:
    layout = stack.plan.layout
    return Service(
        name=name,
        argv=[sys.executable, "-m", f"segue_{name}", "--config", str(config)],
        ready_file=ready_file(layout, name),
        log_file=layout.logs / f"{name}.log",
        stop_within_s=STOP_S,
        keep_fd=2,
        say=stack.say,
    )


def override_config(path: Path, values: Mapping[str, Any]) -> None:
    """Put keys over those of a configuration file that `segue up` wrote."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}, indent=2), encoding="utf-8")


@contextlib.asynccontextmanager
async def _services(stack: Stack) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(service.run(), name=service.name) for service in stack.services.values()]
    try:
        for service in stack.services.values():
            try:
                async with asyncio.timeout(START_S):
                    await service.wait_ready()
            except TimeoutError as error:
                tail = service.log_file.read_text(errors="replace")[-3000:]
                raise BenchFailed(f"{service.name} did not come up within {START_S:.0f} s:\n{tail}") from error
        yield
    finally:
        for service in reversed(stack.services.values()):
            service.stop.set()
        await asyncio.gather(*tasks, return_exceptions=True)


def free_ports(count: int, *, host: str = "127.0.0.1") -> list[int]:
    """Ports of a loopback address that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


# --- commanding without an operator ---------------------------------------------------------------------------------


class Commander:
    """The bench as leader: has revisions resident, flips, lets go. One fence counter, as a real leader has."""

    def __init__(self, stack: Stack, client: SidecarClient) -> None:
        self.client = client
        self.term = int(time.time())
        self.sequence = 0
        self._stack = stack

    def fence(self) -> Fence:
        """The next one."""
        self.sequence += 1
        return Fence(self.term, self.sequence)

    async def ensure(
        self, voice: str, files: RevisionFiles, *, within_s: float = READY_S, tier: Tier = Tier.HOT
    ) -> RevisionState:
        """Have a revision resident and wait until it is ready. Raises `BenchFailed` where it fails."""
        weights = {name: FileSource(**_source(path)) for name, path in files.weights.items()}
        recording = files.reference
        request = RevisionRequest(
            engine=files.engine,
            options=dict(files.options),
            weights=weights,
            tier=tier,
            reference=ReferenceSource(**_source(recording.path), text=recording.text, language=recording.language)
            if recording
            else None,
        )
        await self.client.ensure_revision(voice, files.revision, request, fence=self.fence(), voice_uid=uid_of(voice))
        return await self.wait_ready(voice, files.revision, within_s=within_s)

    async def wait_ready(self, voice: str, revision: str, *, within_s: float = READY_S) -> RevisionState:
        """Follow the state until the revision is ready."""
        async with asyncio.timeout(within_s):
            state = await self.state()
            while True:
                found = state.voices[voice].revisions.get(revision) if voice in state.voices else None
                if found is not None and found.phase is RevisionPhase.READY:
                    return found
                if found is not None and found.phase is RevisionPhase.FAILED:
                    raise BenchFailed(f"{voice} {revision[:10]} failed: {found.reason}: {found.message}")
                state = await self.client.state(since=state.etag, wait_s=5, term=self.term) or state

    async def state(self) -> StateDocument:
        """The state now; waits while the sidecar is being restarted."""
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(ControlUnreachable):
                    found = await self.client.state(term=self.term)
                    assert found is not None
                    return found
                await asyncio.sleep(0.05)

    async def point(
        self,
        voice: str,
        active: str,
        *,
        candidate: str | None = None,
        weight: int = 0,
        expected: Expected | None = None,
        watch: WatchTerms | None = None,
    ) -> PointerResult:
        """Store the word."""
        request = PointerRequest(active=active, candidate=candidate, weight=weight, expected=expected, watch=watch)
        return await self.client.set_pointer(voice, request, fence=self.fence(), voice_uid=uid_of(voice))

    async def drop(self, voice: str, revision: str, *, within_s: float = READY_S) -> None:
        """Let a revision go and wait until its memory is free."""
        await self.client.drop_revision(voice, revision, fence=self.fence(), voice_uid=uid_of(voice))
        async with asyncio.timeout(within_s):
            state = await self.state()
            while voice in state.voices and revision in state.voices[voice].revisions:
                state = await self.client.state(since=state.etag, wait_s=5, term=self.term) or state


@contextlib.asynccontextmanager
async def commanding(stack: Stack) -> AsyncIterator[Commander]:
    """Command the stack's sidecar inside this block."""
    async with stack.client() as client:
        yield Commander(stack, client)


def uid_of(voice: str) -> str:
    """The uid under which the bench commands a voice."""
    return f"bench-{voice.replace('/', '-')}"


def sha256_of(path: Path) -> str:
    """Digest of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(path: Path) -> dict[str, Any]:
    return {"uri": path.resolve().as_uri(), "sha256": sha256_of(path), "size_bytes": path.stat().st_size}


def revision_files(
    voice: str,
    weights: Mapping[str, Path],
    *,
    options: Mapping[str, Any] | None = None,
    engine: str = "demo",
    reference: ReferenceInput | None = None,
) -> RevisionFiles:
    """Name the revision that a VoiceModel with these files would have."""
    document: dict[str, Any] = {
        "engine": engine,
        "options": dict(options or {}),
        "weights": {
            name: {"uri": path.resolve().as_uri(), "sha256": sha256_of(path)} for name, path in weights.items()
        },
    }
    if reference is not None:
        document["reference"] = {
            "uri": reference.path.resolve().as_uri(),
            "sha256": sha256_of(reference.path),
            "text": reference.text,
            "language": reference.language,
        }
    return RevisionFiles(
        voice=voice,
        revision=revision_of(VoiceSpec.model_validate(document)),
        weights=weights,
        options=options or {},
        engine=engine,
        reference=reference,
    )


def copy_weights(source: Path, target: Path) -> dict[str, Path]:
    """Copy both halves of an example version into the stack's folder."""
    target.mkdir(parents=True, exist_ok=True)
    return {half: Path(shutil.copy(source / f"{half}.pth", target / f"{half}.pth")) for half in ("prosody", "timbre")}


def example_versions() -> Sequence[Path]:
    """Folders of the example voices' weight files: every folder with both halves in it."""
    found = sorted(path.parent for path in (examples_dir() / "voices").rglob("prosody.pth"))
    if not found:
        raise BenchFailed(f"no weight files under {examples_dir() / 'voices'}")
    return [folder for folder in found if (folder / "timbre.pth").exists()]

"""A real `segue up` as a child process, seen from outside.

Separate because the demo and the crash bench do the same with it: start it on a folder, edit YAML, read what it says of
itself, kill parts of it, stop it. What is read are the files and APIs that any user has: `up.json`, the status files
(which outlive a killed operator) and the sidecar's state.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segue.control import SidecarClient
from segue.errors import ControlUnreachable, SegueError
from segue.model import Status
from segue.tls import KeyPairFiles, client_context, sidecar_name
from segue.wire import StateDocument
from segue_cli.editing import Changes, edit_voice
from segue_cli.layout import Layout
from segue_cli.measure.processes import descendants, is_worker
from segue_cli.up.configs import FLEET, NAMESPACE

START_S = 90.0
STOP_S = 60.0
POLL_S = 0.05


class UpFailed(SegueError):
    """`segue up` did not come up, or went away."""


class RunningUp:
    """One `segue up`.

    Parameters
    ----------
    voices
        Folder with the YAML files; edited through `edit`.
    state
        State directory; anything may be there from an earlier run.
    """

    def __init__(self, voices: Path, state: Path, *, workers: int | None = None, memory: str = "768Mi") -> None:
        self.voices = voices
        self.layout = Layout(state)
        self.output = state / "up.output"
        self._arguments = ["up", str(voices), "--state", str(state), "--port", "0", "--memory", memory]
        if workers is not None:
            self._arguments += ["--workers", str(workers)]
        self._child: subprocess.Popen[bytes] | None = None
        self._client: SidecarClient | None = None

    async def start(self) -> None:
        """Start it; returns once all three processes serve."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._child = self._launch()
        await self.until(self.all_ready, within_s=START_S, what="sidecar, server and operator serve")

    def _launch(self) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "segue_cli", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """SIGTERM and wait; what does not end in time is killed."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            self._child.terminate()
        try:
            await asyncio.to_thread(self._child.wait, STOP_S)
        except subprocess.TimeoutExpired:
            for pid in [*self.children().values(), self._child.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._child.wait()

    # --- what it says ------------------------------------------------------------------------------------------------

    def about(self) -> Mapping[str, Any]:
        """`up.json`; empty while there is none."""
        with suppress(OSError, ValueError):
            found = json.loads(self.layout.up_file.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}

    def children(self) -> dict[str, int]:
        """`sidecar`, `server`, `operator` to pid, of those that run."""
        return {str(name): int(pid) for name, pid in self.about().get("children", {}).items()}

    def all_ready(self) -> bool:
        """Whether the process that runs now under each name has said that it serves."""
        children = self.children()
        if len(children) < 3:
            return False
        return all(self._ready_pid(name) == pid for name, pid in children.items())

    def _ready_pid(self, name: str) -> int | None:
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.layout.run / f"{name}.ready.json").read_text(encoding="utf-8"))["pid"])
        return None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the speech API."""
        parts = urlsplit(str(self.about()["server"]))
        return str(parts.hostname), int(parts.port or 80)

    def status(self, voice: str) -> Status:
        """What the operator last wrote about a voice (`namespace/name`); the empty status before that."""
        path = self.layout.status / f"{voice.replace('/', '.')}.json"
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))["voice"].get("status")
            return Status.model_validate(found or {})
        return Status()

    async def state(self, *, since: str | None = None, wait_s: float = 0.0) -> StateDocument | None:
        """The sidecar's state; None when nothing changed since, or while it is out of reach."""
        try:
            return await self._sidecar().state(since=since, wait_s=wait_s)
        except ControlUnreachable:
            await asyncio.sleep(POLL_S)
            return None

    def _sidecar(self) -> SidecarClient:
        if self._client is None:
            about = self.about()
            if not about:
                raise ControlUnreachable("segue up does not run")
            files = KeyPairFiles.of(self.layout.tls / "operator")
            tls = client_context(files, server_name=sidecar_name(fleet=FLEET, namespace=NAMESPACE))
            self._client = SidecarClient(str(about["sidecar"]), pod_uid=str(about["podUid"]), tls=tls)
        return self._client

    @property
    def sidecar(self) -> SidecarClient:
        """For reading reports and recordings."""
        return self._sidecar()

    # --- what is done to it -----------------------------------------------------------------------------------------

    def edit(self, voice: str, changes: Changes) -> None:
        """Edit the YAML of a voice as every `segue` command does: fields by path, comments stay."""
        edit_voice(voice, changes, state=None, voices=self.voices)

    def worker_pids(self) -> list[int]:
        """Of the server's workers that run now."""
        server = self.children().get("server")
        return [] if server is None else [pid for pid in descendants(server) if is_worker(pid)]

    def kill(self, name: str) -> int:
        """SIGKILL to `sidecar`, `server` or `operator`; returns the pid."""
        pid = self.children()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def until(self, true: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Poll a condition; raises `UpFailed` when `segue up` ended or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                while not true():
                    if self._child is not None and self._child.poll() is not None:
                        raise UpFailed(f"segue up ended with {self._child.returncode}: {self._tail()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise UpFailed(f"waited {within_s:.0f} s in vain until {what}: {self._tail()}") from error

    def _tail(self) -> str:
        with suppress(OSError):
            return self.output.read_text(errors="replace")[-1500:]
        return "no output"

"""A real `segue up` in a temporary folder, and ways to wait for what it does: conditions with deadlines, no sleeps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from segue_cli.client import OperatorClient
from segue_cli.layout import Layout

EXAMPLES = Path(__file__).parents[2] / "examples"
POLL_S = 0.05

Found = TypeVar("Found")

VOICE = """\
# One voice, verified in a hurry.
apiVersion: segue.dev/v1alpha1
kind: VoiceModel
metadata:
  name: {name}
spec:
  engine: demo
  weights:
    # how it moves
    prosody: {{uri: {version}/prosody.pth}}
    timbre: {{uri: {version}/timbre.pth}}
  verification:
    minSimilarity: 0
    cases: [{{text: "Please measure the rope twice, then cut it once."}}]
  rollout:
    canary: {{mode: Skip}}
  watch: {{duration: 1s, sustainedFor: 1s, minRequests: 1, minErrors: 1, insufficientTraffic: Proceed}}
"""


def eventually(probe: Callable[[], Found | None], *, within_s: float, what: str) -> Found:
    """Ask again until there is an answer that is true."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(Exception):
            if found := probe():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


@dataclass
class Running:
    """One `segue up`.

    Attributes
    ----------
    home
        Stands for the user's `~/.local/state`.
    """

    home: Path
    voices: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / "up.log"

    @classmethod
    def prepare(cls, root: Path, *, version: str = "examples/narrator/v1") -> Running:
        """A folder with one voice, and with the weights of all examples beside it."""
        voices = root / "voices"
        shutil.copytree(EXAMPLES / "voices", voices / "examples")
        shutil.copytree(EXAMPLES / "updates", voices / "updates")
        for file in (voices / "examples").glob("*.yaml"):
            file.unlink()
        (voices / "narrator.yaml").write_text(VOICE.format(name="narrator", version=version), encoding="utf-8")
        (root / "home").mkdir()
        return cls(root / "home", voices)

    @property
    def environment(self) -> Mapping[str, str]:
        """Nothing of the real user is seen."""
        return {**os.environ, "XDG_STATE_HOME": str(self.home), "NO_COLOR": "1"}

    def start(self, *more: str, until: str = "ready: ") -> Running:
        """Start it and wait until the voice can be spoken with, or until it says something else."""
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*SEGUE, "up", str(self.voices), "--port", str(self.port), "--workers", "1", *more],
                stdout=log,
                stderr=log,
                text=True,
                env=self.environment,
            )
        eventually(lambda: until in self.said() or None, within_s=90, what=f"{until}: {self.said()}")
        return self

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command; its stdout and stderr, the exit code checked."""
        done = subprocess.run(
            [*SEGUE, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.voices,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}{done.stderr}\n--- up said ---\n{self.said()}"
        return done.stdout + done.stderr

    def said(self) -> str:
        """What `up` has printed."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @property
    def layout(self) -> Layout:
        """Its state directory."""
        (root,) = (path for path in (self.home / "segue").iterdir() if path.name != "running")
        return Layout(root)

    @property
    def up(self) -> dict[str, Any]:
        """`up.json`."""
        return dict(json.loads(self.layout.up_file.read_text(encoding="utf-8")))

    def voice(self, key: str = "default/narrator") -> dict[str, Any]:
        """The voice, as the operator shows it."""
        return OperatorClient(self.layout.operator_socket).voice(key)

    def all_pids(self) -> list[int]:
        """`up`, its children and theirs."""
        assert self.process is not None
        return [self.process.pid, *descendants(self.process.pid)]

    def stop(self) -> None:
        """End it, whatever became of it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


SEGUE = (sys.executable, "-c", "from segue_cli.main import main; main()")


def descendants(pid: int) -> list[int]:
    """Children of a process, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                found += [int(child), *descendants(int(child))]
    return found

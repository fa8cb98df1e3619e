"""A `segue up` with two voices, and what is done to it: a good version, a worker that dies, a bad version.

Separate from what watches it. Policies are short, and the bad version is let out to everybody at once, with a watch
that would need five minutes to find out by itself: whatever takes it back sooner is the alert.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.running import Running, descendants, eventually

from segue_cli.measure.processes import is_worker

STAR, OTHER = "narrator", "aria"
KEY = f"default/{STAR}"
TOKEN = "a token of thirty-two characters"
POD = {
    "namespace": "segue-system",
    "pod": "segue-default-7c9f6d5b8-x2x9z",
    "segue_dev_fleet": "default",
    "job": "segue-system/segue-default",
}
LABELS = {
    "server": {**POD, "container": "server", "endpoint": "status"},
    "sidecar": {**POD, "container": "sidecar", "endpoint": "sidecar-status"},
    "operator": {
        "namespace": "segue-system",
        "pod": "segue-operator-5d4c8f7b9-k8s2p",
        "container": "operator",
        "endpoint": "http",
        "job": "segue-system/segue-operator",
    },
}
"""What a PodMonitor of the chart adds; `segue up` has no pods."""

VOICE = """\
apiVersion: segue.dev/v1alpha1
kind: VoiceModel
metadata:
  name: {name}
spec:
  engine: demo
  weights:
    prosody: {{uri: {version}/prosody.pth}}
    timbre: {{uri: {version}/timbre.pth}}
  reference:
    uri: examples/{name}/reference.wav
    text: >-
      {text}
  verification:
    cases:
      - text: "Please measure the rope twice, then cut it once."
      - text: "The server keeps speaking while the new weights arrive."
  rollout:
    canary: {canary}
  watch: {watch}
"""
COPIES = "{mode: Mirror, steps: ['100%'], successes: 5, insufficientTraffic: Proceed, timeout: 20s}"
BRIEF = "{duration: 2s, sustainedFor: 1s, minRequests: 1, minErrors: 1, insufficientTraffic: Proceed}"
LONG = "{duration: 10m, sustainedFor: 5m}"


class Stage:
    """Start it with `start`, and end it with `stop` whatever happens."""

    def __init__(self, root: Path) -> None:
        self._running = Running.prepare(root)
        self.token = root / "token"
        self.token.write_text(TOKEN + "\n", encoding="utf-8")
        self._write(STAR, "examples/narrator/v1", canary="{mode: Skip}", watch=BRIEF)
        self._write(OTHER, "examples/aria/v1", canary="{mode: Skip}", watch=BRIEF)

    def start(self) -> None:
        """Until both voices can be spoken with and nothing is under way."""
        self._running.start("--hooks-token", str(self.token), "--hooks-listen", "127.0.0.1:0")
        for name in (STAR, OTHER):
            eventually(lambda name=name: self._is_settled(name), within_s=60, what=f"{name} is promoted")  # type: ignore[misc]

    def stop(self) -> None:
        """End it."""
        self._running.stop()

    @property
    def up(self) -> dict[str, Any]:
        """`up.json`."""
        return self._running.up

    @property
    def hook(self) -> str:
        """The operator's webhook."""
        return str(self.up["metrics"]["operator"]).replace("/metrics", "/v1/hooks/alertmanager")

    def targets(self) -> list[dict[str, Any]]:
        """`static_configs`: each process with the labels of a pod."""
        addresses = self.up["metrics"]
        return [
            {"targets": [addresses[name].removeprefix("http://").removesuffix("/metrics")], "labels": labels}
            for name, labels in LABELS.items()
        ]

    def status(self) -> dict[str, Any]:
        """Of the star."""
        return dict(self._running.voice(KEY)["status"])

    def events(self, reason: str) -> int:
        """How many of the star's have this reason."""
        return [event["reason"] for event in self._running.voice(KEY)["events"]].count(reason)

    def good_version(self) -> None:
        """It is copied to first, and then confirmed."""
        before = self.status()["stableRevision"]
        self._write(STAR, "updates/narrator/v2", canary=COPIES, watch=BRIEF)
        eventually(
            lambda: self.status()["stableRevision"] != before and self._is_settled(STAR),
            within_s=90,
            what=f"the good version is promoted; it is {self.status()['phase']}",
        )

    def lose_a_worker(self) -> None:
        """SIGKILL; back when the server is ready again."""
        server = self.up["children"]["server"]
        (worker,) = [pid for pid in descendants(server) if is_worker(pid)]
        os.kill(worker, signal.SIGKILL)
        eventually(
            lambda: [pid for pid in descendants(server) if is_worker(pid) and pid != worker],
            within_s=30,
            what="another worker",
        )

    def bad_version(self) -> float:
        """It fails on questions; Unix seconds of the moment at which everybody hears it."""
        self._write(STAR, "updates/narrator/fails-live", canary="{mode: Skip}", watch=LONG)
        try:
            eventually(lambda: self.status()["phase"] == "Watching", within_s=120, what="the bad version is let out")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.status()['phase']}: {self.status()['message']}") from error
        return time.time()

    def wait_for_the_way_back(self, within_s: float) -> float:
        """Unix seconds of the moment at which it was taken back."""
        eventually(lambda: "lastRollback" in self.status(), within_s=within_s, what="the bad version is taken back")
        return time.time()

    def _is_settled(self, name: str) -> bool:
        status = self._running.voice(f"default/{name}")["status"]
        return status["phase"] == "Idle" and status.get("stableRevision") is not None

    def _write(self, name: str, version: str, *, canary: str, watch: str) -> None:
        folder = self._running.voices
        said = (folder / "examples" / name / "reference.txt").read_text(encoding="utf-8")
        text = VOICE.format(name=name, version=version, text=" ".join(said.split()), canary=canary, watch=watch)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

"""The real operator as a process: `python -m segue_operator --config FILE`, under the rights that `deploy/` gives.

Separate because the suite does to it what the world does: kills it, freezes it, lets it go on, asks it to stop, runs
two of it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.pods.kube import Kube, Object
from tests.support.running import eventually

from segue.tls import KeyPairFiles

SYSTEM_NAMESPACE = "segue-system"
LEASE_NAME = "segue-operator"
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{LEASE_NAME}"
LEASE: Mapping[str, Any] = {
    "name": LEASE_NAME,
    "namespace": SYSTEM_NAMESPACE,
    "durationS": 4,
    "renewDeadlineS": 2.8,
    "retryS": 0.4,
}
"""Shorter than the defaults: a killed leader's successor waits this long."""

START_S = 60.0
STOP_S = 20.0


@dataclass(slots=True, kw_only=True)
class OperatorProcess:
    """One replica."""

    name: str
    directory: Path
    kubeconfig: Path
    tls: KeyPairFiles
    port: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _starts: int = 0

    @property
    def log(self) -> Path:
        """What it says, over all its starts."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        assert self._process.poll() is None, f"operator {self.name} ended with {self._process.poll()}: {self.tail()}"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def config(self) -> dict[str, Any]:
        """Its configuration file."""
        return {
            "adapter": "kubernetes",
            "kubeconfig": str(self.kubeconfig),
            "lease": dict(LEASE),
            "listen": f"127.0.0.1:{self.port}",
            "readyFile": str(self._ready_file),
            "logFormat": "json",
            "idlePollS": 10,
            "tls": {"cert": str(self.tls.cert), "key": str(self.tls.key), "ca": str(self.tls.ca)},
            **self.settings,
        }

    @property
    def _ready_file(self) -> Path:
        return self.directory / f"{self.name}.ready.json"

    def start(self) -> OperatorProcess:
        """Start it; nothing is waited for."""
        assert not self.is_running, f"operator {self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{self.name}.json"
        path.write_text(json.dumps(self.config(), indent=2))
        self._starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "segue_operator", "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def start_leading(self, kube: Kube) -> OperatorProcess:
        """Start it and wait until it holds the Lease."""
        before = holder_of(kube)
        self.start()
        eventually(
            lambda: self.is_running and holder_of(kube) not in ("", before),
            within_s=START_S,
            what=f"operator {self.name} leads: {self.tail()}",
        )
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._reap(STOP_S)

    def stop(self) -> int:
        """SIGTERM, and wait; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._reap(STOP_S)

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.is_running:
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Whatever became of it, it is gone afterwards."""
        self.thaw()
        if self.is_running:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()

    def _reap(self, within_s: float) -> int:
        assert self._process is not None
        return self._process.wait(within_s)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else "no log"

    def token_id(self) -> str:
        """What the API server's audit log calls the token that it uses now."""
        text = self.kubeconfig.read_text()
        claims = text.partition("token:")[2].split()[0].strip("'\"").split(".")[1]
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return f"JTI={decoded['jti']}"


def lease(kube: Kube) -> Object | None:
    """The Lease that replicas take turns by."""
    return kube.get(LEASE_PATH)


def holder_of(kube: Kube) -> str:
    """Who holds it; empty: nobody."""
    found = lease(kube)
    return str((found or {}).get("spec", {}).get("holderIdentity") or "")


def wait_for_other_holder(kube: Kube, before: str, *, within_s: float) -> float:
    """Until somebody else holds the Lease; seconds that it took."""
    began_s = time.monotonic()
    eventually(
        lambda: holder_of(kube) not in ("", before), within_s=within_s, what=f"somebody else than {before} leads"
    )
    return time.monotonic() - began_s

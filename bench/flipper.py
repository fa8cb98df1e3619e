"""A lean commander: flips pointers over one open mTLS connection and notes when it sent each command.

Separate process at nice 0, blocking socket, requests encoded beforehand: what is measured is Segue's delay, not that
of an asyncio client that shares two cores with a saturated server. t0 is CLOCK_MONOTONIC just before the bytes are
written.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httptools
from pydantic import BaseModel

from segue.tls import KeyPairFiles, client_context
from segue.wire import (
    HEADER_FENCE,
    HEADER_POD,
    HEADER_TERM,
    HEADER_VOICE_UID,
    HEADER_WIRE,
    WIRE_VERSION,
    Expected,
    Fence,
    PointerRequest,
    PointerResult,
)
from segue_cli.measure.effective import Flip


class FlipTarget(BaseModel):
    """One voice whose pointer goes back and forth between resident revisions."""

    voice: str
    voice_uid: str
    revisions: tuple[str, ...]


class FlipPlan(BaseModel):
    """What to flip, how often, how fast."""

    host: str
    port: int
    server_name: str
    cert: Path
    key: Path
    ca: Path
    pod_uid: str
    term: int
    first_sequence: int
    targets: tuple[FlipTarget, ...]
    flips: int
    gap_s: float


class Flipper:
    """Parent's side of the commanding process."""

    def __init__(self, plan: FlipPlan, *, directory: Path) -> None:
        self._out = directory / "flips.jsonl"
        self._log = directory / "flipper.log"
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.flipper", str(self._out)], stdin=subprocess.PIPE, stderr=log
            )
        assert self._child.stdin is not None
        self._child.stdin.write(plan.model_dump_json().encode())
        self._child.stdin.close()

    @property
    def running(self) -> bool:
        """Whether it still flips."""
        return self._child.poll() is None

    def wait(self, timeout_s: float) -> list[Flip]:
        """Wait for the last flip; raises when one was refused."""
        if self._child.wait(timeout_s) != 0:
            raise RuntimeError(f"the flipper failed: {self._log.read_text()[-2000:]}")
        return [Flip(*json.loads(line)) for line in self._out.read_text().splitlines()]

    def kill(self) -> None:
        """End it at once."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()


class _Answer:
    """Collects one HTTP answer."""

    def __init__(self) -> None:
        self.done = False
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """All is there."""
        self.done = True


def command(plan: FlipPlan, *, turn: int) -> bytes:
    """The bytes of the `turn`-th flip: voices take turns, each goes through its revisions."""
    target = plan.targets[turn % len(plan.targets)]
    step = turn // len(plan.targets) + 1
    active = target.revisions[step % len(target.revisions)]
    before = target.revisions[(step - 1) % len(target.revisions)]
    request = PointerRequest(active=active, expected=Expected(active=before))
    content = request.model_dump_json(by_alias=True, exclude_none=True).encode()
    fence = Fence(plan.term, plan.first_sequence + turn)
    lines = [
        f"PUT /v1/voices/{target.voice}/pointer HTTP/1.1",
        f"Host: {plan.host}:{plan.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        f"{HEADER_WIRE}: {WIRE_VERSION}",
        f"{HEADER_POD}: {plan.pod_uid}",
        f"{HEADER_TERM}: {plan.term}",
        f"{HEADER_FENCE}: {fence}",
        f"{HEADER_VOICE_UID}: {target.voice_uid}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def flip_all(plan: FlipPlan) -> list[Flip]:
    """Open the connection and flip as planned; raises `RuntimeError` at the first refusal."""
    context = client_context(KeyPairFiles(cert=plan.cert, key=plan.key, ca=plan.ca), server_name=plan.server_name)
    flips: list[Flip] = []
    with (
        socket.create_connection((plan.host, plan.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=plan.server_name) as connection,
    ):
        next_s = time.monotonic()
        for turn in range(plan.flips):
            content = command(plan, turn=turn)
            next_s = max(next_s + plan.gap_s, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))
            sent_ns = time.monotonic_ns()
            connection.sendall(content)
            result = _read_result(connection)
            if result.received_monotonic_ns is None or result.stored_monotonic_ns is None:
                raise RuntimeError(f"flip {turn} was not stored at once: {result}")
            flips.append(
                Flip(
                    voice=plan.targets[turn % len(plan.targets)].voice,
                    epoch=result.pointer.epoch,
                    sent_ns=sent_ns,
                    received_ns=result.received_monotonic_ns,
                    stored_ns=result.stored_monotonic_ns,
                    answered_ns=time.monotonic_ns(),
                )
            )
    return flips


def _read_result(connection: socket.socket) -> PointerResult:
    answer = _Answer()
    while not answer.done:
        data = connection.recv(65_536)
        if not data:
            raise RuntimeError("the sidecar closed the connection")
        answer.parser.feed_data(data)
    if answer.parser.get_status_code() != 200:
        raise RuntimeError(f"refused with {answer.parser.get_status_code()}: {answer.body.decode()}")
    return PointerResult.model_validate_json(answer.body)


def write_flips(path: Path, flips: Sequence[Flip]) -> None:
    """One JSON row a flip."""
    path.write_text("".join(json.dumps(flip) + "\n" for flip in flips))


def main() -> None:
    """Read a plan from stdin, flip, write the flips to the path given."""
    plan = FlipPlan.model_validate_json(sys.stdin.buffer.read())
    write_flips(Path(sys.argv[1]), flip_all(plan))


if __name__ == "__main__":
    main()

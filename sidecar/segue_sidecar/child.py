"""One child process, from its spawn to its end, as the sidecar sees it.

Whatever a child does (dies, hangs, is killed for memory, talks nonsense), the sidecar gets exactly one result or one
`ChildFailed`, and the process is gone when it gets it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from segue.errors import SegueError
from segue.memory import memfd
from segue_sidecar.children.channel import MAX_BYTES
from segue_sidecar.throttle import Pacer

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with stage, bytes (or steps) done, and their total."""

Answer = Callable[[Mapping[str, Any]], Awaitable[tuple[Mapping[str, Any], Sequence[int]]]]
"""Answers a child's request with a message and descriptors, which are given away."""

_CREDENTIAL_PREFIXES = ("AWS_", "GOOGLE_", "GCS_", "HF_", "S3_", "FSSPEC_", "SSL_CERT_")
_LAST_BREATH_S = 1.0
_DEVICE_PREFIXES = ("CUDA_", "NVIDIA_")
_ON_DEVICE = frozenset({"upload", "prove", "probe", "rehash", "store"})
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


class ChildKind(StrEnum):
    """What a child is for; see `segue_sidecar.children`."""

    FETCH = "fetch"
    MODELS = "models"
    PREPARE = "prepare"
    UPLOAD = "upload"
    PROVE = "prove"
    PROBE = "probe"
    REHASH = "rehash"
    BUILDS = "builds"
    STORE = "store"
    LOAD = "load"


class ChildFailed(SegueError):
    """A child that did not bring a result.

    Attributes
    ----------
    reason
        CamelCase, for `RevisionState.reason`: what the child said, or ChildDied, ChildHung, ChildTalkedNonsense.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Nursery:
    """Starts children and keeps none that outlives its job."""

    def __init__(self, *, pacer: Pacer, memory_bytes: int, on_end: Callable[[str, str], None]) -> None:
        """`on_end` is told of each child's kind, and `ok` or the reason why it brought nothing."""
        self._pacer = pacer
        self._on_end = on_end
        self._memory_bytes = memory_bytes

    async def run(
        self,
        kind: ChildKind,
        job: Mapping[str, Any],
        *,
        fds: Sequence[int] = (),
        deadline_s: float,
        progress: Progress | None = None,
        answer: Answer | None = None,
    ) -> Mapping[str, Any]:
        """Have one job done. Takes `fds` over, also when it raises. Cancelling kills the child.

        Raises
        ------
        ChildFailed
            It brought an error, died, hung, or talked nonsense.
        """
        child = _spawn(kind, fds=fds, job={**job, "memoryBytes": self._memory_bytes})
        pid, outcome = child.pid, "cancelled"
        try:
            result = await child.converse(
                deadline_s=deadline_s,
                tied=lambda: self._pacer.add(pid),
                waited_s=lambda: self._pacer.stopped_s(pid),
                progress=progress or (lambda _stage, _done, _total: None),
                answer=answer or _no_answer,
            )
            outcome = "ok"
            return result
        except ChildFailed as error:
            outcome = error.reason
            raise
        finally:
            self._on_end(kind, outcome)
            self._pacer.remove(pid)
            child.kill()
            await child.gone()


class _Child:
    """A running process and our end of its channel."""

    def __init__(self, kind: ChildKind, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.kind = kind
        self.pid = process.pid
        self._process = process
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    async def converse(
        self,
        *,
        deadline_s: float,
        tied: Callable[[], None],
        waited_s: Callable[[], float],
        progress: Progress,
        answer: Answer,
    ) -> Mapping[str, Any]:
        """Listen until it brings its result. Time in which it was stopped by us does not count.

        Parameters
        ----------
        tied
            Called once it dies with us and may be stopped.
        """
        began_s = time.monotonic()
        while True:
            left_s = deadline_s - (time.monotonic() - began_s - waited_s())
            if left_s <= 0:
                raise ChildFailed("ChildHung", f"the {self.kind} child did not finish within {deadline_s:g} s: killed")
            try:
                async with asyncio.timeout(min(left_s, 5.0)):
                    message = await self._receive()
            except TimeoutError:
                continue
            match message:
                case {"tied": int()}:
                    tied()
                case {"result": dict(result)}:
                    return result
                case {"error": {"reason": str(reason), "message": str(text)}}:
                    raise ChildFailed(reason, text)
                case {"progress": {"stage": str(stage), "done": int(done), "total": int(total)}}:
                    progress(stage, done, total)
                case {"plan": list()}:
                    self.send(*await answer(message))
                case _:
                    raise self._nonsense(str(message)[:200])

    def kill(self) -> None:
        """End it, whatever it does. Returns at once: giving back a gigabyte takes the kernel a while. Idempotent."""
        self._sock.close()
        if not self._exit.done():
            self._process.send_signal(signal.SIGKILL)

    async def gone(self) -> int:
        """Wait until it is reaped; its exit status. Reaped also when nobody waits."""
        return await asyncio.shield(self._exit)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exit.set_result(self._process.wait())

    async def _receive(self) -> Mapping[str, Any]:
        try:
            data = await self._loop.sock_recv(self._sock, MAX_BYTES)
        except OSError as error:
            raise await self._died() from error
        if not data:
            raise await self._died()
        try:
            message = json.loads(data)
        except ValueError as error:
            raise self._nonsense(repr(data[:200])) from error
        if not isinstance(message, dict):
            raise self._nonsense(repr(data[:200]))
        return message

    def send(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        try:
            socket.send_fds(self._sock, [json.dumps(message).encode()], fds)
        except OSError as error:
            raise ChildFailed("ChildDied", f"the {self.kind} child does not listen: {error.strerror}") from error
        finally:
            memfd.close_all(fds)

    async def _died(self) -> ChildFailed:
        try:
            async with asyncio.timeout(_LAST_BREATH_S):
                status = await self.gone()
        except TimeoutError:
            return ChildFailed("ChildDied", f"the {self.kind} child closed its channel without a result")
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (out of memory, most likely)" if -status == signal.SIGKILL else ""
            return ChildFailed("ChildDied", f"the {self.kind} child was killed by {name}{hint}")
        return ChildFailed("ChildDied", f"the {self.kind} child ended with status {status} without a result")

    def _nonsense(self, shown: str) -> ChildFailed:
        return ChildFailed("ChildTalkedNonsense", f"the {self.kind} child said {shown}, which is no message")


def _spawn(kind: ChildKind, *, fds: Sequence[int], job: Mapping[str, Any]) -> _Child:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            command = [
                sys.executable,
                "-P",
                "-m",
                "segue_sidecar.children",
                kind,
                str(theirs.fileno()),
                str(os.getpid()),
            ]
            process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=_environment(kind)
            )
        ours.setblocking(False)
        child = _Child(kind, process, ours)
    except OSError as error:
        ours.close()
        memfd.close_all(fds)
        raise ChildFailed("ChildNotStarted", f"the {kind} child could not be started: {error}") from error
    try:
        child.send(job, fds)
    except BaseException:
        child.kill()
        raise
    return child


def _environment(kind: ChildKind) -> dict[str, str]:
    """Little, and credentials only for the child that dials out: the others read hostile files."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if kind is ChildKind.FETCH:
        kept |= {name: value for name, value in os.environ.items() if name.startswith(_CREDENTIAL_PREFIXES)}
    if kind in _ON_DEVICE:
        kept |= {name: value for name, value in os.environ.items() if name.startswith(_DEVICE_PREFIXES)}
    return {**kept, **_ONE_THREAD, "PYTHONUNBUFFERED": "1"}


async def _no_answer(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[int]]:
    raise ChildFailed("ChildTalkedNonsense", f"a child asked for something that it cannot have: {str(message)[:200]}")

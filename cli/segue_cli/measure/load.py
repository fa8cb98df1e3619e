"""Sending the requests of a plan, closed or open loop, and recording each.

Separate from the process around it so that tests run it inside their own loop.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import assert_never

from segue_cli.measure.connection import Answer, SpeechConnection, audio_of_events, encode_post
from segue_cli.measure.latency import percentile
from segue_cli.measure.shots import ClosedLoop, LoadPlan, Mode, OpenLoop, Record, Tick

SPEECH_PATH = "/v1/audio/speech"
RECONNECT_PAUSE_S = 0.02


class LoadGenerator:
    """Runs one plan once. `records` grows while it runs.

    A request counts as failed when its answer is not 200, was cut, timed out, holds no audio or names no revision.
    Nothing is ever sent twice.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.records: list[Record] = []
        self._plan = plan
        self._requests = [self._encode(index) for index in range(len(plan.shots))]
        self._idle: list[SpeechConnection] = []
        self._sent = 0
        self._stopped = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._spooled: set[tuple[int, str, str]] = set()
        self._ticked = 0
        self._deadline_ns = 0
        if plan.spool is not None:
            Path(plan.spool).mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        """Send nothing more; `run` returns once what is in flight was answered."""
        self._stopped.set()

    async def run(self) -> list[Record]:
        """Send until the plan's count or time is reached, or `stop` was called."""
        self._deadline_ns = time.monotonic_ns() + int(self._plan.max_s * 1e9)
        match self._plan.pace:
            case ClosedLoop() as pace:
                await self._run_closed(pace)
            case OpenLoop() as pace:
                await self._run_open(pace)
            case never:
                assert_never(never)
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)
        return self.records

    def tick(self) -> Tick:
        """Figures since the tick before."""
        fresh = self.records[self._ticked :]
        self._ticked = len(self.records)
        latencies_ms = [record.latency_ns / 1e6 for record in fresh if record.ok]
        return Tick(
            at_ns=time.monotonic_ns(),
            sent=self._sent,
            done=len(self.records),
            failed=sum(not record.ok for record in fresh),
            shielded=sum(bool(record.shielded) for record in fresh),
            in_flight=self._sent - len(self.records),
            p50_ms=percentile(latencies_ms, 50),
            p99_ms=percentile(latencies_ms, 99),
        )

    # --- pace -------------------------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        return (
            self._stopped.is_set() or self._sent >= self._plan.max_requests or time.monotonic_ns() >= self._deadline_ns
        )

    async def _run_closed(self, pace: ClosedLoop) -> None:
        order = itertools.cycle(range(len(self._plan.shots)))
        async with asyncio.TaskGroup() as listeners:
            for listener in range(pace.concurrency):
                listeners.create_task(self._listen(order, listener))

    async def _listen(self, order: Iterator[int], listener: int) -> None:
        while not self._ended():
            self._sent += 1
            answered = await self._shoot(next(order), due_ns=time.monotonic_ns(), listener=listener)
            if not answered:  # a refused connection must not become a busy loop
                await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _run_open(self, pace: OpenLoop) -> None:
        gap_ns = int(1e9 / pace.rate_per_s)
        begin_ns = time.monotonic_ns()
        order = itertools.cycle(range(len(self._plan.shots)))
        while not self._ended():
            due_ns = begin_ns + self._sent * gap_ns
            await self._wait_until(due_ns)
            if self._stopped.is_set():
                break
            self._sent += 1
            self._launch(next(order), due_ns=due_ns, pace=pace)
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self._plan.drain_s)
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _wait_until(self, due_ns: int) -> None:
        ahead_s = (due_ns - time.monotonic_ns()) / 1e9
        if ahead_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(ahead_s):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _launch(self, shot: int, *, due_ns: int, pace: OpenLoop) -> None:
        if len(self._in_flight) >= pace.max_connections:
            now_ns = time.monotonic_ns()
            self._add(shot, due_ns=due_ns, start_ns=now_ns, answer=Answer(error="too many in flight", end_ns=now_ns))
            return
        task = asyncio.create_task(self._shoot_quietly(shot, due_ns))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _shoot_quietly(self, shot: int, due_ns: int) -> None:
        try:
            await self._shoot(shot, due_ns=due_ns, listener=self._sent)
        except asyncio.CancelledError:
            now_ns = time.monotonic_ns()
            self._add(shot, due_ns=due_ns, start_ns=due_ns, answer=Answer(error="unanswered at the end", end_ns=now_ns))
            raise

    # --- one request ------------------------------------------------------------------------------------------------

    def _encode(self, index: int) -> bytes:
        shot = self._plan.shots[index]
        headers = shot.headers()
        if self._plan.api_key is not None:
            headers["Authorization"] = f"Bearer {self._plan.api_key}"
        host = f"{self._plan.host}:{self._plan.port}"
        return encode_post(path=SPEECH_PATH, host=host, headers=headers, body=shot.body())

    async def _shoot(self, shot: int, *, due_ns: int, listener: int) -> bool:
        start_ns = time.monotonic_ns()
        try:
            connection = await self._connection()
        except (OSError, TimeoutError) as error:
            answer = Answer(error=f"no connection: {type(error).__name__}", end_ns=time.monotonic_ns())
            self._add(shot, due_ns=due_ns, start_ns=start_ns, answer=answer)
            return False
        answer = await connection.exchange(self._request(shot, listener), timeout_s=self._plan.timeout_s)
        if self._is_worn(connection):
            connection.close()
        elif connection.usable:
            self._idle.append(connection)
        self._add(shot, due_ns=due_ns, start_ns=start_ns, answer=answer)
        return answer.status != 0

    def _is_worn(self, connection: SpeechConnection) -> bool:
        return 0 < self._plan.requests_per_connection <= connection.exchanges

    def _request(self, shot: int, listener: int) -> bytes:
        encoded = self._requests[shot]
        if not self._plan.sessions:
            return encoded
        line = f"\r\nSegue-Session: listener-{listener % self._plan.sessions}\r\n".encode()
        return encoded.replace(b"\r\n", line, 1)

    async def _connection(self) -> SpeechConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await SpeechConnection.open(self._plan.host, self._plan.port, timeout_s=self._plan.timeout_s)

    # --- what came back ---------------------------------------------------------------------------------------------

    def _add(self, shot: int, *, due_ns: int, start_ns: int, answer: Answer) -> None:
        audio, error = self._audio(shot, answer)
        revision = answer.headers.get("revision", "")
        digest = blake2b(audio, digest_size=12).hexdigest() if audio else ""
        self.records.append(
            Record(
                shot=shot,
                due_ns=due_ns,
                start_ns=start_ns,
                first_ns=answer.first_ns,
                end_ns=answer.end_ns,
                status=answer.status,
                revision=revision,
                shielded=answer.headers.get("shielded", ""),
                cache=answer.headers.get("cache", ""),
                size_bytes=len(audio),
                digest=digest,
                error=error,
            )
        )
        if not error:
            self._spool(shot, revision=revision, digest=digest, audio=audio)

    def _audio(self, shot: int, answer: Answer) -> tuple[bytes, str]:
        if answer.error:
            return b"", answer.error
        if answer.status != 200:
            return b"", f"status {answer.status}"
        if "revision" not in answer.headers:
            return b"", "no Segue-Revision"
        audio, complete = answer.body, True
        if self._plan.shots[shot].mode is Mode.SSE:
            try:
                audio, complete = audio_of_events(audio)
            except ValueError as error:
                return b"", f"bad event: {error}"
        if not complete:
            return audio, "events without an end"
        return audio, "" if audio else "empty"

    def _spool(self, shot: int, *, revision: str, digest: str, audio: bytes) -> None:
        key = (shot, revision, digest)
        if self._plan.spool is None or key in self._spooled:
            return
        self._spooled.add(key)
        (Path(self._plan.spool) / spool_name(shot, revision=revision, digest=digest)).write_bytes(audio)


def spool_name(shot: int, *, revision: str, digest: str) -> str:
    """File name of a distinct answer."""
    return f"{shot:04d}-{revision[:16]}-{digest}.audio"

"""What must not take the server down: dead sidecars, dead workers, rude clients, too much work, and being stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.mini_sidecar import MiniSidecar
from tests.support.served import HZ, Served, serving
from tests.support.tone_engine import Fault, tone_part

pytestmark = pytest.mark.process
LONG = "a sentence that takes its time, " * 20


def run(directory: Path, scenario: Any, **settings: Any) -> None:
    """Run a scenario against a server of its own."""

    async def main() -> None:
        async with asyncio.timeout(90), serving(directory, **settings) as served:
            await scenario(served)

    asyncio.run(main())


def in_flight(served: Served) -> int:
    """Rows in the engines, as the sidecar sees them."""
    rows = [row for worker in served.sidecar.live() for row in worker.stats.rows().values()]
    return sum(row.counters.in_flight for row in rows)


@contextlib.asynccontextmanager
async def raw_connection(served: Served, *, receive_bytes: int = 0) -> AsyncIterator[socket.socket]:
    """A client that speaks bytes, with a small receive buffer where one is given."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port))
    with sock:
        yield sock


def request_bytes(text: str, **fields: Any) -> bytes:
    body = json.dumps({"voice": "narrator", "input": text, "response_format": "pcm", **fields}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read_to_end(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while piece := await loop.sock_recv(sock, 65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_dead_sidecar_fails_no_request_and_its_successor_adopts(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        stop = asyncio.Event()
        failed: list[httpx.Response] = []

        async def listen(listener: int) -> int:
            spoken = 0
            while not stop.is_set():
                answer = await served.speak(f"listener {listener} at {spoken}")
                spoken += 1
                if answer.status_code != 200:
                    failed.append(answer)
            return spoken

        listening = [asyncio.create_task(listen(number)) for number in range(4)]
        await served.sidecar.die()
        without = await served.speak("nobody is there")
        assert without.status_code == 200

        successor = MiniSidecar(served.directory)
        successor.start(adopt=True)
        served.sidecar = successor
        await successor.until(lambda: len(successor.live()) == 2 and len(successor.held) == 1)
        assert all(worker.holding == {served.handle} for worker in successor.live())
        await successor.until_joined(2)
        second = await successor.offer(served.voice, {"tone": tone_part(700.0)})
        successor.point(served.voice, second)
        after = await served.speak("under the successor")
        assert after.headers["segue-revision"] == successor.revision(second)
        await successor.retire(served.handle)
        assert successor.free(served.handle)

        stop.set()
        assert sum([await task for task in listening]) > 0
        assert failed == []

    run(tmp_path, scenario, workers=2)


def test_a_sidecar_with_another_page_gets_fresh_workers_and_nobody_notices(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        first_pid = served.sidecar.live()[0].pid
        await served.sidecar.die()
        stranger = MiniSidecar(served.directory)
        stranger.start()
        served.sidecar = stranger
        voice = stranger.voice("narrator")
        stop = asyncio.Event()

        async def listen() -> list[int]:
            codes: list[int] = []
            while not stop.is_set():
                codes.append((await served.speak(f"number {len(codes)}")).status_code)
            return codes

        listening = asyncio.create_task(listen())
        await stranger.until(lambda: any(worker.pid != first_pid for worker in stranger.live()))
        handle = await stranger.offer(voice, {"tone": tone_part(700.0)})
        stranger.point(voice, handle)
        while (await served.speak("whose")).headers["segue-revision"] != stranger.revision(handle):
            pass

        async def first_is_gone() -> bool:
            return first_pid not in [worker["pid"] for worker in (await served.stats())["workers"]]

        await served.until(first_is_gone)
        stop.set()
        assert set(await listening) <= {200, 503}
        assert (await served.speak("still there")).status_code == 200

    run(tmp_path, scenario)


def test_a_killed_worker_is_started_again_and_its_totals_are_kept(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        for number in range(5):
            await served.speak(f"count {number}")
        await served.until_stats(served.handle, successes=5, inFlight=0)
        asking = asyncio.create_task(served.speak(LONG))
        await served.sidecar.until(lambda: in_flight(served) == 1)
        os.kill(served.sidecar.live()[0].pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await asking
        await served.sidecar.until(lambda: not served.sidecar.live())
        await served.sidecar.until_joined(1)
        assert (await served.speak("back")).status_code == 200
        line = await served.until_stats(served.handle, successes=6, inFlight=0)
        assert line["died"] == 1
        metrics = (await served.status.get("/metrics")).text
        assert 'outcome="died"' in metrics
        assert "segue_worker_restarts_total 1.0" in metrics

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.005))


def test_a_replacement_takes_no_connections_before_it_can_speak(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        await served.sidecar.until_joined(2)
        served.sidecar.holds_back = True
        before = {worker.pid for worker in served.sidecar.live()}
        os.kill(min(before), signal.SIGKILL)
        await served.sidecar.until(lambda: any(worker.pid not in before for worker in served.sidecar.live()))
        (joining,) = [worker for worker in served.sidecar.live() if worker.pid not in before]
        answers = [
            await served.speak(f"by the other one {number}", headers={"Connection": "close"}) for number in range(20)
        ]
        assert [answer.status_code for answer in answers] == [200] * 20
        served.sidecar.let_in(joining)
        await served.sidecar.until_joined(2)
        asking = [asyncio.create_task(served.speak(f"{number} {LONG}")) for number in range(16)]
        await served.sidecar.until(lambda: any(row.counters.in_flight for row in joining.stats.rows().values()))
        assert [(await task).status_code for task in asking] == [200] * 16

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.002), workers=2)


def test_stopping_finishes_what_is_under_way(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        asking = [asyncio.create_task(served.speak(f"{n} {LONG}")) for n in range(4)]
        await served.sidecar.until(lambda: in_flight(served) == 4)
        status = asyncio.create_task(served.stop())
        answers = [await task for task in asking]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(len(answer.content) > 1000 for answer in answers)
        assert await status == 0
        with pytest.raises(httpx.ConnectError):
            await served.speak("too late")

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.005))


def test_connections_are_spread_over_the_workers(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        asking = [asyncio.create_task(served.speak(f"{number} {LONG}")) for number in range(16)]
        await served.sidecar.until(lambda: in_flight(served) == 16)
        shares = [
            sum(row.counters.in_flight for row in worker.stats.rows().values()) for worker in served.sidecar.live()
        ]
        assert [(await task).status_code for task in asking] == [200] * 16
        assert min(shares) >= 3

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.005), workers=2)


def test_the_workers_end_with_their_supervisor_and_finish_what_they_have(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        pids = [worker.pid for worker in served.sidecar.live()]
        asking = [asyncio.create_task(served.speak(f"{number} {LONG}")) for number in range(4)]
        await served.sidecar.until(lambda: in_flight(served) == 4)
        served.process.kill()
        assert [(await task).status_code for task in asking] == [200] * 4
        await served.sidecar.until(lambda: not any(is_alive(pid) for pid in pids))

    def is_alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.005), workers=2)


def test_a_queue_that_is_full_answers_429_at_once(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async def ask(number: int) -> tuple[int, float, str]:
            began_s = time.monotonic()
            answer = await served.speak(f"{number} {LONG}")
            return answer.status_code, time.monotonic() - began_s, answer.headers.get("retry-after", "")

        answers = await asyncio.gather(*(ask(number) for number in range(40)))
        refused = [answer for answer in answers if answer[0] == 429]
        assert {answer[0] for answer in answers} == {200, 429}
        assert len(refused) >= 25
        assert all(int(retry_after) >= 1 for _, _, retry_after in refused)
        slowest_served = max(seconds for code, seconds, _ in answers if code == 200)
        assert max(seconds for _, seconds, _ in refused) < slowest_served

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.004), queueLimit=8)


def test_a_client_that_leaves_frees_its_row(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async with raw_connection(served) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, request_bytes(LONG))
            await served.sidecar.until(lambda: in_flight(served) == 1)
        line = await served.until_stats(served.handle, inFlight=0, cancelled=1)
        assert line["successes"] == 0
        assert sum(line["errors"].values()) == 0

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.05))


def test_a_follower_keeps_the_answer_that_its_leader_left(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async with raw_connection(served) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, request_bytes(LONG))
            await served.sidecar.until(lambda: in_flight(served) == 1)
            follower = asyncio.create_task(served.speak(LONG))

            async def both_are_admitted() -> bool:
                return bool((await served.stats())["counts"]["admissions"] == 2)

            await served.until(both_are_admitted)
        answer = await follower
        assert answer.status_code == 200
        assert answer.headers["segue-cache"] == "hit"
        await served.until_stats(served.handle, inFlight=0, successes=1, cancelled=0)

    run(tmp_path, scenario, part=tone_part(HZ, step_s=0.004))


def test_a_client_that_reads_nothing_is_cut_off_and_stalls_nobody(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        loop = asyncio.get_running_loop()
        async with raw_connection(served, receive_bytes=4096) as sock:
            await loop.sock_sendall(sock, request_bytes("x" * 4000))
            await served.sidecar.until(lambda: in_flight(served) == 1)
            began_s = time.monotonic()
            assert (await served.speak("somebody else")).status_code == 200
            assert time.monotonic() - began_s < 1.5
            line = await served.until_stats(served.handle, inFlight=0, cancelled=1)
            assert line["audioS"] < 60  # of 200 s: the row was paused, not finished into memory
            received = await read_to_end(sock)
        assert not received.endswith(b"0\r\n\r\n")

    run(tmp_path, scenario, timeouts={"readerS": 1.5})


def test_half_a_request_times_out_and_holds_nothing(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        loop = asyncio.get_running_loop()
        async with raw_connection(served) as half_head, raw_connection(served) as half_body:
            await loop.sock_sendall(half_head, b"POST /v1/audio/speech HT")
            await loop.sock_sendall(half_body, request_bytes("complete")[:-5])
            assert (await served.speak("others go on")).status_code == 200
            assert await read_to_end(half_head) == b""
            assert b" 408 " in (await read_to_end(half_body)).split(b"\r\n")[0]

    run(tmp_path, scenario, timeouts={"headS": 0.5, "bodyS": 0.5})


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        loop = asyncio.get_running_loop()
        async with raw_connection(served) as sock:
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n" + b"X-Filler: aaaaaaaa\r\n" * 10_000)
            assert b" 400 " in (await read_to_end(sock)).split(b"\r\n")[0]

    run(tmp_path, scenario)


def test_a_voice_that_makes_no_audio_times_out_and_counts(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        voice = served.sidecar.voice("hangs")
        handle = await served.sidecar.offer(voice, {"tone": tone_part(HZ, fault=Fault.HANG)})
        served.sidecar.point(voice, handle)
        answer = await served.speak("anything", voice=voice.name)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_passed")
        line = await served.until_stats(handle, inFlight=0)
        assert line["errors"]["timeout"] == 1

    run(tmp_path, scenario, requestDeadlineS=0.6)


def test_a_step_that_never_ends_gets_the_worker_replaced(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        pid = served.sidecar.live()[0].pid
        voice = served.sidecar.voice("stuck")
        handle = await served.sidecar.offer(voice, {"tone": tone_part(HZ, fault=Fault.STALL, fault_on="now")})
        served.sidecar.point(voice, handle)
        asking = asyncio.create_task(served.speak("now", voice=voice.name))
        await served.sidecar.until(lambda: any(worker.pid != pid for worker in served.sidecar.live()))
        assert (await asking).status_code == 504
        await served.sidecar.until(lambda: all(worker.pid != pid for worker in served.sidecar.live()))
        async with httpx.AsyncClient(base_url=served.ready["listen"]) as fresh:
            body = {"voice": "narrator", "input": "alive", "response_format": "pcm"}
            assert (await fresh.post("/v1/audio/speech", json=body)).status_code == 200

    run(tmp_path, scenario, requestDeadlineS=3, timeouts={"engineStallS": 0.5}, drainSeconds=4)


def test_readiness_waits_for_the_sidecar_and_health_does_not(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.status.get("/healthz")).status_code == 200
        assert (await served.status.get("/readyz")).status_code == 200
        assert (await served.speak("a word that can be resolved")).status_code == 200
        served.sidecar.point(served.voice, 999)
        assert (await served.speak("the last word that could be resolved")).status_code == 200

        async def says_why() -> bool:
            answer = await served.status.get("/readyz")
            return answer.status_code == 503 and "does not have" in answer.text

        await served.until(says_why)

    run(tmp_path, scenario)


def test_a_mistake_in_the_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    async def main() -> tuple[int | None, str]:
        config = tmp_path / "server.yaml"
        config.write_text("listen: 127.0.0.1:0\nsocketDir: run\nworkerz: 3\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "segue_server", "--config", str(config)), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        return process.returncode, errors.decode()

    status, errors = asyncio.run(main())
    assert status == 2
    assert "server.yaml:3: workerz" in errors

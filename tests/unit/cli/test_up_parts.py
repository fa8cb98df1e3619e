"""The parts of `segue up`: where state lies, who holds it, what is kept running. Children are small scripts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.running import alive, eventually

from segue_cli.layout import MAX_SOCKET_PATH_BYTES, Layout, StateUnusable, default_state, register, registered
from segue_cli.layout import unregister as forget
from segue_cli.up import lock
from segue_cli.up.backoff import GOOD_RUN_S, LONGEST_S, Backoff
from segue_cli.up.certificates import ensure_certificates
from segue_cli.up.ports import PortTaken, free_port, require_free
from segue_cli.up.service import Service
from segue_cli.up.supervisor import Supervisor

SERVES = """
import json, os, signal, sys, time
open(sys.argv[1], "w").write(json.dumps({"pid": os.getpid()}))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True: time.sleep(60)
"""
STUBBORN = SERVES.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
FAILS = "import sys; sys.exit('error: no room')"


def test_the_same_folder_has_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert default_state(Path("voices")) == default_state(tmp_path / "voices")
    assert default_state(tmp_path / "voices") != default_state(tmp_path / "others")


def test_sockets_fit_however_deep_the_state_lies(tmp_path: Path) -> None:
    layout = Layout(tmp_path / ("deep" * 30))
    assert len(os.fsencode(layout.handoff / "sidecar.sock")) <= MAX_SOCKET_PATH_BYTES
    layout.create()
    assert layout.run.stat().st_mode & 0o777 == 0o700
    for folder in (layout.handoff, layout.run):
        folder.rmdir()


def test_a_run_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable, match="is not a directory"):
        Layout(tmp_path / "state").create()


def test_state_directories_in_use_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    layout = Layout(tmp_path / "chosen")
    register(layout)
    assert list(registered()) == [layout]
    forget(layout)
    assert not list(registered())


def test_one_lock_and_the_second_names_the_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    fd = lock.acquire(layout, patience_s=0, say=print)
    assert lock.is_running(layout)
    with pytest.raises(lock.AlreadyRunning, match=f"pid {os.getpid()}"):
        lock.acquire(layout, patience_s=0, say=print)
    os.close(fd)
    assert not lock.is_running(layout)


def test_what_a_dead_up_left_behind_is_waited_for_and_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    fd = lock.acquire(layout, patience_s=0, say=print)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(fd,))
    os.close(fd)
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    layout.lock_file.write_text(dead.stdout.decode(), encoding="utf-8")
    layout.up_file.write_text(json.dumps({"children": {"server": child.pid}}), encoding="utf-8")
    said: list[str] = []
    with pytest.raises(lock.AlreadyRunning, match=rf"server \(pid {child.pid}\)"):
        lock.acquire(layout, patience_s=0, say=said.append)
    child.communicate(b"\n")
    os.close(lock.acquire(layout, patience_s=5, say=said.append))
    assert "an earlier segue up left behind" in said[0]


def test_delays_double_up_to_a_limit_and_start_anew_after_a_good_run() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay_s(ran_s=0) for _ in range(12)]
    assert 0.1 <= delays[0] <= 0.2
    assert all(delay <= LONGEST_S for delay in delays)
    assert delays[-1] >= LONGEST_S / 2
    assert backoff.next_delay_s(ran_s=GOOD_RUN_S) <= 0.2


def test_a_port_that_is_taken_is_said_so() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken, match="choose another with --port"):
            require_free("127.0.0.1", taken.getsockname()[1])
    assert require_free("127.0.0.1", 0) > 1023
    assert free_port() > 1023


def test_certificates_are_made_once(tmp_path: Path) -> None:
    first, _ = ensure_certificates(tmp_path)
    before = first.cert.read_bytes()
    second, _ = ensure_certificates(tmp_path)
    assert second.cert.read_bytes() == before


# --- children ---------------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    """Poll; callers bound it with `asyncio.timeout`."""
    while not condition():  # noqa: ASYNC110 - what is polled happens in other processes
        await asyncio.sleep(0.01)


def service(root: Path, name: str, script: str, said: list[str], *, stop_within_s: float = 10) -> Service:
    ready = root / f"{name}.ready"
    lock_fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT)
    made = Service(
        name=name,
        argv=(sys.executable, "-c", script, str(ready)),
        ready_file=ready,
        log_file=root / f"{name}.log",
        stop_within_s=stop_within_s,
        keep_fd=lock_fd,
        say=said.append,
    )
    os.set_inheritable(lock_fd, False)
    return made


@pytest.mark.process
def test_what_dies_is_started_again_and_the_end_is_orderly(tmp_path: Path) -> None:
    said: list[str] = []
    one = service(tmp_path, "one", SERVES, said)

    async def scene() -> tuple[int, int]:
        async with asyncio.timeout(30), Supervisor(services=[one], say=said.append).running():
            first = (await one.wait_ready())["pid"]
            os.kill(first, signal.SIGKILL)
            await until(lambda: one.starts == 2 and one.ready() is not None)
            second = (await one.wait_ready())["pid"]
        return first, second

    first, second = asyncio.run(scene())
    os.close(one.keep_fd)
    assert not alive(first)
    assert not alive(second)
    assert any("one was ended by SIGKILL; starting it again in" in line for line in said)


@pytest.mark.process
def test_a_child_that_fails_is_quoted(tmp_path: Path) -> None:
    said: list[str] = []
    one = service(tmp_path, "one", FAILS, said)

    async def scene() -> None:
        async with asyncio.timeout(30), Supervisor(services=[one], say=said.append).running():
            await until(lambda: bool(said))

    asyncio.run(scene())
    os.close(one.keep_fd)
    assert "one ended by itself with exit code 1" in said[0]
    assert "error: no room" in said[0]


@pytest.mark.process
def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    one = service(tmp_path, "one", STUBBORN, said, stop_within_s=0.2)

    async def scene() -> int:
        async with asyncio.timeout(30), Supervisor(services=[one], say=said.append).running():
            return int((await one.wait_ready())["pid"])

    pid = asyncio.run(scene())
    os.close(one.keep_fd)
    assert not alive(pid)
    assert "one did not stop within 0 s; killing it" in said


@pytest.mark.process
def test_services_stop_one_after_the_other(tmp_path: Path) -> None:
    said: list[str] = []
    order = tmp_path / "order"
    script = SERVES.replace("sys.exit(0)", f"(open({str(order)!r}, 'a').write(sys.argv[1] + chr(10)), sys.exit(0))")
    services = [service(tmp_path, name, script, said) for name in ("first", "second")]

    async def scene() -> None:
        async with asyncio.timeout(30), Supervisor(services=services, say=said.append).running():
            await asyncio.gather(*(each.wait_ready() for each in services))

    asyncio.run(scene())
    for each in services:
        os.close(each.keep_fd)
    assert [Path(line).name for line in order.read_text(encoding="utf-8").split()] == ["first.ready", "second.ready"]


@pytest.mark.process
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from tests.unit.cli.test_up_parts import SERVES, service
from segue_cli.up.supervisor import Supervisor
async def main():
    one = service(Path({str(tmp_path)!r}), "one", SERVES, [])
    async with Supervisor(services=[one], say=print).running():
        print((await one.wait_ready())["pid"], flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert alive(child)
        process.kill()
    began = time.monotonic()
    eventually(lambda: not alive(child), within_s=10, what="the child has ended")
    assert time.monotonic() - began < 10

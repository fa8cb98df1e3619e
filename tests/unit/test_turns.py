"""Short turns are taken by who asks, and by nobody else."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from segue.turns import TURN_S, take_short_turns

ASKS = """
import os, sys
from pathlib import Path
from segue.turns import take_short_turns

os.nice(3)
before = Path("/proc/self/sched").read_text()
took = [take_short_turns() for _ in range(2)]
after = Path("/proc/self/sched").read_text()
child = os.fork()
if child == 0:
    print("child", Path("/proc/self/sched").read_text().replace(chr(10), "|"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("took", took, "nice", os.nice(0))
print("before", before.replace(chr(10), "|"))
print("after", after.replace(chr(10), "|"))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the call's number is not known here")
def test_only_who_asks_takes_short_turns_and_keeps_its_share() -> None:
    answer = subprocess.run([sys.executable, "-c", ASKS], check=True, capture_output=True, text=True, timeout=60).stdout
    said = dict(line.split(" ", 1) for line in answer.splitlines())
    assert said["took"] == "[True, True] nice 3"
    slices = {
        name: float(found.group(1))
        for name in ("before", "after", "child")
        if (found := re.search(r"se\.slice\s*:\s*([\d.]+)", said[name]))
    }
    if not slices:
        release = os.uname().release
        pytest.skip(f"/proc/self/sched of Linux {release} shows no turn: they have one length before 6.12")
    assert slices["after"] == TURN_S * 1e9
    assert slices["child"] == slices["before"] > slices["after"]


def test_another_policy_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_BATCH)
    assert not take_short_turns()


def test_another_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not take_short_turns()

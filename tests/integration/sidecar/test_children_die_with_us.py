"""A child that is stopped by the throttle must not outlive a sidecar that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segue_cli.measure.processes import alive

WITHIN_S = 20.0

PARENT = """
import json, os, socket, subprocess, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
command = [sys.executable, "-P", "-m", "segue_sidecar.children", "rehash", str(theirs.fileno()), str(os.getpid())]
child = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
said = json.loads(ours.recv(1000))
assert said == {"tied": os.getpid()}, said
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_child_that_is_stopped_dies_with_a_killed_sidecar(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    deadline_s = time.monotonic() + WITHIN_S
    while alive(child):
        assert time.monotonic() < deadline_s, f"the child {child} is still there"
        time.sleep(0.01)

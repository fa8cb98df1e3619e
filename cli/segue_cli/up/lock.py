"""One `segue up` per state directory, and no second one before the last child of the first is gone.

Separate because the lock outlives the process that took it: children inherit the descriptor, so that after a
`kill -9` of `up` the directory stays taken until the sidecar and the workers have really ended. A pid file alone
could not say that.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from segue.errors import SegueError
from segue_cli.layout import Layout

POLL_S = 0.1


class AlreadyRunning(SegueError):
    """Another `segue up` holds the state directory."""


def acquire(layout: Layout, *, patience_s: float, say: Callable[[str], None]) -> int:
    """Take the state directory; returns the locked file descriptor, which children may inherit.

    Raises
    ------
    AlreadyRunning
        A living `segue up` holds it, or what a dead one left behind did not end within `patience_s`.
    """
    fd = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(fd, layout, patience_s=patience_s, say=say)
    except BaseException:
        os.close(fd)
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _wait_for_lock(fd: int, layout: Layout, *, patience_s: float, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + patience_s
    said = False
    while not _try_lock(fd):
        owner = holder(layout)
        if owner is not None and alive(owner):
            raise AlreadyRunning(
                f"segue up is already running on {layout.root} (pid {owner}); stop it, or choose another directory "
                "with --state"
            )
        if not said:
            said = True
            say(f"waiting for what an earlier segue up left behind: {_left_behind(layout)}")
        if time.monotonic() >= deadline:
            raise AlreadyRunning(
                f"an earlier segue up on {layout.root} is gone, but after {patience_s:.0f} s some of its processes "
                f"still run: {_left_behind(layout)}; end them, or choose another directory with --state"
            )
        time.sleep(POLL_S)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(layout: Layout) -> int | None:
    """The pid that took the lock last, dead or alive."""
    try:
        return int(layout.lock_file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return None


def is_running(layout: Layout) -> bool:
    """Whether a living `segue up` holds this directory."""
    try:
        fd = os.open(layout.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if _try_lock(fd):
            return False
    finally:
        os.close(fd)
    owner = holder(layout)
    return owner is not None and alive(owner)


def alive(pid: int) -> bool:
    """Whether a process with this pid exists and is no zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return fields.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _left_behind(layout: Layout) -> str:
    found = [f"{name} (pid {pid})" for name, pid in read_up_file(layout).get("children", {}).items() if alive(pid)]
    return ", ".join(found) or "its children are ending"


def read_up_file(layout: Layout) -> dict[str, Any]:
    """`up.json`, or nothing where there is none."""
    with suppress(OSError, ValueError):
        found = json.loads(layout.up_file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}

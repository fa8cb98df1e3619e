"""Start of every child: `python -P -m segue_sidecar.children KIND CHANNEL_FD`.

Limits are set before the job is read; the job's module is imported after that. The first message says that the child
dies with its sidecar: only from then on may it be stopped, or one that is stopped could outlive a sidecar for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from segue.errors import SegueError
from segue_sidecar.children.channel import Channel, JobError, cut

_JOBS = ("fetch", "models", "prepare", "upload", "prove", "probe", "rehash", "builds", "store", "load")
_AWAITED = "load"
"""Somebody waits for what it does: it yields to listeners, like all children, but not to everything else."""

_PR_SET_PDEATHSIG = 1
_NICENESS = 19


def main() -> int:
    """Run one job; the exit status is 0 also for a job that failed in an orderly way."""
    kind, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind not in _JOBS:
        raise SystemExit(f"unknown job {kind!r}; known are {', '.join(_JOBS)}")
    _die_with(parent)
    _be_humble(idle=kind != _AWAITED)
    channel = Channel(socket.socket(fileno=fd))
    channel.send({"tied": parent})
    job, fds = channel.receive()
    if "cuda" not in job.get("memory", {}):  # whose driver reserves more addresses than any limit would allow
        _limit_memory(int(job["memoryBytes"]))
    try:
        result = importlib.import_module(f"segue_sidecar.children.{kind}").run(job, fds, channel)
    except JobError as error:
        channel.send({"error": {"reason": error.reason, "message": cut(str(error))}})
    except SegueError as error:
        channel.send({"error": {"reason": type(error).__name__.rstrip("_"), "message": cut(str(error))}})
    except MemoryError:
        most = int(job["memoryBytes"])
        channel.send({"error": {"reason": "OutOfMemory", "message": f"needs more than the {most} bytes of a child"}})
    except EOFError:
        return 1
    except Exception as error:
        logging.getLogger(__name__).exception("the job %s failed", kind)
        channel.send({"error": {"reason": "InternalError", "message": cut(f"{type(error).__name__}: {error}")}})
    else:
        channel.send({"result": result})
    return 0


def _die_with(parent: int) -> None:
    """A sidecar that is killed must not leave anybody behind who still writes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the sidecar was gone before its child began")


def _be_humble(*, idle: bool) -> None:
    """Yield the processor to everybody, be the first to go when memory is short, and leave no core file."""
    os.nice(_NICENESS)
    if idle:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(most_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    sys.exit(main())

"""`make cluster`: a control plane for a developer, until Ctrl-C. Also what `make integration` prepares itself with."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.support.cluster.binaries import CONTROL_PLANE, HELM, NoBinary, obtain
from tests.support.cluster.cluster import ClusterUnavailable, open_cluster

EXAMPLES = """\
  make cluster                                  until Ctrl-C; prints the line to paste into another terminal
  make cluster ARGS="--kubeconfig kube.yaml"    also writes it to a file of your choice
  python -m tests.support.cluster prepare       only build or download what is needed

The programs are looked for in $KUBEBUILDER_ASSETS, in PATH and in the cache, then built with go, then downloaded.
There is no kubelet: pods stay Pending until somebody patches their status.
"""


def main() -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.cluster",
        description="A kube-apiserver with Segue's CRD on this machine, for development and tests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=("up", "prepare"), default="up", help="default: up")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="write the administrator's kubeconfig there too"
    )
    arguments = parser.parse_args()
    try:
        if arguments.command == "prepare":
            prepare()
        else:
            up(arguments.kubeconfig)
    except (ClusterUnavailable, NoBinary) as error:
        print(f"No cluster: {error}", file=sys.stderr)
        return 1
    return 0


def prepare() -> None:
    """Have every program at hand, helm too, with a line for each."""
    for name in (*CONTROL_PLANE, HELM):
        say(f"{name}: {obtain(name, say=say)}")


def up(kubeconfig: Path | None) -> None:
    """Bring it up, say how to use it, wait for Ctrl-C or SIGTERM, take it down."""
    started = time.monotonic()
    blocked = {signal.SIGINT, signal.SIGTERM}
    with open_cluster(say=say) as cluster:
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        if kubeconfig is not None:
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_bytes(cluster.kubeconfig.read_bytes())
        say(f"ready after {time.monotonic() - started:.1f} s, with the CRD; Ctrl-C stops it")
        print(f"export KUBECONFIG={kubeconfig.resolve() if kubeconfig else cluster.kubeconfig}", flush=True)
        signal.sigwait(blocked)
        say("stopping")


def say(line: str) -> None:
    """Progress goes to standard error: standard output can be sourced."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

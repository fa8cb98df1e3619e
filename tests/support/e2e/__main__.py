"""`make e2e`: the images are built, a node is brought up, and the suite runs on it; or on kind, or on a cluster given.

Separate from pytest because what is downloaded and built must be there before the node's namespaces are entered, from
which nothing can be reached.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.cluster.binaries import NoBinary
from tests.support.cluster.cluster import KUBECONFIG
from tests.support.e2e.kind import NoKind, on_kind
from tests.support.e2e.place import IMAGES
from tests.support.node import NodeUnavailable, isolation
from tests.support.node.__main__ import prepare, run
from tools.images import ImageError, build

SUITE = "tests/e2e"
OUTPUT = Path("build/images")
EXAMPLES = """\
  make e2e                                   on a node of our own; needs root, brings what it needs
  make e2e CLUSTER=kind                      on kind, where a Docker engine is
  make e2e PYTEST_ARGS="-k sidecar -x"       some of it
  SEGUE_TEST_KUBECONFIG=… SEGUE_TEST_CONTEXT=… make e2e
                                             on that cluster, which has the images (make images) already
"""


def main() -> int:
    """Parse and run; pytest's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.e2e",
        description="The end-to-end suite: the chart on a real node, under traffic.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cluster", choices=("own", "kind"), default="own", help="whose node (default: own)")
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="arguments of pytest, after --")
    chosen = parser.parse_args()
    words = [word for word in chosen.pytest if word != "--"]
    command = [sys.executable, "-m", "pytest", SUITE, *words]
    try:
        if os.environ.get(KUBECONFIG):
            return os.spawnv(os.P_WAIT, sys.executable, command)
        if chosen.cluster == "kind":
            return on_kind(command, images=images, say=say)
        return on_own_node(command)
    except (NoBinary, NodeUnavailable, NoKind, ImageError, isolation.CannotIsolate) as error:
        print(f"No cluster to test on: {error}", file=sys.stderr)
        return 1


def on_own_node(command: Sequence[str]) -> int:
    """Have everything at hand, then run the suite in the namespaces of a node."""
    prepare()
    images()
    os.environ[IMAGES] = str(OUTPUT.resolve())
    return run(command)


def images() -> Sequence[Path]:
    """Build them, or take them from the cache; their archives."""
    return [image.archive for image in build(output=OUTPUT, say=say).values()]


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

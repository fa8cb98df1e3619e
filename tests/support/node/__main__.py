"""`make node`: a shell on a real Kubernetes node of one's own. Also how the end-to-end suite gets onto one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster.binaries import CONTROL_PLANE, HELM, NODE, NoBinary, cache_root, obtain
from tests.support.node import isolation, packages
from tests.support.node.node import NodeUnavailable, open_node

EXAMPLES = """\
  make node                                          a shell with KUBECONFIG set, on a node without images of ours
  make node ARGS="up --load build/images/server.tar"    with an image in it; --load may be repeated
  python -m tests.support.node prepare               only install, build or download what is needed
  python -m tests.support.node run -- COMMAND …      a command in the namespaces of a node, which it brings up itself

It needs root. Everything is in namespaces of its own and ends with the shell; nothing outside can be reached.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.node",
        description="A Kubernetes node on this machine, without Docker, for development and tests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="{up,prepare,run}")
    up = commands.add_parser("up", help="a shell on a node (default)")
    up.add_argument("--load", type=Path, action="append", default=[], metavar="ARCHIVE", help="an image archive")
    commands.add_parser("prepare", help="have everything that a node needs")
    for name in ("run", "inside", "shell"):  # the last two are how this module calls itself
        commands.add_parser(name).add_argument("words", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "prepare":
                prepare()
            case "run":
                return run(_without_dashes(chosen.words))
            case "inside":
                isolation.furnish(isolation.inside() or Path("/nonexistent"))
                return subprocess.run(_without_dashes(chosen.words), check=False).returncode
            case "shell":
                return shell([Path(word) for word in chosen.words])
            case _:
                prepare()
                loads = [str(path.resolve()) for path in getattr(chosen, "load", [])]
                return run([sys.executable, "-m", "tests.support.node", "shell", *loads])
    except (NoBinary, NodeUnavailable, isolation.CannotIsolate) as error:
        print(f"No node: {error}", file=sys.stderr)
        return 1
    return 0


def prepare() -> None:
    """Have every package and program at hand, with a line for what takes long."""
    packages.install(say=say)
    packages.busybox(say=say)
    for name in (*CONTROL_PLANE, *NODE, HELM):
        say(f"{name}: {obtain(name, say=say)}")


def run(command: Sequence[str]) -> int:
    """Run a command in the namespaces of a node; its exit code."""
    with _folder() as folder:
        return isolation.enter(command, folder)


def shell(archives: Sequence[Path]) -> int:
    """Bring a node up and give it to the user's shell."""
    with tempfile.TemporaryDirectory(prefix="node-") as folder, open_node(Path(folder), say=say) as node:
        node.load(archives)
        say(f"logs are in {node.logs}; leave the shell to end the node")
        environment = {**os.environ, "KUBECONFIG": str(node.cluster.kubeconfig)}
        return subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=environment, check=False).returncode


@contextmanager
def _folder() -> Iterator[Path]:
    """On the disk of the cache: where temporary files are may be memory, or a file system without overlays."""
    place = cache_root() / "node"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="run-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _without_dashes(words: Sequence[str]) -> list[str]:
    return list(words[1:] if words and words[0] == "--" else words)


def say(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

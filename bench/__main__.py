"""Run all benches, or those named, one after the other; the exit code says whether every promise holds."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

from bench.table import CONSOLE

NAMES = (
    *("swap", "memory", "crash", "serve", "reload", "fleet", "residency", "observability"),
    *("gpt_sovits", "gpt_sovits_swap", "gpt_sovits_text", "gpt_sovits_models"),
)


def main() -> int:
    """`python -m bench [NAME…] [--short] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--short", action="store_true", help="CI's short form: the same steps, fewer of each")
    parser.add_argument("--out", default="build/bench", help="folder of the JSON reports")
    options = parser.parse_args()
    if unknown := set(options.names).difference(NAMES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    arguments = [*(["--short"] if options.short else []), "--out", options.out]
    broken = []
    for name in options.names or NAMES:
        begin = time.monotonic()
        CONSOLE.rule(f"[bold]{name}")
        if import_module(f"bench.{name}").main(arguments):
            broken.append(name)
        CONSOLE.print(f"[dim]{name} took {time.monotonic() - begin:.0f} s[/]\n")
    if broken:
        CONSOLE.print(f"[red bold]broken promises in: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Where lines for people go: results to stdout, everything else to stderr; no colour unless a terminal wants it.

Separate, and without rich at import time, because most commands print one line and should start fast.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_RED, _DIM, _RESET = "\x1b[31m", "\x1b[2m", "\x1b[0m"


def coloured(stream: Any) -> bool:
    """Whether to use colour there: a terminal, and neither NO_COLOR nor TERM=dumb."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def complain(message: str) -> None:
    """An error, on stderr."""
    head = f"{_RED}error:{_RESET}" if coloured(sys.stderr) else "error:"
    print(f"{head} {message}", file=sys.stderr, flush=True)


def remark(message: str) -> None:
    """What is going on, on stderr."""
    print(f"{_DIM}{message}{_RESET}" if coloured(sys.stderr) else message, file=sys.stderr, flush=True)


def say_line(message: str) -> None:
    """A result, on stdout, at once."""
    print(message, flush=True)


def print_json(value: Any) -> None:
    """A result for programs, on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def print_yaml(value: Any) -> None:
    """The same as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(value, sys.stdout)
    sys.stdout.flush()


def rich_console(*, stderr: bool = False) -> Console:
    """A rich console for tables and bars. As wide as the terminal; 120 columns where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() else 120
    return Console(stderr=stderr, highlight=False, width=wide, no_color=not coloured(stream), soft_wrap=False)

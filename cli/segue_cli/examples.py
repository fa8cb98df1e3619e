"""Finding the example voices: beside the sources in a checkout, inside the package after `pip install`.

Separate because `segue demo`, the benches and the tests must all find the same files wherever they are started.
"""

from __future__ import annotations

import os
from pathlib import Path

from segue.errors import SegueError

CHECKOUT = Path(__file__).resolve().parents[2] / "examples"
PACKAGED = Path(__file__).resolve().parent / "packaged_examples"


class NoExamples(SegueError):
    """This installation came without its example voices."""


def examples_dir() -> Path:
    """The folder with `voices/` and `updates/`; `$SEGUE_EXAMPLES` goes first.

    Raises
    ------
    NoExamples
        There is none.
    """
    chosen = os.environ.get("SEGUE_EXAMPLES")
    for candidate in [Path(chosen)] if chosen else [CHECKOUT, PACKAGED]:
        if (candidate / "voices").is_dir():
            return candidate
    where = chosen or f"{CHECKOUT} or {PACKAGED}"
    raise NoExamples(
        f"no example voices in {where}; run this in a checkout, or set SEGUE_EXAMPLES to a copy of examples/"
    )

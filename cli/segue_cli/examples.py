"""Finding the example voices: in the folder where one stands, or beside the sources of an editable install.

Separate because `segue demo`, the benches and the tests must all find the same files wherever they are started. The
voices are not in the wheel: five megabytes each, they would take the plain install over its 150 MB.
"""

from __future__ import annotations

import os
from pathlib import Path

from segue.errors import SegueError

CHECKOUT = Path(__file__).resolve().parents[2] / "examples"
"""Of an editable installation."""


class NoExamples(SegueError):
    """The example voices are not here."""


def examples_dir() -> Path:
    """The folder with `voices/` and, in a checkout, `updates/`.

    `$SEGUE_EXAMPLES` goes first, then `./examples`, then the checkout of an editable installation.

    Raises
    ------
    NoExamples
        There is none.
    """
    chosen = os.environ.get("SEGUE_EXAMPLES")
    candidates = [Path(chosen)] if chosen else [Path("examples").resolve(), CHECKOUT]
    for candidate in candidates:
        if (candidate / "voices" / "narrator.yaml").is_file():
            return candidate
    where = ", ".join(map(str, candidates))
    raise NoExamples(
        f"no example voices in {where}; run this in a checkout, or set SEGUE_EXAMPLES to a copy of examples/"
    )

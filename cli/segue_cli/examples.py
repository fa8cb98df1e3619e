"""Finding the example voices: in the folder where one stands, or beside the sources of an editable install.

Separate because `segue demo`, the benches and the tests must all find the same files wherever they are started. The
voices are not in the wheel: five megabytes each, they would take the plain install over its 150 MB.
"""

from __future__ import annotations

import os
from pathlib import Path

from segue.errors import SegueError

CHECKOUT = Path(__file__).resolve().parents[2] / "examples"


class NoExamples(SegueError):
    """The example voices are not here."""


def examples_dir() -> Path:
    """The folder with `voices/` and `updates/`: `$SEGUE_EXAMPLES`, else `./examples`, else that of the checkout.

    Raises
    ------
    NoExamples
        There is none.
    """
    chosen = os.environ.get("SEGUE_EXAMPLES")
    here = Path.cwd() / "examples"
    for candidate in [Path(chosen)] if chosen else [here, CHECKOUT]:
        if (candidate / "voices").is_dir():
            return candidate
    raise NoExamples(
        f"no example voices in {chosen or here}; run this in a checkout, or set SEGUE_EXAMPLES to a copy of examples/"
    )

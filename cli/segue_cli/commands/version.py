"""`segue version`."""

from __future__ import annotations

import platform

import segue
from segue_cli.console import say_line


def version() -> None:
    """Print the version."""
    say_line(f"segue {segue.__version__} (Python {platform.python_version()})")

"""`segue demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html and report.json.")] = Path("build/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Only four chapters.")] = False,
) -> None:
    """Watch voices change under load: good updates, bad ones, and processes that are killed. Under four minutes.

    Exit code 1 if a request failed, an answer mixed two versions, or a chapter did not end as it should.
    """
    from segue_cli.console import rich_console
    from segue_cli.demo.play import run_demo

    raise typer.Exit(run_demo(out, quick=quick, console=rich_console()))

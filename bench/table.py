"""Tables that a bench prints: what was promised, what was measured, whether it holds.

Separate so that all benches look alike and end with the same exit code.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False, soft_wrap=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure.

    Attributes
    ----------
    holds
        None for a figure that promises nothing.
    needs_full
        A figure that takes the full form's number of samples (a p99, a growth): in the short form it is shown, and a
        miss does not fail the run. Counts (failed, mixed, lost) bind in both forms.
    """

    name: str
    value: str
    promise: str = ""
    holds: bool | None = None
    needs_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks of a bench."""

    short: bool
    out: Path


def parse_options(name: str, arguments: Sequence[str] | None = None) -> Options:
    """`[--short] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    parser.add_argument("--short", action="store_true", help="CI's short form: the same steps, fewer of each")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the JSON reports")
    parsed = parser.parse_args(arguments)
    return Options(short=parsed.short, out=parsed.out)


def at_most(
    name: str, value: float, limit: float, *, unit: str = "", digits: int = 2, needs_full: bool = False
) -> Line:
    """A figure with an upper limit."""
    shown = f"{value:,}{unit}" if float(value).is_integer() else f"{value:,.{digits}f}{unit}"
    promise = f"≤ {limit:g}{unit}"
    return Line(name=name, value=shown, promise=promise, holds=value <= limit, needs_full=needs_full)


def at_least(
    name: str, value: float, limit: float, *, unit: str = "", digits: int = 2, needs_full: bool = False
) -> Line:
    """A figure with a lower limit."""
    shown = f"{value:,}{unit}" if float(value).is_integer() else f"{value:,.{digits}f}{unit}"
    promise = f"≥ {limit:g}{unit}"
    return Line(name=name, value=shown, promise=promise, holds=value >= limit, needs_full=needs_full)


def note(name: str, value: str) -> Line:
    """A figure that promises nothing."""
    return Line(name=name, value=value)


def print_lines(title: str, lines: Sequence[Line], *, short: bool) -> bool:
    """Print the table; returns whether every promise that binds in this form holds."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column, side in (("figure", "left"), ("measured", "right"), ("promised", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for line in lines:
        table.add_row(line.name, line.value, line.promise, _mark(line, short=short))
    CONSOLE.print(table)
    return all(line.holds is not False or (short and line.needs_full) for line in lines)


def _mark(line: Line, *, short: bool) -> str:
    if line.holds is None:
        return ""
    if line.holds:
        return "[green]holds[/]"
    return "[yellow]missed; too few samples to judge[/]" if short and line.needs_full else "[red bold]broken[/]"


def tell(text: str) -> None:
    """One line of progress."""
    CONSOLE.print(f"[dim]·[/] {text}")

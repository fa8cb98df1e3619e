"""Telling the story while it happens: one line for each thing, and a last line that shows the traffic.

Separate because it must read well in a terminal and in a log of CI alike: on a terminal the last line is alive, else a
summary is printed now and then.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from segue_cli.demo.story import Chapter, Line, Mark, MarkKind, Story
from segue_cli.measure.shots import Tick

SUMMARY_EVERY_S = 15.0
STYLES = {
    None: "",
    MarkKind.EDIT: "cyan",
    MarkKind.FLIP: "green",
    MarkKind.REFUSAL: "magenta",
    MarkKind.BACK: "yellow",
    MarkKind.KILL: "red bold",
}


class Teller:
    """Prints lines, and keeps them in the chapter that is open.

    Attributes
    ----------
    target
        The revision that the chapter is about, once it is known.
    """

    def __init__(self, story: Story, console: Console) -> None:
        self.chapter: Chapter | None = None
        self.target = ""
        self._story = story
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._summary_s = time.monotonic()
        self._totals = (0, 0, 0)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(Text())
            self._live.stop()

    def say(self, text: str, kind: MarkKind | None = None, *, at_ns: int | None = None) -> None:
        """One line; with a kind it is also a mark on the timeline."""
        at_ns = at_ns or time.monotonic_ns()
        if self.chapter is not None:
            self.chapter.lines.append(Line(at_ns=at_ns, text=text))
            if kind is not None:
                self.chapter.marks.append(Mark(at_ns=at_ns, kind=kind, text=text))
        seconds = (at_ns - self._story.began_ns) / 1e9
        line = Text.assemble((f"{seconds:7.1f} s  ", "dim"), (text, STYLES[kind]))
        self._console.print(line)

    def heading(self, text: str) -> None:
        """The title of a chapter."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def traffic(self, tick: Tick) -> None:
        """What the load generator says of itself; called from its thread."""
        failed, shielded = self._totals[1] + tick.failed, self._totals[2] + tick.shielded
        self._totals = (tick.done, failed, shielded)
        line = Text.assemble(
            ("  traffic  ", "dim"),
            f"{tick.done:,} answered, ",
            (f"{failed} failed", "red bold" if failed else "green"),
            f", {shielded} shielded, {tick.in_flight} under way, p99 {_milliseconds(tick.p99_ms)}",
        )
        if self._live is not None:
            self._live.update(line)
        elif time.monotonic() - self._summary_s > SUMMARY_EVERY_S:
            self._summary_s = time.monotonic()
            self._console.print(line)


def _milliseconds(value: float) -> str:
    return "–" if value != value else f"{value:.0f} ms"

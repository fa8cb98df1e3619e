"""`segue wait VOICE --for condition=Promoted`."""

from __future__ import annotations

from typing import Annotated

import typer

from segue.model.scalars import parse_duration
from segue_cli.console import remark, say_line
from segue_cli.exits import EXIT_OTHERWISE, EXIT_TIMEOUT
from segue_cli.finding import VoiceArgument
from segue_cli.following import Goal, Lines, Outcome, wait_for
from segue_cli.place import Place

CONDITIONS = ("Ready", "Reconciling", "Stalled", "Preloaded", "Verified", "Promoted", "Watched")


def wait(
    place: Place,
    voice: VoiceArgument,
    for_: Annotated[str, typer.Option("--for", help="condition=TYPE or condition=TYPE=STATUS.")] = "condition=Ready",
    timeout: Annotated[str, typer.Option(help="How long, such as 90s or 10m; 0s: look once.")] = "5m",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing until the end.")] = False,
) -> None:
    """Wait for a condition of a voice; only what is said about its newest spec counts.

    Promoted: the version is confirmed, which ends a deploy. Ready: it is served, perhaps still under watch.
    A version that was taken back is neither.

    Exit code 0: it came. 3: it can no longer come (refused, rolled back). 4: the time ran out.
    """
    goal = parse_goal(for_)
    show = (lambda _: None) if quiet else Lines(remark).show
    outcome, message = wait_for(place, place.key_of(voice), goal, timeout_s=parse_seconds(timeout), show=show)
    finish(outcome, message)


def finish(outcome: Outcome, message: str) -> None:
    """Say how waiting ended and leave with its exit code."""
    if outcome is Outcome.CAME:
        say_line(message)
        return
    remark(message)
    raise typer.Exit(EXIT_OTHERWISE if outcome is Outcome.OTHERWISE else EXIT_TIMEOUT)


def parse_goal(text: str) -> Goal:
    """Read `condition=Promoted`, `condition=Ready=False`, or just `Promoted`."""
    parts = text.removeprefix("condition=").split("=")
    kind = next((each for each in CONDITIONS if each.lower() == parts[0].lower()), None)
    if kind is None or len(parts) > 2:
        raise typer.BadParameter(f"is condition=TYPE with TYPE one of {', '.join(CONDITIONS)}, not {text!r}")
    return Goal(kind, parts[1] if len(parts) == 2 else "True")


def parse_seconds(text: str) -> float:
    """Read `90s`, `10m`, or a bare number of seconds."""
    try:
        return max(0.2, float(text) if text.isdigit() else parse_duration(text).total_seconds())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

"""`segue watch`: what happens, as it happens."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from segue_cli.console import rich_console, say_line
from segue_cli.following import Lines, direction, target_progress
from segue_cli.place import Place
from segue_cli.revisions import clock, short
from segue_cli.where import AllNamespacesOption

BAR_CELLS = 28


def watch(
    place: Place,
    voice: Annotated[str | None, typer.Argument(metavar="[VOICE]", help="Follow this one; default: all.")] = None,
    all_namespaces: AllNamespacesOption = False,
) -> None:
    """Follow what happens, live: all voices, or one voice with its progress. Ends with Ctrl-C."""
    if voice is None:
        for line in place.happenings(everywhere=all_namespaces):
            say_line(line)
    elif sys.stdout.isatty():
        _follow_live(place, place.key_of(voice))
    else:
        lines = Lines(say_line)
        for found in place.updates(place.key_of(voice), deadline=None):
            if found is not None:
                lines.show(found)


def _follow_live(place: Place, key: str) -> None:
    from rich.live import Live

    with Live(console=rich_console(), refresh_per_second=8) as live:
        for found in place.updates(key, deadline=None):
            if found is not None:
                live.update(_panel(found))


def _panel(voice: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    status = voice["status"]
    title = Text(voice["key"], style="bold")
    title.append(f"  {status['phase']}", style="cyan")
    rows: list[Any] = [title]
    if status["phase"] == "Idle":
        title.append(f"  {short(status.get('activeRevision'))}")
    else:
        title.append(f"  {' -> '.join(map(short, direction(status)))}")
        rows += [_bar(name, text, fraction) for name, text, fraction in target_progress(voice)]
    if voice.get("isStuck"):
        rows.append(Text(voice["unseen"], style="yellow"))
    elif status.get("message"):
        rows.append(Text(f"{status.get('reason') or ''}: {status['message']}", style="yellow"))
    for event in voice["events"][-8:]:
        style = "red" if event["kind"] == "Warning" else "dim"
        rows.append(Text(f"{clock(event['at'])}  {event['reason']}: {event['message']}", style=style))
    return Group(*rows)


def _bar(name: str, text: str, fraction: float) -> Any:
    from rich.text import Text

    filled = round(BAR_CELLS * fraction)
    bar = Text(f"  {name:<12} ")
    bar.append("━" * filled, style="green")
    bar.append("━" * (BAR_CELLS - filled), style="dim")
    bar.append(f" {fraction:4.0%} {text}")
    return bar

"""`segue watch`: what happens, as it happens."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from segue_cli.client import OperatorClient, OperatorUnreachable
from segue_cli.console import remark, rich_console, say_line
from segue_cli.finding import NamespaceOption, StateOption, VoicesOption, find_running, key_of
from segue_cli.following import Lines, target_progress, updates
from segue_cli.revisions import clock, short

EVENTS_WAIT_S = 20.0
BAR_CELLS = 28


def watch(
    voice: Annotated[str | None, typer.Argument(metavar="[VOICE]", help="Follow this one; default: all.")] = None,
    namespace: NamespaceOption = "default",
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """Follow what happens, live: all voices' events, or one voice with its progress. Ends with Ctrl-C."""
    client = find_running(state, voices).client
    if voice is None:
        _follow_events(client)
    elif sys.stdout.isatty():
        _follow_live(client, key_of(voice, namespace=namespace))
    else:
        lines = Lines(say_line)
        for found in updates(client, key_of(voice, namespace=namespace), deadline=None):
            if found is not None:
                lines.show(found)


def _follow_events(client: OperatorClient) -> None:
    last = 0
    while True:
        try:
            found = client.events(since=last, wait_s=EVENTS_WAIT_S if last else 0.0)
        except OperatorUnreachable as error:
            remark(str(error))
            time.sleep(1.0)
            continue
        for event in found["events"]:
            mark = "!" if event["kind"] == "Warning" else " "
            say_line(f"{clock(event['at'])} {mark} {event['voice'] or '-'}: {event['reason']}: {event['message']}")
        last = max(1, int(found["last"]))


def _follow_live(client: OperatorClient, key: str) -> None:
    from rich.live import Live

    with Live(console=rich_console(), refresh_per_second=8) as live:
        for found in updates(client, key, deadline=None):
            if found is not None:
                live.update(_panel(found))


def _panel(voice: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    status = voice["status"]
    title = Text(voice["key"], style="bold")
    title.append(f"  {status['phase']}", style="cyan")
    title.append(f"  {short(status.get('activeRevision'))}")
    rows: list[Any] = [title]
    if status["phase"] != "Idle":
        title.append(f" -> {short(status.get('targetRevision'))}")
        rows += [_bar(name, text, fraction) for name, text, fraction in target_progress(voice)]
    if status.get("message"):
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

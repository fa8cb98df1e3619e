"""`segue get`: all voices, one line each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from segue_cli.console import print_json, remark, rich_console
from segue_cli.exits import EXIT_FAILED
from segue_cli.finding import StateOption, VoicesOption, find_running, key_of
from segue_cli.revisions import ago, short


class Output(StrEnum):
    """How results are written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, wide (with messages) or json.")]


def get(
    voice: Annotated[str | None, typer.Argument(metavar="[VOICE]", help="Only this one.")] = None,
    output: OutputOption = Output.TABLE,
    state: StateOption = None,
    voices: VoicesOption = None,
) -> None:
    """List the voices of a running segue up, and what is wrong with their files."""
    found = find_running(state, voices).client.voices()
    if voice is not None:
        found["voices"] = [each for each in found["voices"] if each["key"] == key_of(voice)]
    if output is Output.JSON:
        print_json(found)
    else:
        _table(found["voices"], wide=output is Output.WIDE)
        for problem in found["problems"]:
            remark(f"problem: {problem['text']}")
    if voice is not None and not found["voices"]:
        remark(f"there is no voice {key_of(voice)}")
        raise typer.Exit(EXIT_FAILED)


def _table(voices: list[dict[str, Any]], *, wide: bool) -> None:
    from rich.table import Table

    if not voices:
        remark("no voices; put a VoiceModel file into the folder")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in (
        "VOICE",
        "READY",
        "PHASE",
        "ACTIVE",
        "TARGET",
        "PODS",
        "SINCE",
        "REASON",
        *(["MESSAGE"] if wide else []),
    ):
        table.add_column(column, no_wrap=column != "MESSAGE", overflow="fold" if column == "MESSAGE" else "ellipsis")
    for each in voices:
        table.add_row(*_row(each), *([each["message"]] if wide else []))
    rich_console().print(table)


def _row(voice: dict[str, Any]) -> tuple[str, ...]:
    name = voice["key"].removeprefix("default/")
    ready = "[green]yes[/]" if voice["ready"] else "[red]no[/]"
    target = short(voice["targetRevision"]) if voice["phase"] != "Idle" else "-"
    phase = f"{voice['phase']} (paused)" if voice["paused"] else voice["phase"]
    reason = "InvalidFile" if voice["problems"] else voice["reason"] or "-"
    return name, ready, phase, short(voice["activeRevision"]), target, voice["pods"] or "-", ago(voice["since"]), reason

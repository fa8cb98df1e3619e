"""`segue get`: all voices, one line each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from segue_cli.console import print_json, print_yaml, remark, rich_console, say_line
from segue_cli.finding import RESOURCE_NAMES
from segue_cli.place import Listing, Place
from segue_cli.revisions import ago, short
from segue_cli.where import AllNamespacesOption


class Output(StrEnum):
    """How results are written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="table, wide (with messages), json, yaml or name.", show_choices=False)
]


def get(
    place: Place,
    voice: Annotated[str | None, typer.Argument(metavar="[VOICE]", help="Only this one.")] = None,
    output: OutputOption = Output.TABLE,
    all_namespaces: AllNamespacesOption = False,
) -> None:
    """List voices, and what is wrong with their files where they come from files."""
    key = place.key_of(voice) if voice is not None else None
    found = place.listing(key, everywhere=all_namespaces)
    match output:
        case Output.JSON:
            print_json(found.raw)
        case Output.YAML:
            print_yaml(found.raw)
        case Output.NAME:
            for each in found.voices:
                say_line(resource_name(each["name"]))
        case Output.TABLE | Output.WIDE:
            _show(found, wide=output is Output.WIDE, everywhere=all_namespaces)


def resource_name(name: str) -> str:
    """As `kubectl -o name` has it."""
    return f"{RESOURCE_NAMES[0]}/{name}"


def _show(found: Listing, *, wide: bool, everywhere: bool) -> None:
    if found.voices:
        _table(found, wide=wide, everywhere=everywhere)
    else:
        remark("no voices here; put a VoiceModel file into the folder, or apply one to the cluster")
    for line in (*found.models, *found.problems):
        remark(line)


def _table(found: Listing, *, wide: bool, everywhere: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    names = ["VOICE", "READY", "PHASE", "ACTIVE", "TARGET", "PODS", "SINCE", "REASON"]
    for column in [*(["NAMESPACE"] if everywhere else []), *names, *(["MESSAGE"] if wide else [])]:
        table.add_column(column, no_wrap=column != "MESSAGE", overflow="fold" if column == "MESSAGE" else "ellipsis")
    for each in found.voices:
        table.add_row(
            *([each["namespace"]] if everywhere else []),
            *_row(each, name=each["name"] if everywhere else each["key"].removeprefix(f"{found.namespace}/")),
            *([each["message"]] if wide else []),
        )
    rich_console().print(table)


def _row(voice: dict[str, Any], *, name: str) -> tuple[str, ...]:
    ready = "[green]yes[/]" if voice["ready"] else "[red]no[/]"
    target = short(voice["targetRevision"]) if voice["phase"] != "Idle" else "-"
    phase = f"{voice['phase']} (paused)" if voice["paused"] else voice["phase"]
    reason = "InvalidFile" if voice["problems"] else voice["reason"] or "-"
    return name, ready, phase, short(voice["activeRevision"]), target, voice["pods"] or "-", ago(voice["since"]), reason

"""The table of values in the chart's README, from the comments of values.yaml.

A comment that begins with `# --` belongs to the value below it; one without is the heading of the section below it, and
a line of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

MARK = "# -- "
BEGIN, END = "<!-- begin: python -m tools.chart -->", "<!-- end -->"


class Uncommented(Exception):
    """A value that nobody explains; the message names it."""


@dataclass(frozen=True, slots=True)
class Value:
    """One line of the table; a section has no default."""

    path: str
    default: str | None
    meaning: str


def with_table(page: str, values: str) -> str:
    """The page with its table made anew; everything outside the markers stays."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render_table(read_values(values))}{END}{after}"


def render_table(values: Sequence[Value]) -> str:
    """As Markdown."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for each in values:
        path, default = f"`{each.path}`", f"`{each.default}`"
        cells = (path, default, each.meaning) if each.default is not None else (f"**{path}**", "", f"*{each.meaning}*")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def read_values(text: str) -> list[Value]:
    """Every section and value with its meaning, in the order of the file.

    Raises
    ------
    Uncommented
        A value or a section has no comment above it.
    """
    return list(_values(YAML(typ="rt").load(text), text.splitlines(), prefix=""))


def _values(node: CommentedMap, lines: Sequence[str], *, prefix: str) -> Iterator[Value]:
    for name, value in node.items():
        path = f"{prefix}{name}"
        comment = _comment_above(lines, node.lc.key(name)[0])
        if not comment:
            raise Uncommented(f"values.yaml: {path} has no comment above it")
        if comment.startswith(MARK):
            yield Value(path, json.dumps(_plain(value)), comment.removeprefix(MARK))
        else:
            yield Value(path, None, comment.removeprefix("# "))
            yield from _values(value, lines, prefix=f"{path}.")


def _comment_above(lines: Sequence[str], line: int) -> str:
    above = lines[line - 1].strip() if line else ""
    return above if above.startswith("# ") else ""


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _plain(value) for name, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node

"""The table of fields in docs/voicemodel.md, from the types: documentation that is written by hand goes stale.

It is made from the schema of the CRD, where defaults stand as a person writes them. `python -m segue.model.reference`
writes it between its markers, `--check` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segue.model.crd import crd

BEGIN, END = "<!-- begin: python -m segue.model.reference -->", "<!-- end -->"
PAGE = Path("docs/voicemodel.md")

Node = dict[str, Any]


def main() -> None:
    """Write the table, or say that it is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is not up to date")
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    fresh = with_table(text)
    if arguments.check and fresh != text:
        sys.exit(f"{PAGE} is not up to date; run: make generate")
    if not arguments.check:
        PAGE.write_text(fresh, encoding="utf-8")


def with_table(text: str) -> str:
    """The page with its table made anew; everything outside the markers stays."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}{END}{after}"


def render() -> str:
    """The table, one line a field."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows(_spec(), "spec")]) + "\n"


def _spec() -> Node:
    schema: Node = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec: Node = schema["properties"]["spec"]
    return spec


def _rows(node: Node, path: str) -> Iterator[str]:
    required = node.get("required", ())
    for name, child in node["properties"].items():
        place = f"{path}.{name}"
        yield _row(child, place, required=name in required)
        inner, suffix = _inside(child)
        if inner is not None:
            yield from _rows(inner, place + suffix)


def _inside(node: Node) -> tuple[Node | None, str]:
    """What a field holds, and how its place is written."""
    if "properties" in node:
        return node, ""
    for key, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(node.get(key), dict) and "properties" in node[key]:
            return node[key], suffix
    return None, ""


def _row(node: Node, place: str, *, required: bool) -> str:
    cells = (f"`{place}`", _type(node), _default(node, place, required=required), node.get("description", ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(node: Node) -> str:
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "number or percentage"
    if node.get("type") == "array":
        return "list"
    kind = str(node.get("type", 'number or "auto"'))
    bounds = [str(node[key]) for key in ("minimum", "maximum") if key in node]
    over = "over " if node.get("exclusiveMinimum") else ""
    return f"{kind}, {over}{' to '.join(bounds)}" if len(bounds) == 2 else kind


def _default(node: Node, place: str, *, required: bool) -> str:
    if "default" in node and "properties" not in node:
        return f"`{json.dumps(node['default'], ensure_ascii=False)}`"
    if not required:
        return ""
    return "required in a cluster" if place.endswith(".sha256") else "required"


if __name__ == "__main__":
    main()

"""YAML text as lines, documents and places: what the loader and the editor both stand on.

A file is cut at its document markers first, so that a mistake in one document does not hide the others, and an edit of
one leaves the bytes of the others alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from segue.errors import InvalidVoiceModel

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_INDENTED = re.compile(r"^(?P<indent> *)(?:(?P<dash>-)(?=\s)|(?=[\w\"'.]))[^\n]*", re.MULTILINE)
_UNLIMITED_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One document of a file.

    Attributes
    ----------
    text
        With its marker, if it has one.
    first_line
        Number of its first line in the file, from 1.
    """

    text: str
    first_line: int


def split_documents(text: str) -> list[Chunk]:
    """Cut at the document markers. Joined again, the texts are the input."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    if not starts or starts[0] != 0:
        starts.insert(0, 0)
    chunks = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    lines = [text.count("\n", 0, start) + 1 for start in starts]
    return [Chunk(text=chunk, first_line=line) for chunk, line in zip(chunks, lines, strict=True)]


def parse_chunk(chunk: Chunk, *, file: str | None = None) -> Any:
    """The round-trip nodes of one document; None when it is empty.

    Raises
    ------
    InvalidVoiceModel
        No YAML: a tab, a brace, a key twice. Names file and line.
    """
    try:
        return _yaml(chunk.text).load(chunk.text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = chunk.first_line + (mark.line if mark is not None else 0)
        column = f" (column {mark.column + 1})" if mark is not None else ""
        raise InvalidVoiceModel(f"is no YAML: {_problem(error)}{column}", file=file, line=line) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise InvalidVoiceModel(f"is no YAML: {error}", file=file, line=chunk.first_line) from error


def dump_chunk(node: Any, *, like: str) -> str:
    """Text of a document, with the indentation and the marker of the text it came from."""
    out = StringIO()
    yaml = _yaml(like)
    yaml.explicit_start = bool(_MARKER.match(like))
    yaml.dump(node, out)
    return out.getvalue()


def plain(node: Any) -> Any:
    """The same value in plain Python types.

    Raises
    ------
    ValueError
        A mapping has a key that is no text.
    """
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str):
                raise ValueError(f"keys are text; put {key!r} in quotes")
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def line_of(node: Any, path: Sequence[str | int], *, first_line: int) -> tuple[int, int]:
    """Line and column (both from 1) of the deepest part of the path that is written down."""
    place = (first_line, 1)
    for part in path:
        found = _place(node, part)
        if found is None:
            break
        place = (first_line + found[0], found[1] + 1)
        node = node[part]
    return place


def _place(node: Any, part: str | int) -> tuple[int, int] | None:
    if not isinstance(node, (CommentedMap, CommentedSeq)) or node.lc.data is None or part not in node.lc.data:
        return None
    if isinstance(node, CommentedSeq) and not (isinstance(part, int) and part < len(node)):
        return None
    line, column = node.lc.data[part][:2]
    return int(line), int(column)


def _problem(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or error).split())
    if "\\t" in problem or "tab" in problem:
        return "a tab is used for indentation; use spaces"
    return problem


def _yaml(text: str) -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = _UNLIMITED_WIDTH
    indent, offset = _indentation(text)
    yaml.indent(mapping=indent, sequence=offset + 2, offset=offset)
    return yaml


def _indentation(text: str) -> tuple[int, int]:
    """How far mappings, and the dashes of sequences, are indented below their key, as the writer did it."""
    mapping = offset = None
    parent = 0
    for match in _INDENTED.finditer(text):
        indent, dash = len(match["indent"]), match["dash"]
        if dash and offset is None and indent >= parent:
            offset = indent - parent
        elif not dash and mapping is None and indent > parent:
            mapping = indent - parent
        if not dash:
            parent = indent
    return mapping or 2, offset or 0

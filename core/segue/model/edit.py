"""Changing one voice in a person's YAML file, without touching their comments or their other documents.

Used when a bad version is taken back and by the commands that edit (`segue roll`, `pin`, `pause`, …). The file is
replaced in one step, and only while it is byte for byte what was read: an edit that a person saved meanwhile wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from segue.errors import EditConflict, InvalidVoiceModel
from segue.model.voice import KIND
from segue.model.yaml_text import dump_chunk, parse_chunk, plain, split_documents


class Remove(Enum):
    """A value that says: no such field."""

    REMOVE = "remove"


REMOVE: Final = Remove.REMOVE

FieldPath = str | tuple[str, ...]
"""`spec.weights`, or `("metadata", "annotations", "segue.dev/retry")` where a key has dots."""


def file_digest(path: Path | str) -> str:
    """sha256 of a file's bytes, as `DocumentSet.digests` has it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def edit_yaml(
    path: Path | str, key: str, changes: Mapping[FieldPath, Any], *, expected_digest: str | None = None
) -> str:
    """Set or remove fields of one voice in a file.

    Parameters
    ----------
    key
        `namespace/name`.
    changes
        New value by field; `REMOVE` takes the field away. A mapping is merged key by key so that comments on keys that
        stay are kept; keys that it lacks are removed.
    expected_digest
        sha256 of the file as it was read; None: as it is now.

    Returns
    -------
    str
        sha256 of the file as it is now.

    Raises
    ------
    EditConflict
        The file is not what was read, or does not hold the voice any more. Nothing was written.
    InvalidVoiceModel
        The file is no YAML.
    OSError
        It cannot be read or written.
    """
    path = Path(path).resolve()  # a link is followed, not replaced
    content = path.read_bytes()
    before = hashlib.sha256(content).hexdigest()
    if expected_digest is not None and before != expected_digest:
        raise EditConflict(f"{path} was changed since it was read; look at it again")
    edited = _edit_text(content.decode("utf-8-sig"), key, changes, file=str(path))
    after = edited.encode()
    if content.startswith(b"\xef\xbb\xbf"):
        after = b"\xef\xbb\xbf" + after
    if after != content:
        _replace(path, after, before=before)
    return hashlib.sha256(after).hexdigest()


def _edit_text(text: str, key: str, changes: Mapping[FieldPath, Any], *, file: str) -> str:
    crlf = "\r\n" in text
    chunks = split_documents(text.replace("\r\n", "\n"))
    texts = [chunk.text for chunk in chunks]
    for index, chunk in enumerate(chunks):
        try:
            node = parse_chunk(chunk, file=file)
        except InvalidVoiceModel:
            if len(chunks) == 1:
                raise
            continue
        if _key_of(node) == key:
            texts[index] = _edited(node, changes, like=chunk.text)
            break
    else:
        raise EditConflict(f"{file} holds no {KIND} {key} any more")
    joined = "".join(texts)
    return joined.replace("\n", "\r\n") if crlf else joined


def _key_of(node: Any) -> str | None:
    if not isinstance(node, Mapping) or node.get("kind") != KIND or not isinstance(node.get("metadata"), Mapping):
        return None
    metadata = node["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata.get('name')}"


def _edited(node: CommentedMap, changes: Mapping[FieldPath, Any], *, like: str) -> str:
    before = plain(node)
    for field, value in changes.items():
        path = tuple(field.split(".")) if isinstance(field, str) else field
        _change(node, path, value)
    if plain(node) == before:
        return like
    text = dump_chunk(node, like=like)
    return text if text.endswith("\n") or not like.endswith("\n") else text + "\n"


def _change(node: CommentedMap, path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        if not isinstance(node.get(part), CommentedMap):
            if value is REMOVE:
                return
            _put(node, part, CommentedMap())
        node = node[part]
    if value is REMOVE:
        node.pop(last, None)
    else:
        _assign(node, last, value)


def _assign(node: CommentedMap, key: str, value: Any) -> None:
    """Set a key, in place where that keeps comments and quotes."""
    old = node.get(key)
    if isinstance(old, CommentedMap) and isinstance(value, Mapping):
        for gone in [each for each in old if each not in value]:
            del old[gone]
        for each, item in value.items():
            _assign(old, each, item)
        return
    if key in node and plain(old) == value and type(plain(old)) is type(value):
        return
    for quoted in (DoubleQuotedScalarString, SingleQuotedScalarString):
        if isinstance(old, quoted) and isinstance(value, str):
            value = quoted(value)
    _put(node, key, value)


def _put(node: CommentedMap, key: str, value: Any) -> None:
    """Set a key; a new one goes before the last, because comments that follow a mapping hang on its last key."""
    if key in node:
        node[key] = value
    else:
        node.insert(max(0, len(node) - 1), key, value)


def _replace(path: Path, content: bytes, *, before: str) -> None:
    """Put a complete file in the place of the old one, which must still be what was read."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".segue")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _keep_owner_and_mode(path, file.fileno())
            os.fsync(file.fileno())
        if file_digest(path) != before:
            raise EditConflict(f"{path} was changed while it was edited; look at it again")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _keep_owner_and_mode(path: Path, descriptor: int) -> None:
    stat = path.stat()
    os.fchmod(descriptor, stat.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):  # only root may give files away
        os.fchown(descriptor, stat.st_uid, stat.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

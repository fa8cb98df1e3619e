"""Voices in a cluster, through its API server alone: what is read is VoiceModels and Events, what is written is intent.

Nothing here talks to a pod. What a person asks for goes into the object (spec, or an annotation that acts once), and
the operator does it; so a command returns when the wish is written, and `--wait` follows the status.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from segue.errors import EditConflict
from segue_cli.cluster.api import Change, Kind, VoiceApi
from segue_cli.cluster.errors import Conflict, Forbidden
from segue_cli.cluster.following import follow
from segue_cli.cluster.outlook import document, summary
from segue_cli.console import remark, say_line
from segue_cli.finding import key_of
from segue_cli.following import status_line
from segue_cli.place import Document, Edited, Listing, NoSuchVoice, NothingToRoll
from segue_cli.revisions import clock_now

if TYPE_CHECKING:
    from segue.model.edit import FieldPath
    from segue_cli.editing import Changes

ATTEMPTS = 5
DIGEST_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlace:
    """The voices of one context.

    Attributes
    ----------
    namespace
        Where voices without a namespace are looked for.
    program, flags
        How this command was called, for hints on how to go on.
    """

    api: VoiceApi
    namespace: str
    program: str
    flags: str = ""

    def key_of(self, voice: str) -> str:
        """`namespace/name` of what was typed."""
        return key_of(voice, namespace=self.namespace)

    def command(self, words: str, key: str) -> str:
        """The command line for the same voice in the same context."""
        namespace, name = _parts(key)
        flags = f" -n {namespace}" if namespace != self.api.session.access.namespace else ""
        return f"{self.program} {words} {name}{flags}{self.flags}"

    def ask(self, key: str) -> Document | None:
        """As `voice`."""
        return self.voice(key)

    def listing(self, key: str | None, *, everywhere: bool) -> Listing:
        """One voice, those of the namespace, or those of all namespaces."""
        if key is not None:
            voice = _without_owners(self.api.get(*_parts(key)))
            return Listing(voices=[summary(voice)], namespace=self.namespace, raw=voice)
        found = self.api.voices(None if everywhere else self.namespace).voices
        raw = {"apiVersion": "v1", "kind": "List", "items": [_without_owners(each) for each in found]}
        return Listing(voices=[summary(each) for each in found], namespace=self.namespace, raw=raw)

    def voice(self, key: str) -> Document:
        """One voice with its Events."""
        return self._document(self.api.get(*_parts(key)))

    def updates(self, key: str, *, deadline: float | None) -> Generator[Document | None, None, None]:
        """The voice now and at every change of it or of its Events."""
        namespace, name = _parts(key)
        voice = self.api.get(namespace, name)
        for change in follow(self.api, namespace, name=name, deadline=deadline):
            if change is None:
                yield None
                continue
            if change.kind is Kind.DELETED:
                raise NoSuchVoice(f"{key} was deleted from context {self.api.context}")
            voice = voice if change.kind is Kind.BOOKMARK else change.voice
            yield self._document(voice)

    def happenings(self, *, everywhere: bool) -> Iterator[str]:
        """A line for each voice, then one whenever it says something new."""
        said: dict[str, str] = {}
        for change in follow(self.api, None if everywhere else self.namespace):
            if change is None:
                yield f"{clock_now()}   context {self.api.context} does not answer; trying again"
            elif change.kind is not Kind.BOOKMARK:
                key, line = self._line(change)
                if said.get(key) != line:
                    said[key] = line
                    yield f"{clock_now()}   {line}"

    def edit(self, key: str, changes: Changes) -> Edited:
        """Change exactly the object that was read; done again where only its status changed meanwhile.

        Raises
        ------
        EditConflict
            Somebody changed the spec meanwhile, or made the voice anew.
        """
        from segue_cli.cluster.patching import changed, guarded, merge_patch

        where = f"{key} in context {self.api.context}"
        voice = self.api.get(*_parts(key))
        say_line(where)
        self._warn_of_owner(voice, changes)
        for left in reversed(range(ATTEMPTS)):
            patch = merge_patch(voice, changed(voice, changes))
            if not patch:
                return Edited(where=f"context {self.api.context}, as it was", generation=_generation(voice))
            try:
                after = self.api.patch(*_parts(key), guarded(patch, voice))
            except Conflict as error:
                now = self.api.get(*_parts(key))
                if not left or not _same_spec(voice, now):
                    raise EditConflict(f"{where} was changed by somebody else meanwhile; look at it again") from error
                voice = now
            else:
                return Edited(where=f"context {self.api.context}", generation=_generation(after))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def weights_of(self, key: str) -> tuple[str, ...]:
        """Names of a voice's weights."""
        return tuple(self.api.get(*_parts(key))["spec"]["weights"])

    def source(self, field: str, file: str) -> dict[FieldPath, Any]:
        """`URI@SHA256`, or a file that can be read here and, under the same path, in the pods."""
        uri, digest = split_digest(file)
        path = _local(uri)
        if path is None and digest is None:
            raise NothingToRoll(
                f"{file} cannot be read from here: write its digest behind it, {uri}@SHA256 (sha256sum FILE)"
            )
        if path is not None:
            if not urlsplit(uri).scheme:
                remark(f"{path.as_uri()} is what the pods are told: they must have the same file there")
            uri, digest = path.as_uri(), _digest(path, expected=digest)
        return {f"spec.{field}.uri": uri, f"spec.{field}.sha256": digest}

    def as_written(self, version: Mapping[str, Any]) -> dict[FieldPath, Any]:
        """Weights, reference and options of a version of the history."""
        from segue.model.edit import REMOVE

        return {
            "spec.weights": version["weights"],
            "spec.reference": version.get("reference") or REMOVE,
            "spec.options": version.get("options") or REMOVE,
        }

    def _document(self, voice: Document) -> Document:
        metadata, notes, events = voice["metadata"], [], []
        try:
            events = self.api.events(metadata["namespace"], metadata["uid"])
        except Forbidden as error:
            notes = [f"Events are not shown: {error.status.get('message') or error}"]
        return document(voice, context=self.api.context, events=events, notes=notes)

    def _line(self, change: Change) -> tuple[str, str]:
        shown = document(change.voice, context=self.api.context)
        line = f"{shown['key']}: deleted" if change.kind is Kind.DELETED else status_line(shown)
        return shown["key"], line

    def _warn_of_owner(self, voice: Document, changes: Changes) -> None:
        """Whoever keeps the spec as Git has it will undo this."""
        from segue.model.voice import Metadata
        from segue.rollout.ownership import spec_owner

        if not any(str(field).startswith("spec.") for field in changes):
            return
        owner = spec_owner(Metadata.model_validate(voice["metadata"]))
        if owner is not None:
            remark(f"{owner} owns this spec and may write it back: change it there as well")


def split_digest(text: str) -> tuple[str, str | None]:
    """`URI@SHA256` in its two parts; a tail that is no digest belongs to the URI."""
    uri, _, tail = text.rpartition("@")
    is_digest = len(tail) == DIGEST_DIGITS and all(digit in "0123456789abcdef" for digit in tail.lower())
    return (uri, tail.lower()) if uri and is_digest else (text, None)


def _local(uri: str) -> Path | None:
    """The file here that a URI or path means, None for what is only elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path)) if parts.scheme else Path(uri).expanduser().absolute()


def _digest(path: Path, *, expected: str | None) -> str:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        if expected is not None:  # only the pods have it
            return expected
        raise NothingToRoll(f"{path} cannot be read: {error.strerror}; name a file, or write URI@SHA256") from error
    if expected is not None and found != expected:
        raise NothingToRoll(f"{path} has the sha256 {found}, not {expected}")
    return found


def _parts(key: str) -> tuple[str, str]:
    namespace, _, name = key.partition("/")
    return namespace, name


def _generation(voice: Mapping[str, Any]) -> int:
    return int(voice["metadata"]["generation"])


def _same_spec(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is the same object with the same spec: then only its status, or a label, was written meanwhile."""
    return bool(one["metadata"]["uid"] == other["metadata"]["uid"] and _generation(one) == _generation(other))


def _without_owners(voice: Document) -> Document:
    """As `kubectl get -o yaml` shows it: who wrote which field is noise."""
    metadata = {key: value for key, value in voice["metadata"].items() if key != "managedFields"}
    return {**voice, "metadata": metadata}

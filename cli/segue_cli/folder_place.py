"""Voices in a folder: read from the operator of the `segue up` that runs on it, written into the YAML files."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from segue_cli.client import OperatorUnreachable
from segue_cli.console import remark
from segue_cli.finding import NotRunning, find_folder, find_running, find_running_or_none, key_of
from segue_cli.model_lines import models_lines
from segue_cli.place import Document, Edited, Listing, NoSuchVoice, NothingToRoll
from segue_cli.revisions import clock

if TYPE_CHECKING:
    from segue.model.edit import FieldPath
    from segue_cli.editing import Changes

POLL_S = 20.0
RETRY_S = 0.5
UNREAD_S, UNREAD_RETRY_S = 2.0, 0.1
"""A file that was just written is read within a second: a voice that nobody knows is asked for so long, so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPlace:
    """The voices of one folder.

    Attributes
    ----------
    namespace
        Only voices of it, where one was named.
    state, voices
        What was said on the command line about which folder is meant.
    """

    namespace: str | None = None
    state: Path | None = None
    voices: Path | None = None

    def key_of(self, voice: str) -> str:
        """`namespace/name` of what was typed."""
        return key_of(voice, namespace=self.namespace or "default")

    def command(self, words: str, key: str) -> str:
        """The command line for the same voice."""
        return f"segue {words} {key.removeprefix('default/')}"

    def ask(self, key: str) -> Document | None:
        """As `voice`; None where no `segue up` runs."""
        try:
            return self.voice(key)
        except (NotRunning, OperatorUnreachable):
            return None

    def listing(self, key: str | None, *, everywhere: bool) -> Listing:
        """Voices in short, and what is wrong with their files."""
        found = find_running(self.state, self.voices).client.voices()
        known = found["voices"]
        if key is not None:
            found["voices"] = [each for each in known if each["key"] == key]
            if not found["voices"]:
                there_are = ", ".join(each["key"] for each in known) or "none"
                raise NoSuchVoice(f"there is no voice {key}; there are: {there_are}")
        elif not everywhere:
            found["voices"] = [each for each in known if self._is_meant(each["key"])]
        return Listing(
            voices=found["voices"],
            namespace="default",
            problems=tuple(f"problem: {problem['text']}" for problem in found["problems"]),
            models=tuple(models_lines(found.get("models", ()))),
            raw=found,
        )

    def voice(self, key: str) -> Document:
        """One voice in full."""
        return find_running(self.state, self.voices).client.voice(key)

    def updates(self, key: str, *, deadline: float | None) -> Generator[Document | None, None, None]:
        """The voice now and at every change; None while the operator is being started again, or its file is read."""
        client = find_running(self.state, self.voices).client
        unread_until = time.monotonic() + UNREAD_S
        version: int | None = None
        while deadline is None or time.monotonic() < deadline:
            left_s = POLL_S if deadline is None else max(0.05, min(POLL_S, deadline - time.monotonic()))
            try:
                voice = client.voice(key, after=version, wait_s=left_s)
            except OperatorUnreachable:
                version = None
                yield None
                time.sleep(min(RETRY_S, left_s))
                continue
            except NoSuchVoice:
                if time.monotonic() >= unread_until:
                    raise
                yield None
                time.sleep(min(UNREAD_RETRY_S, left_s))
                continue
            version = int(voice["version"])
            yield voice

    def happenings(self, *, everywhere: bool) -> Iterator[str]:
        """The events of all voices."""
        client = find_running(self.state, self.voices).client
        last = 0
        while True:
            try:
                found = client.events(since=last, wait_s=POLL_S if last else 0.0)
            except OperatorUnreachable as error:
                remark(str(error))
                time.sleep(2 * RETRY_S)
                continue
            for event in found["events"]:
                if everywhere or self._is_meant(event["voice"]):
                    mark = "!" if event["kind"] == "Warning" else " "
                    yield f"{clock(event['at'])} {mark} {event['voice'] or '-'}: {event['reason']}: {event['message']}"
            last = max(1, int(found["last"]))

    def edit(self, key: str, changes: Changes) -> Edited:
        """Change the voice's YAML; a running `segue up` does the rest."""
        from segue_cli.editing import edit_voice

        before = self._generation(key)
        file = edit_voice(key, changes, state=self.state, voices=self.voices)
        if find_running_or_none(self.state, self.voices) is None:
            remark("no segue up runs on this folder: nothing happens until one does")
        return Edited(where=str(file), generation=before + 1 if before else 0)

    def weights_of(self, key: str) -> tuple[str, ...]:
        """Names of a voice's weights."""
        from segue.model.documents import read_documents
        from segue_cli.editing import find_file

        file, _ = find_file(key, find_folder(self.state, self.voices))
        voices = (located.voice for located in read_documents(file).voices)
        return next(tuple(voice.spec.weights) for voice in voices if voice.key == key)

    def source(self, field: str, file: str) -> dict[FieldPath, Any]:
        """A local file. A digest in the YAML belongs to the old one; the operator computes the new one's."""
        from segue.model.edit import REMOVE

        if urlsplit(file).scheme not in ("", "file"):
            raise NothingToRoll(f"{file} is not local: its sha256 must stand in the YAML; edit the file instead")
        uri = _as_uri(file, find_folder(self.state, self.voices))
        return {f"spec.{field}.uri": uri, f"spec.{field}.sha256": REMOVE}

    def as_written(self, version: Mapping[str, Any]) -> dict[FieldPath, Any]:
        """Weights, reference and options of a version of the history, with paths as this folder has them."""
        from segue_cli.editing import subtrees_as_written

        return subtrees_as_written(version, find_folder(self.state, self.voices))

    def _is_meant(self, key: str | None) -> bool:
        return self.namespace is None or (key or "").startswith(f"{self.namespace}/")

    def _generation(self, key: str) -> int:
        try:
            known = self.ask(key)
        except NoSuchVoice:  # its file is not read yet
            return 0
        return int(known["metadata"]["generation"]) if known else 0


def _as_uri(file: str, folder: Path) -> str:
    """What is written into a YAML of this folder for a file that was named on the command line."""
    if urlsplit(file).scheme:
        return file
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise NothingToRoll(f"{file} is not a file; name the new weights")
    resolved = path.resolve()
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else resolved.as_uri()

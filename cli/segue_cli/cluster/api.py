"""The calls that the command line makes: VoiceModels and their Events, and what a refusal of each means.

Separate from the place that the commands see, because here every answer still has the API server's words and shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from segue_cli.cluster.errors import Answered, ApiServerUnreachable, ClusterError, Expired, Forbidden, NoVoiceModels
from segue_cli.cluster.session import Document, Session
from segue_cli.place import NoSuchVoice

GROUP, VERSION, PLURAL = "segue.dev", "v1alpha1", "voicemodels"
"""As in `segue.model.crd`, whose import takes longer than the call (a test holds them together)."""

FIELD_MANAGER = "segue-cli"
PAGE = 500
CUT_AFTER_S = 15.0
"""A watch that says nothing for this long after the API server should have ended it was cut on the way."""

_VOICES = f"{PLURAL}.{GROUP}"


class Kind(StrEnum):
    """What happened to an object of a watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch."""

    kind: Kind
    voice: Document

    @property
    def version(self) -> str:
        """Where to go on from."""
        return str(self.voice.get("metadata", {}).get("resourceVersion", ""))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Voices as they were at one version of the cluster."""

    voices: list[Document]
    version: str


@dataclass(frozen=True, slots=True)
class VoiceApi:
    """VoiceModels of one cluster. Every call may raise `ClusterError`."""

    session: Session

    @property
    def context(self) -> str:
        """What people call the cluster."""
        return self.session.access.context

    def voices(self, namespace: str | None, *, name: str | None = None) -> Snapshot:
        """All voices of a namespace, or (None) of all; with a name only that one."""
        params = {"limit": str(PAGE)} | ({"fieldSelector": f"metadata.name={name}"} if name else {})
        voices: list[Document] = []
        while True:
            with self._explained("list", namespace):
                page = self.session.json("GET", _path(namespace), params=params)
            voices += page.get("items", [])
            rest = page.get("metadata", {}).get("continue")
            if not rest:
                return Snapshot(voices, str(page.get("metadata", {}).get("resourceVersion", "")))
            params["continue"] = rest

    def get(self, namespace: str, name: str) -> Document:
        """One voice.

        Raises
        ------
        NoSuchVoice
            There is none of that name; the message says which there are.
        """
        with self._explained("get", namespace, name):
            return self.session.json("GET", _path(namespace, name))

    def patch(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Apply a merge patch; the voice as it is then.

        Raises
        ------
        Conflict
            The patch names a uid or resourceVersion that is not the object's.
        """
        params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        with self._explained("patch", namespace, name):
            return self.session.json("PATCH", _path(namespace, name), params=params, body=dict(patch))

    def watch(self, namespace: str | None, *, since: str, period_s: int, name: str | None = None) -> Iterator[Change]:
        """What happens to voices after a version, for so long.

        Raises
        ------
        Expired
            The version is too old: list again.
        """
        params = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(period_s)}
        params |= {"allowWatchBookmarks": "true"} | ({"fieldSelector": f"metadata.name={name}"} if name else {})
        with (
            self._explained("watch", namespace),
            self.session.lines(_path(namespace), params=params, silence_s=period_s + CUT_AFTER_S) as lines,
        ):
            for line in lines:
                if line.strip():
                    yield self._change(line)

    def events(self, namespace: str, uid: str) -> list[Document]:
        """The Events about one object, the oldest first."""
        params = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(PAGE)}
        with self._explained("list", namespace, resource="events"):
            found = self.session.json("GET", f"/api/v1/namespaces/{namespace}/events", params=params)
        return sorted(found.get("items", []), key=event_time)

    def _change(self, line: str) -> Change:
        try:
            found = json.loads(line)
            kind, voice = Kind(found["type"]), found["object"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiServerUnreachable(f"context {self.context}: a watch said {line[:80]!r}") from error
        if kind is Kind.ERROR:
            raise self._ended(voice)
        return Change(kind, voice)

    def _ended(self, status: Mapping[str, Any]) -> Answered:
        code = int(status.get("code") or 500)
        message = f"context {self.context}: the watch ended: {status.get('message')}"
        return (Expired if code == 410 else Answered)(message, code=code, status=status)

    @contextmanager
    def _explained(
        self, verb: str, namespace: str | None, name: str | None = None, *, resource: str = _VOICES
    ) -> Iterator[None]:
        """Turn a refusal into what a person can do about it."""
        try:
            yield
        except Answered as error:
            if error.code == 403:
                raise self._forbidden(error, verb, namespace, resource) from error
            if error.code == 404 and resource == _VOICES:
                raise self._missing(error, namespace, name) from error
            raise

    def _forbidden(self, error: Answered, verb: str, namespace: str | None, resource: str) -> Forbidden:
        where = f"namespace {namespace}" if namespace else "all namespaces (leave out -A to look into one)"
        said = error.status.get("message") or error
        return Forbidden(
            f"context {self.context}: not allowed: {said}\n"
            f"needed: {verb} on {resource} in {where}; the ClusterRole segue-user has it: "
            f"kubectl create rolebinding NAME --clusterrole=segue-user --user=USER -n {namespace or 'NAMESPACE'}",
            code=403,
            status=error.status,
        )

    def _missing(self, error: Answered, namespace: str | None, name: str | None) -> ClusterError | NoSuchVoice:
        if not (namespace and name and error.is_about_an_object):
            return NoVoiceModels(
                f"context {self.context} knows no VoiceModels: the CustomResourceDefinition is not installed; "
                "install it with: segue crd -o - | kubectl apply --server-side -f -",
                code=404,
                status=error.status,
            )
        known = "none, or not to be listed"
        with suppress(ClusterError):
            known = ", ".join(sorted(each["metadata"]["name"] for each in self.voices(namespace).voices)) or "none"
        return NoSuchVoice(
            f"there is no voice {namespace}/{name} in context {self.context}; in {namespace} there are: {known}"
        )


def event_time(event: Mapping[str, Any]) -> str:
    """When an Event last happened, ISO 8601: newer writers fill `series` or `eventTime`, older ones the rest."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("metadata", {}).get("creationTimestamp")
        or ""
    )


def _path(namespace: str | None, name: str | None = None) -> str:
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{place}/{PLURAL}" + (f"/{name}" if name else "")

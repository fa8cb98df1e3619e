"""Talking to the operator of a running `segue up` over its Unix socket.

Separate, and on the standard library's `http.client`, because `segue get` should answer at once: importing a larger
client takes longer than the call.
"""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from typing_extensions import override

from segue.errors import SegueError
from segue_cli.place import NoSuchVoice

TIMEOUT_S = 10.0


class OperatorUnreachable(SegueError):
    """Nobody answers on the socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class OperatorClient:
    """Calls of the local API. Every one may raise `OperatorUnreachable`."""

    socket_path: Path

    def voices(self) -> dict[str, Any]:
        """`{"voices": [...], "problems": [...]}`."""
        return self._get("/v1/voices")

    def voice(self, key: str, *, after: int | None = None, wait_s: float = 0.0) -> dict[str, Any]:
        """One voice in full; with `after` (its `version`) not before it changed or `wait_s` passed.

        Raises
        ------
        NoSuchVoice
            There is none of that name.
        """
        namespace, _, name = key.partition("/")
        query = {} if after is None else {"after": after, "wait": f"{wait_s:g}"}
        return self._get(f"/v1/voices/{quote(namespace)}/{quote(name)}", query, extra_s=wait_s)

    def events(self, *, since: int, wait_s: float = 0.0, voice: str | None = None) -> dict[str, Any]:
        """`{"events": [...], "last": id}` after `since`."""
        query: dict[str, Any] = {"since": since, "wait": f"{wait_s:g}"}
        return self._get("/v1/events", query | ({"voice": voice} if voice else {}), extra_s=wait_s)

    def pods(self) -> dict[str, Any]:
        """`{"pods": [...]}`."""
        return self._get("/v1/pods")

    def _get(self, path: str, query: dict[str, Any] | None = None, *, extra_s: float = 0.0) -> dict[str, Any]:
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            with closing(_UnixConnection(self.socket_path, timeout_s=TIMEOUT_S + extra_s)) as connection:
                connection.request("GET", target)
                response = connection.getresponse()
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise OperatorUnreachable(
                f"the operator does not answer on {self.socket_path}: {error}; it may be starting again"
            ) from error
        return _answer(response.status, content)


def _answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise OperatorUnreachable(f"the operator's answer ({status}) cannot be read: {content[:200]!r}") from error
    if status == 404:
        raise NoSuchVoice(str(found.get("error", {}).get("message", "not found")))
    if status >= 400 or not isinstance(found, dict):
        raise OperatorUnreachable(f"the operator answered {status}: {content[:200]!r}")
    return found

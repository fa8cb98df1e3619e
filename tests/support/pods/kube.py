"""Plain calls to the API server for what the suite does itself: objects as dictionaries, watches with a deadline.

Separate from the operator's adapter on purpose: what is under test must not also be the witness.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

MERGE_PATCH = "application/merge-patch+json"
VOICES = "/apis/segue.dev/v1alpha1"
CORE = "/api/v1"
PAUSE_S = 0.1

Object = dict[str, Any]


class Gone(Exception):
    """There is no such object."""


class Kube:
    """Over one HTTP client, which may be used by several threads."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str) -> Object | None:
        """The object or list; None where there is none."""
        answer = self._client.get(path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _body(answer)

    def list(self, path: str) -> list[Object]:
        """The items of a list; none where the kind does not exist (any more)."""
        found = self.get(path)
        return [] if found is None else list(found["items"])

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """POST."""
        return _body(self._client.post(path, json=body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Object:
        """Merge patch. Raises `Gone`."""
        answer = self._client.patch(path, content=json.dumps(body), headers={"Content-Type": MERGE_PATCH})
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise Gone(path)
        return _body(answer)

    def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """DELETE; one that is gone already is as good."""
        options = {} if grace_s is None else {"gracePeriodSeconds": str(grace_s)}
        answer = self._client.delete(path, params=options)
        if answer.status_code != httpx.codes.NOT_FOUND:
            _body(answer)

    def follow(self, collection: str, name: str, *, until_s: float) -> Iterator[Object | None]:
        """Every state of one object that the API server tells of, the present one first; None: there is none.

        Parameters
        ----------
        until_s
            Of the monotonic clock. The watch is opened anew when it is cut, also by an API server that is away.
        """
        while time.monotonic() < until_s:
            with contextlib.suppress(httpx.TransportError, Unavailable):
                found = self.get(f"{collection}/{name}")
                yield found
                version = found["metadata"]["resourceVersion"] if found else self._version_of(collection)
                yield from self._watch(collection, name, version=version, until_s=until_s)
            time.sleep(min(PAUSE_S, max(0.0, until_s - time.monotonic())))

    def _version_of(self, collection: str) -> str:
        found = self.get(collection)
        return str(found["metadata"]["resourceVersion"]) if found else "0"

    def _watch(self, collection: str, name: str, *, version: str, until_s: float) -> Iterator[Object | None]:
        left_s = max(1, math.ceil(until_s - time.monotonic()))
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(left_s),
        }
        with self._client.stream("GET", collection, params=query, timeout=httpx.Timeout(5, read=left_s)) as lines:
            for line in lines.iter_lines():
                event = json.loads(line)
                if event.get("type") not in ("ADDED", "MODIFIED", "DELETED"):
                    return  # 410: the version is too old, or an error instead of a watch
                yield None if event["type"] == "DELETED" else event["object"]


class Unavailable(Exception):
    """The API server answered that it cannot answer."""


def _body(answer: httpx.Response) -> Object:
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Unavailable(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}")
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:1000]}"
    found: Object = answer.json()
    return found

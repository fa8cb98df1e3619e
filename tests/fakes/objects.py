"""An in-memory API server for objects of any kind: resourceVersion, uid, conflicts; as `kubernetes.api.Api` calls it.

Not a mock: it refuses what a real one refuses, with the errors that `Api` makes of it.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from segue_operator.kubernetes.api import ApiRefused, ApiUnavailable, Listing, ObjectConflict, ObjectNotFound

Body = dict[str, Any]
DATA_LIMIT_BYTES = 1 << 20


class FakeObjects:
    """What is stored, by path.

    Attributes
    ----------
    calls
        By verb, of what took effect or could have.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Body] = {}
        self.calls: Counter[str] = Counter()
        self.down = False
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    def call(self, verb: str, path: str, body: Body | None) -> Body:
        """One request, carried out at once."""
        if self.down:
            raise ApiUnavailable("the API server does not answer")
        self.calls[verb] += 1
        match verb:
            case "GET":
                return copy.deepcopy(self._find(path))
            case "POST":
                return self._create(path, copy.deepcopy(body or {}))
            case "PUT":
                return self._replace(path, copy.deepcopy(body or {}))
            case "DELETE":
                self._find(path)
                return self.stored.pop(path)
            case _:
                raise AssertionError(f"no such call: {verb} {path}")

    def edit(self, path: str, change: Callable[[Body], None]) -> None:
        """What a person does with `kubectl edit`; never fails."""
        change(self.stored[path])
        self._touch(self.stored[path])

    def listing(self, path: str, selector: str) -> Listing:
        """A collection."""
        if self.down:
            raise ApiUnavailable("the API server does not answer")
        self.calls["LIST"] += 1
        wanted = dict(each.split("=") for each in selector.split(",") if each)
        group, _, kind = path.rpartition("/")
        items = [
            copy.deepcopy(body)
            for place, body in sorted(self.stored.items())
            if place.startswith(group)
            and place.split("/")[-2] == kind
            and wanted.items() <= (body["metadata"].get("labels") or {}).items()
        ]
        return Listing(items=items, resource_version="0")

    def _create(self, path: str, body: Body) -> Body:
        place = f"{path}/{body['metadata']['name']}"
        if place in self.stored:
            raise ObjectConflict(f"{place} exists already")
        self._check(body)
        body["metadata"]["uid"] = f"uid-{next(self._uids)}"
        self.stored[place] = body
        return self._touch(body)

    def _replace(self, path: str, body: Body) -> Body:
        stored = self._find(path)
        given, known = body["metadata"], stored["metadata"]
        for name in ("resourceVersion", "uid"):
            if given.get(name) not in (None, known[name]):
                raise ObjectConflict(f"{path}: {name} is {known[name]}, not {given[name]}")
        self._check(body)
        body["metadata"]["uid"] = known["uid"]
        self.stored[path] = body
        return self._touch(body)

    def _check(self, body: Body) -> None:
        size = sum(len(name) + len(text) for name, text in (body.get("data") or {}).items())
        if size > DATA_LIMIT_BYTES:
            raise ApiRefused(f"data: Too long: {size} bytes", status=422)

    def _touch(self, body: Body) -> Body:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        return copy.deepcopy(body)

    def _find(self, path: str) -> Body:
        if path not in self.stored:
            raise ObjectNotFound(f"{path} not found")
        return self.stored[path]


class FakeApi:
    """The objects over a network that a test decides about.

    Attributes
    ----------
    deliver
        Awaited with the request; answers with what came of it. At once, unless a test says otherwise.
    """

    def __init__(self, objects: FakeObjects, deliver: Callable[[Callable[[], Body]], Awaitable[Body]] | None = None):
        self.objects = objects
        self.deliver = deliver or _at_once

    async def call(self, verb: str, path: str, *, body: Any = None, answer_s: float = 15.0) -> Body:
        """As `Api.call`."""
        return await self.deliver(partial(self.objects.call, verb=verb, path=path, body=body))

    async def list_all(self, path: str, *, selector: str = "", metadata_only: bool = False) -> Listing:
        """As `Api.list_all`."""
        return self.objects.listing(path, selector)


async def _at_once(request: Callable[[], Body]) -> Body:
    return request()

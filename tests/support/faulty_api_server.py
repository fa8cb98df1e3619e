"""An API server on loopback that does on demand what a real one does on bad days: refuse, forget, cut a watch.

Discovery is kmock's; lists, watches and objects are answered from a dictionary, so that a test can say what is true and
separately what is told. It has no field validation and no conflicts of its own: those are tested against a real one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import kmock

from segue_operator.kubernetes.seen import key_of

Body = dict[str, Any]
Fault = Callable[[], Any]

COLLECTION = "/apis/segue.dev/v1alpha1/voicemodels"
_SERVED = {
    "segue.dev/v1alpha1/voicemodels": "VoiceModel",
    "v1/namespaces": "Namespace",
    "apiextensions.k8s.io/v1/customresourcedefinitions": "CustomResourceDefinition",
}
"""The last two every API server has, and kopf waits to see them."""

_OBJECT = re.compile(r"/apis/segue\.dev/v1alpha1/namespaces/[^/]+/voicemodels/[^/]+")
_CUT = None


def status(code: int, message: str = "as the test wants it", *, name: str | None = None) -> kmock.KubernetesError:
    """An error as the API server words it; `name`: about that object."""
    return kmock.KubernetesError(
        status=code, reason="Test", message=message, details={"name": name} if name else {"x": 1}
    )


class FaultyApiServer:
    """Serves VoiceModels.

    Attributes
    ----------
    objects
        What is true, by key.
    faults
        What comes instead of the next answers, by "list", "watch" or "get": exceptions to be answered with.
    asked
        How often each was asked for.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.faults: dict[str, deque[Exception]] = {"list": deque(), "watch": deque(), "get": deque()}
        self.asked: dict[str, int] = {"list": 0, "watch": 0, "get": 0}
        self._versions = itertools.count(100)
        self._watches: list[asyncio.Queue[Body | None]] = []

    def put(self, body: Body, *, tell: bool = True) -> None:
        """Create or replace; without `tell`, no watch says so."""
        kind = "MODIFIED" if key_of(body) in self.objects else "ADDED"
        metadata = {**body["metadata"], "resourceVersion": str(next(self._versions))}
        self.objects[key_of(body)] = {**body, "metadata": metadata}
        if tell:
            self._tell({"type": kind, "object": self.objects[key_of(body)]})

    def delete(self, key: str, *, tell: bool = True) -> None:
        """Delete."""
        body = self.objects.pop(key)
        if tell:
            self._tell({"type": "DELETED", "object": body})

    def cut_watches(self) -> None:
        """End every watch without a word."""
        for queue in self._watches:
            queue.put_nowait(_CUT)

    def end_watches_with(self, code: int) -> None:
        """Send an error in the stream of every watch, and end it."""
        self._tell({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "as the test wants it"}})
        self.cut_watches()

    @property
    def watched(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL."""
        async with kmock.KubernetesScaffold() as handler, kmock.Server(handler):
            for name, kind in _SERVED.items():
                handler.resources[name] = kmock.ResourceInfo(
                    kind=kind, singular=kind.lower(), namespaced=kind == "VoiceModel", verbs={"get", "list", "watch"}
                )
            handler["get", COLLECTION] << self._list_or_watch
            handler["get", _OBJECT] << self._get
            yield str(handler.url).rstrip("/")
            self.cut_watches()

    def _fault(self, kind: str) -> None:
        self.asked[kind] += 1
        if self.faults[kind]:
            raise self.faults[kind].popleft()

    async def _list_or_watch(self, request: kmock.Request) -> Any:
        if request.params.get("watch"):
            self._fault("watch")
            return self._stream()
        self._fault("list")
        metadata = {"resourceVersion": str(next(self._versions))}
        return {"kind": "VoiceModelList", "metadata": metadata, "items": list(self.objects.values())}

    async def _get(self, request: kmock.Request) -> Any:
        self._fault("get")
        parts = request.url.path.split("/")
        body = self.objects.get(f"{parts[5]}/{parts[7]}")
        if body is None:
            raise status(404, "not found", name=parts[7])
        return body

    async def _stream(self) -> AsyncIterator[bytes]:
        with self._watch() as queue:
            yield _line({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(next(self._versions))}}})
            while (event := await queue.get()) is not _CUT:
                yield _line(event)

    @contextmanager
    def _watch(self) -> Iterator[asyncio.Queue[Body | None]]:
        queue: asyncio.Queue[Body | None] = asyncio.Queue()
        self._watches.append(queue)
        try:
            yield queue
        finally:
            self._watches.remove(queue)

    def _tell(self, event: Body) -> None:
        for queue in self._watches:
            queue.put_nowait(event)


def kubeconfig_for(url: str, path: Path, *, token_file: Path | None = None) -> Path:
    """A kubeconfig that leads to a server without TLS."""
    user = {"tokenFile": str(token_file)} if token_file is not None else {"token": "any"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path.write_text(json.dumps(content))
    return path


def _line(event: Body | None) -> bytes:
    return json.dumps(event).encode() + b"\n"

"""A small API server over real HTTP: VoiceModels with versions, conflicts and watches, Events, and faults on demand.

For the command line, which speaks HTTP itself. It knows what a client can get wrong (preconditions, field selectors,
pages, expired watches) and none of what only a real one can judge (schemas, RBAC, defaults): those are tested there.
"""

from __future__ import annotations

import copy
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

Body = dict[str, Any]

PREFIX = "/apis/segue.dev/v1alpha1"
TOKEN = "fake-token"
HURRY = 0.1
"""Watches last this part of what they are asked to: a test waits for several."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeApiServer:
    """State behind the HTTP; change it from the test's thread through the methods.

    Attributes
    ----------
    installed
        Whether the CustomResourceDefinition is there.
    forbidden
        Verbs that nobody has, such as `patch`.
    faults
        Answers for the next requests that a function wants to spoil: it returns a code, or None.
    react
        What an operator does when a voice was patched: may change the status in place.
    """

    installed: bool = True
    forbidden: set[str] = field(default_factory=set)
    faults: list[Callable[[Seen], int | None]] = field(default_factory=list)
    react: Callable[[Body], None] = lambda voice: None
    seen: list[Seen] = field(default_factory=list)
    events: list[Body] = field(default_factory=list)
    voices: dict[tuple[str, str], Body] = field(default_factory=dict)
    version: int = 100
    url: str = ""
    _history: list[tuple[int, str, Body]] = field(default_factory=list)
    _oldest: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ending: bool = False

    def put(self, voice: Body) -> Body:
        """Create a voice, or replace one (a status write, an edit); the stored object."""
        with self._changed:
            metadata = voice["metadata"]
            key = (metadata["namespace"], metadata["name"])
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            kind = "MODIFIED" if key in self.voices else "ADDED"
            self.voices[key] = copy.deepcopy(voice)
            self._tell(kind, voice)
            return voice

    def change(self, name: str, *, namespace: str = "default", **status: Any) -> None:
        """Write fields of a voice's status."""
        voice = copy.deepcopy(self.voices[namespace, name])
        voice.setdefault("status", {}).update(status)
        self.put(voice)

    def delete(self, name: str, *, namespace: str = "default") -> None:
        """Delete a voice."""
        with self._changed:
            voice = self.voices.pop((namespace, name))
            self.version += 1
            voice["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", voice)

    def compact(self) -> None:
        """Forget all that happened: watches from before get 410."""
        with self._changed:
            self.version += 1
            self._oldest = self.version
            self._history.clear()
            self._changed.notify_all()

    def tell(self, name: str, reason: str, message: str, *, namespace: str = "default", kind: str = "Normal") -> None:
        """Write an Event about a voice, as the operator's look when they are read through core/v1."""
        uid = self.voices[namespace, name]["metadata"]["uid"]
        self.events.append(
            {
                "metadata": {"uid": f"event-{len(self.events)}", "creationTimestamp": "2026-11-22T10:00:00Z"},
                "involvedObject": {"uid": uid, "kind": "VoiceModel", "name": name},
                "eventTime": f"2026-11-22T10:00:{len(self.events):02d}.000000Z",
                "reason": reason,
                "message": message,
                "type": kind,
            }
        )

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator[FakeApiServer]:
        """Serve on a loopback port while in the context."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._ending = True
                self._changed.notify_all()
            server.shutdown()
            server.server_close()
            thread.join(10)

    def kubeconfig(self, path: Path, **user: Any) -> Path:
        """A kubeconfig for it with one context, `test`; JSON is YAML."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": user or {"token": TOKEN}}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def patches(self) -> list[Body]:
        """The bodies of all patches that came in."""
        return [each.body for each in self.seen if each.method == "PATCH"]

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer(self, request: Seen) -> tuple[int, Body | str]:
        """What to say to a request that is no watch."""
        if request.path.endswith("/events"):
            return self._forbidden("list", "events") or (200, {"items": self._events_of(request)})
        if not (self.installed and request.path.startswith(PREFIX)):
            return 404, "404 page not found\n"
        namespace, name = _place(request.path)
        verb = "list" if name is None else {"GET": "get", "PATCH": "patch"}[request.method]
        refusal = self._forbidden(verb, "voicemodels")
        if refusal is not None:
            return refusal
        if name is None:
            return 200, self._page(namespace, request.query)
        with self._changed:
            voice = self.voices.get((namespace or "", name))
            if voice is None:
                return _status(404, f'voicemodels.segue.dev "{name}" not found', name=name)
            return (200, voice) if verb == "get" else self._patch(voice, request.body)

    def watch(self, request: Seen) -> Iterator[Body]:
        """The lines of a watch."""
        namespace, _ = _place(request.path)
        wanted, since = _selected(request.query), int(request.query["resourceVersion"])
        ends = time.monotonic() + int(request.query["timeoutSeconds"]) * HURRY
        while True:
            with self._changed:
                if since < self._oldest:
                    yield {"type": "ERROR", "object": _status(410, "too old resource version")[1]}
                    return
                fresh = [each for each in self._history if each[0] > since]
                if not fresh:
                    left = ends - time.monotonic()
                    if left <= 0 or self._ending:
                        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}
                        return
                    self._changed.wait(left)
                    continue
            since = fresh[-1][0]
            for _, kind, voice in fresh:
                place, name = voice["metadata"]["namespace"], voice["metadata"]["name"]
                if namespace in (None, place) and wanted in (None, name):
                    yield {"type": kind, "object": voice}

    def _tell(self, kind: str, voice: Body) -> None:
        self._history.append((self.version, kind, copy.deepcopy(voice)))
        self._changed.notify_all()

    def _forbidden(self, verb: str, resource: str) -> tuple[int, Body] | None:
        if verb not in self.forbidden and f"{verb} {resource}" not in self.forbidden:
            return None
        return _status(403, f'{resource} is forbidden: User "jane" cannot {verb} resource "{resource}"')

    def _events_of(self, request: Seen) -> list[Body]:
        uid = request.query["fieldSelector"].removeprefix("involvedObject.uid=")
        return [each for each in self.events if each["involvedObject"]["uid"] == uid]

    def _page(self, namespace: str | None, query: dict[str, str]) -> Body:
        with self._changed:
            wanted, start = _selected(query), int(query.get("continue", "0"))
            found = [
                voice
                for (place, name), voice in sorted(self.voices.items())
                if namespace in (None, place) and wanted in (None, name)
            ]
            end = start + int(query["limit"])
            metadata = {"resourceVersion": str(self.version)} | ({"continue": str(end)} if end < len(found) else {})
            return {"kind": "VoiceModelList", "metadata": metadata, "items": copy.deepcopy(found[start:end])}

    def _patch(self, voice: Body, patch: Body) -> tuple[int, Body]:
        for name in ("uid", "resourceVersion"):
            if patch.get("metadata", {}).get(name, voice["metadata"][name]) != voice["metadata"][name]:
                return _status(409, "the object has been modified; please apply your changes to the latest version")
        after = merged(voice, patch)
        after["metadata"]["generation"] += after["spec"] != voice["spec"]
        self.put(after)
        self.react(after)
        return 200, self.voices[after["metadata"]["namespace"], after["metadata"]["name"]]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as its appendix defines it."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return copy.deepcopy(result)


def _place(path: str) -> tuple[str | None, str | None]:
    parts = path.removeprefix(PREFIX).strip("/").split("/")
    namespace = parts[1] if parts[0] == "namespaces" else None
    rest = parts[2:] if namespace else parts
    return namespace, rest[1] if len(rest) > 1 else None


def _selected(query: dict[str, str]) -> str | None:
    selector = query.get("fieldSelector")
    return selector.removeprefix("metadata.name=") if selector else None


def _status(code: int, message: str, *, name: str | None = None) -> tuple[int, Body]:
    details = {"name": name, "group": "segue.dev", "kind": "voicemodels"} if name else {}
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message, "details": details}


def _handler(fake: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test sees `seen`."""

        def _answer(self) -> None:
            request = self._read()
            fake.seen.append(request)
            code = next((code for code in [fault(request) for fault in fake.faults] if code), None)
            if code is not None:
                self._send(*_status(code, "a fault that the test asked for"))
            elif request.headers.get("authorization") != f"Bearer {TOKEN}" and fake.url.startswith("http:"):
                self._send(*_status(401, "Unauthorized"))
            elif request.query.get("watch") == "true":
                self._stream(fake.watch(request))
            else:
                self._send(*fake.answer(request))

        def _read(self) -> Seen:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            return Seen(self.command, parts.path, query, headers, body)

        def _send(self, code: int, answer: Body | str) -> None:
            content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            if code in (429, 503):
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, lines: Iterator[Body]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for line in lines:
                    content = json.dumps(line).encode() + b"\n"
                    self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # the client has left
                self.close_connection = True

    return Handler

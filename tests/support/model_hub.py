"""A model hub on loopback: `REPOSITORY/resolve/COMMIT/FILE` as huggingface.co answers it, and ways to break.

Large files are a redirect to another path with `X-Linked-Etag` (sha256) and `X-Linked-Size`, small ones an answer whose
ETag is git's name for their content; what is not there is 404 with `X-Error-Code`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.web import QuietHandler, web_server

REPOSITORY = "somebody/models"
COMMIT = "c0ffee" + "0" * 34
LARGE_BYTES = 10_000


@dataclass
class Hub:
    """What it has, and what it was asked.

    Attributes
    ----------
    cut_after
        The next content ends after so many bytes.
    lie
        Content that is sent in the place of a large file's.
    elsewhere
        Where large files lie; empty: below this hub.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    url: str = ""
    cut_after: int | None = None
    lie: bytes | None = None
    elsewhere: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)


class Handler(QuietHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        """One file."""
        hub = self.hub
        hub.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if self.path.startswith("/cdn/"):
            name = self.path.removeprefix("/cdn/")
            self._content(hub.lie if hub.lie is not None else hub.files[name], etag=f'"{name}"')
            return
        prefix = f"/{REPOSITORY}/resolve/"
        commit, _, name = self.path.removeprefix(prefix).partition("/")
        if not self.path.startswith(prefix):
            self._nothing("RepoNotFound")
        elif commit != hub.commit:
            self._nothing("RevisionNotFound")
        elif name not in hub.files:
            self._nothing("EntryNotFound")
        elif len(hub.files[name]) >= LARGE_BYTES:
            self._linked(name, hub.files[name])
        else:
            content = hub.files[name]
            self._content(content, etag=f'"{hashlib.sha1(b"blob %d" % len(content) + bytes(1) + content).hexdigest()}"')

    def _linked(self, name: str, content: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.hub.elsewhere or self.hub.url}/cdn/{name}")
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, content: bytes, *, etag: str) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.hub.cut_after is not None:
            body, self.hub.cut_after = body[: self.hub.cut_after], None
            self.close_connection = True
        self.wfile.write(body)

    def _nothing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, up and running."""
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with web_server(handler, breaks=True) as hub.url:
        yield hub

"""An HTTP server of ours on loopback while a block runs.

Separate from what each one answers: how a server comes up on a free port and is gone afterwards is the same for all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override


class QuietHandler(BaseHTTPRequestHandler):
    """Logs nothing."""

    @override
    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def web_server(handler: type[BaseHTTPRequestHandler], *, breaks: bool = False) -> Iterator[str]:
    """Its address, `http://127.0.0.1:PORT`. One that `breaks` connections on purpose keeps quiet about that."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if breaks:
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="web server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

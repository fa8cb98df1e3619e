"""One batch to the receiver, by one HTTP request.

Separate from when that happens and what is done where it fails. By the standard library: one request every few seconds
needs no pool of connections, and the clients that have one are loaded by nothing else in a worker.
"""

from __future__ import annotations

import gzip
import http.client
import ssl
import urllib.error
import urllib.request
import zlib
from urllib.parse import urlsplit

from typing_extensions import override

from segue.errors import SegueError
from segue.otlp.settings import Compression, EndpointRejected, Settings

TRY_AGAIN = frozenset({429, 502, 503, 504})
"""https://opentelemetry.io/docs/specs/otlp/#otlphttp-response"""

MOST_READ_BYTES = 1 << 16


class NotTaken(SegueError):
    """The receiver did not take a batch.

    Attributes
    ----------
    again
        Whether it may take it later.
    after_s
        Not before so long.
    """

    def __init__(self, why: str, *, again: bool, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.again = again
        self.after_s = after_s


class Post:
    """Posts batches to one receiver."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises
        ------
        EndpointRejected
            A certificate or key cannot be read.
        """
        self._url = settings.url
        self._compression: Compression = settings.compression
        self._headers = {
            "User-Agent": "segue",
            **settings.headers,
            "Content-Type": "application/x-protobuf",
            **({"Content-Encoding": settings.compression} if settings.compression != "none" else {}),
        }
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if urlsplit(settings.url).scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_tls(settings)))
        self._opener = urllib.request.build_opener(*handlers)

    def __call__(self, body: bytes, timeout_s: float) -> None:
        """Send a message.

        Raises
        ------
        NotTaken
            It was refused, or nobody answered.
        """
        request = urllib.request.Request(
            self._url, data=_compressed(body, self._compression), headers=self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                response.read(MOST_READ_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                again, after = error.code in TRY_AGAIN, error.headers.get("Retry-After", "")
            after_s = float(after) if after.isascii() and after.isdigit() else 0.0
            raise NotTaken(f"answered {error.code}", again=again, after_s=after_s) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotTaken(str(getattr(error, "reason", error)) or type(error).__name__, again=True) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A receiver that moved is told of: what follows a redirect would be a GET without spans."""

    @override
    def redirect_request(self, *_arguments: object) -> None:
        return None


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = [settings.ca_file, settings.certificate_file, settings.key_file]
        raise EndpointRejected(f"no TLS for traces with {', '.join(filter(None, files))}: {error}") from error
    return context


def _compressed(body: bytes, compression: Compression) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(body, compresslevel=1)
        case "deflate":
            return zlib.compress(body, level=1)
        case "none":
            return body

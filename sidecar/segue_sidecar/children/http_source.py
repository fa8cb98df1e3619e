"""Reading a file over HTTP without being led astray.

Separate because no library does what is needed: the name is resolved once, every address is checked, and the one that
was checked is the one that is dialled (a name that resolves differently the second time gains nothing); each redirect
is a new URI that must be allowed by itself; proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urljoin, urlsplit

from typing_extensions import override

from segue.errors import FetchError
from segue_sidecar.sources import Allowed, require_allowed, require_dialable

_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Interrupted(FetchError):
    """A connection that broke or was not to be had: another try may help."""


class Absent(FetchError):
    """The server says that there is no such file.

    Attributes
    ----------
    code
        What it says beside that (`X-Error-Code`), lower-case; empty: nothing.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Body:
    """An open answer.

    Attributes
    ----------
    offset
        Byte of the file at which the answer begins; 0 also where the server does not know ranges.
    total_bytes
        Size of the whole file, or `None` where the server does not say.
    headers
        Of every answer on the way to it, names in lower case; the first that said something counts.
    """

    offset: int
    total_bytes: int | None
    response: http.client.HTTPResponse
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end.

        Raises
        ------
        Interrupted
            The connection broke, or nothing came for too long.
        """
        try:
            return self.response.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"the connection broke: {type(error).__name__}: {error}") from error


@contextmanager
def open_http(uri: str, *, allowed: Allowed, offset: int, timeout_s: float, token: str | None = None) -> Iterator[Body]:
    """GET a file from byte `offset` on; `timeout_s` is the longest silence.

    Parameters
    ----------
    token
        Bearer token for the host of `uri`; a redirect does not take it to another.

    Raises
    ------
    ForbiddenSource
        The URI, an address that it resolves to, or a redirect is not allowed.
    Absent
        404, 410.
    FetchError
        Another error status, too many redirects.
    Interrupted
        No connection, or a server that is in trouble (5xx).
    """
    headers: dict[str, str] = {}
    origin = urlsplit(uri)[:2]
    for _ in range(_REDIRECTS + 1):
        parts = require_allowed(uri, allowed)
        if parts.scheme not in ("http", "https"):
            raise FetchError(f"{uri}: a redirect leads out of HTTP")
        connection = _connect(parts, private_addresses=allowed.private_addresses, timeout_s=timeout_s)
        try:
            response = _request(connection, parts, offset=offset, token=token if parts[:2] == origin else None)
            headers = {**{name.lower(): value for name, value in response.getheaders()}, **headers}
            if response.status in (301, 302, 303, 307, 308):
                uri = urljoin(uri, response.getheader("location") or "")
                continue
            yield replace(_body(response, uri=uri, offset=offset), headers=headers)
            return
        finally:
            connection.close()
    raise FetchError(f"{uri}: more than {_REDIRECTS} redirects")


class _PinnedConnection(http.client.HTTPConnection):
    """Dials the address that was checked, under the name that was asked for."""

    def __init__(self, host: str, port: int, *, address: str, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address = address
        self._tls = tls

    @override
    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), timeout=self.timeout)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def _connect(parts: SplitResult, *, private_addresses: bool, timeout_s: float) -> _PinnedConnection:
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Interrupted(f"the host {host} cannot be resolved: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        require_dialable(address, host=host, private_addresses=private_addresses)
    tls = ssl.create_default_context() if secure else None
    return _PinnedConnection(host, port, address=addresses[0], tls=tls, timeout_s=timeout_s)


def _request(
    connection: _PinnedConnection, parts: SplitResult, *, offset: int, token: str | None
) -> http.client.HTTPResponse:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept-Encoding": "identity", "User-Agent": "segue"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("GET", target, headers=headers)
        return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Interrupted(f"{parts.geturl()}: cannot be read: {type(error).__name__}: {error}") from error


def _body(response: http.client.HTTPResponse, *, uri: str, offset: int) -> Body:
    length = response.getheader("content-length")
    if response.status == 200:
        return Body(0, int(length) if length and length.isdigit() else None, response)
    if response.status == 206 and (match := _CONTENT_RANGE.match(response.getheader("content-range") or "")):
        if int(match[1]) != offset:
            raise FetchError(f"{uri}: asked from byte {offset}, but the server sent from byte {match[1]}")
        return Body(offset, int(match[2]) if match[2] != "*" else None, response)
    if response.status in (404, 410):
        code = (response.getheader("x-error-code") or "").lower()
        raise Absent(f"{uri}: the server answered {response.status} {response.reason} {code}".rstrip(), code=code)
    kind = Interrupted if response.status >= 500 else FetchError
    raise kind(f"{uri}: the server answered {response.status} {response.reason}")

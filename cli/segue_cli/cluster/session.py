"""HTTP to one API server as one user.

Separate from the calls that are made over it: here are TLS, proxies, renewal of credentials and what a broken
connection is called; nothing knows what a VoiceModel is. Proxies and their exceptions are read here and not by httpx,
which knows no address ranges in NO_PROXY and would take a login out of `~/.netrc`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from segue_cli.cluster.credentials import Credentials, credentials_of
from segue_cli.cluster.errors import Answered, ApiServerUnreachable, Conflict, Expired, NoCredentials
from segue_cli.cluster.kubeconfig import Access

CONNECT_S, ANSWER_S = 5.0, 30.0
TRIES = 3
LONGEST_PAUSE_S = 5.0
MERGE_PATCH = "application/merge-patch+json"

Document = dict[str, Any]


@dataclass(slots=True)
class Session:
    """Requests to the API server of an access. Made without a connection; `close` it in the end."""

    access: Access
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _credentials: Credentials | None = None
    _http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def json(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Document | None = None
    ) -> Document:
        """Ask and read the answer; reads are tried again while the API server is overloaded.

        Raises
        ------
        ApiServerUnreachable
            No answer.
        Answered
            It said no.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": MERGE_PATCH} if body is not None else {})
        for left in reversed(range(TRIES)):
            with self._answer(method, path, params=params, content=content, headers=headers) as response:
                response.read()
                if left and method == "GET" and response.status_code in (429, 503):
                    time.sleep(_pause_s(response))
                    continue
                return self._document(response)
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def lines(self, path: str, *, params: Mapping[str, str], silence_s: float) -> Iterator[Iterator[str]]:
        """A stream of lines; over `silence_s` without one the connection counts as cut.

        Raises
        ------
        ApiServerUnreachable
            No answer, or the connection was cut.
        Answered
            It said no.
        """
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=silence_s)
        headers = {"Accept": "application/json"}
        with self._answer("GET", path, params=params, headers=headers, timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
                raise _refusal(response, self.access)
            yield self._guarded(response)

    def _guarded(self, response: httpx.Response) -> Iterator[str]:
        try:
            yield from response.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def _answer(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        """The answer, asked for a second time with new credentials where the first were not accepted."""
        response = self._send(method, path, **request)
        if response.status_code == 401 and self._credentials is not None and self._credentials.can_renew:
            response.close()
            self._credentials = None
            response = self._send(method, path, **request)
        try:
            yield response
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        http, credentials = self._ready()
        name = self.access.cluster.text("tls-server-name")
        request["headers"] = [*request["headers"].items(), *credentials.headers]
        request["extensions"] = {"sni_hostname": name} if name else {}
        try:
            return http.send(http.build_request(method, path.lstrip("/"), **request), stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _ready(self) -> tuple[httpx.Client, Credentials]:
        """A client for credentials that hold."""
        if self._credentials is not None and not self._credentials.is_over(datetime.now(UTC)):
            assert self._http is not None, "credentials are kept only beside a client"
            return self._http, self._credentials
        self.close()
        self._credentials = credentials_of(self.access)
        try:
            self._http = httpx.Client(
                base_url=self.access.server.rstrip("/") + "/",
                verify=tls_context(self.access, self._credentials),
                proxy=proxy_for(self.access, self.environ),
                trust_env=False,
                timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            )
        except (ImportError, ValueError) as error:  # httpx without SOCKS, or a proxy that is no URL
            raise ApiServerUnreachable(f"context {self.access.context}: its proxy cannot be used: {error}") from error
        return self._http, self._credentials

    def _unreachable(self, error: httpx.HTTPError) -> ApiServerUnreachable:
        said = str(error) or type(error).__name__
        return ApiServerUnreachable(
            f"the API server of context {self.access.context} does not answer at {self.access.server}: {said}"
        )

    def _document(self, response: httpx.Response) -> Document:
        if response.status_code >= 400:
            raise _refusal(response, self.access)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ApiServerUnreachable(
                f"what answers at {self.access.server} (context {self.access.context}) is no API server: "
                f"{response.text[:80]!r}"
            )
        return found


def _pause_s(response: httpx.Response) -> float:
    try:
        wanted = float(response.headers.get("Retry-After", "1"))
    except ValueError:
        wanted = 1.0
    return min(LONGEST_PAUSE_S, max(0.0, wanted))


def _refusal(response: httpx.Response, access: Access) -> Answered | NoCredentials:
    try:
        status = response.json()
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = None
    code = response.status_code
    if code == 401:
        return NoCredentials(
            f"context {access.context}: {access.server} does not accept its credentials (401); log in again"
        )
    said = str((status or {}).get("message") or response.text[:200].strip() or response.reason_phrase)
    kind = {409: Conflict, 410: Expired}.get(code, Answered)
    return kind(f"context {access.context}: the API server answered {code}: {said}", code=code, status=status)


# --- TLS and proxies --------------------------------------------------------------------------------------------------


def tls_context(access: Access, credentials: Credentials) -> ssl.SSLContext:
    """Trust the cluster's authority alone; show the user's certificate where there is one.

    Raises
    ------
    NoCredentials
        A certificate or key that is none.
    """
    authority = access.cluster.content("certificate-authority")
    try:
        context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
        # Kubernetes' own tools make authorities without the key identifiers that Python 3.13 asks for.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if access.cluster.values.get("insecure-skip-tls-verify") is True:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if credentials.certificate is not None:
            _show(context, credentials.certificate)
    except (ssl.SSLError, ValueError) as error:
        raise NoCredentials(f"context {access.context}: a certificate or key in it is none: {error}") from error
    return context


def _show(context: ssl.SSLContext, pair: tuple[bytes, bytes]) -> None:
    """OpenSSL reads files only: they live for this call, in a folder that is ours alone."""
    with tempfile.TemporaryDirectory(prefix="segue-") as name:
        cert, key = Path(name, "cert.pem"), Path(name, "key.pem")
        cert.write_bytes(pair[0])
        key.touch(mode=0o600)
        key.write_bytes(pair[1])
        context.load_cert_chain(cert, key)


def proxy_for(access: Access, environ: Mapping[str, str]) -> str | None:
    """`proxy-url` of the cluster, else what the environment says of this address."""
    own = access.cluster.text("proxy-url")
    if own is not None:
        return own
    parts = urlsplit(access.server)
    said = _either(environ, f"{parts.scheme}_proxy") or _either(environ, "all_proxy")
    if not said or is_excepted(parts.hostname or "", _either(environ, "no_proxy") or ""):
        return None
    return said if "://" in said else f"http://{said}"


def _either(environ: Mapping[str, str], name: str) -> str | None:
    return environ.get(name) or environ.get(name.upper())


def is_excepted(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: `*`, a name, a domain with what is below it, an address, a range."""
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for each in filter(None, (part.strip().lower() for part in no_proxy.split(","))):
        if each == "*" or each == host:
            return True
        if address is None and host.endswith(f".{each.lstrip('.').removeprefix('*.')}"):
            return True
        if address is not None and _in_range(address, each):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_range(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> bool:
    try:
        return address in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False

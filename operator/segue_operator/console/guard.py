"""Who may see the page, and who may act: what is asked of every request before anything else.

Separate because it is the security of the console in one place. Reading needs nothing but a Host that is ours, which
keeps a stranger's web page from reading through a name that it points at us (DNS rebinding). What acts or costs
something must carry a header that no other origin can send unless we allow it, and we allow nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.errors import SegueError
from segue_operator.triggers.token_file import NoToken, TokenFile

OWN_HEADER = "segue-console"
LOOPBACK = ("localhost", "127.0.0.1", "::1")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Forbidden(SegueError):
    """A request that may not do what it asks for.

    Attributes
    ----------
    status
        401: another token might; 403: none would.
    """

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Gate:
    """Tokens of people who act; None: nobody does."""

    token: TokenFile | None

    def require_token(self, request: Request) -> None:
        """Let a request act.

        Raises
        ------
        Forbidden
            It carries no token of ours, or there are none.
        """
        self.require_own(request)
        if self.token is None:
            raise Forbidden("this console only shows: no console.tokenFile is configured", status=403)
        try:
            opens = self.token.opens(request.headers.get("authorization"))
        except NoToken as error:
            raise Forbidden(f"nobody can act: {error}", status=403) from error
        if not opens:
            raise Forbidden("this token does not open the console", status=401)

    def require_own(self, request: Request) -> None:
        """Let a request through that our page sent.

        Raises
        ------
        Forbidden
            Another page, or a form, sent it.
        """
        if OWN_HEADER not in request.headers or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Forbidden(f"is for the console's own page: send the header {OWN_HEADER}: 1", status=403)


class Shielded:
    """Around the application: refuses foreign hosts, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in (*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def adorned(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                message["headers"] = headers.raw
            await send(message)

        host = _host_of(Request(scope).headers.get("host", ""))
        if host not in self._hosts:
            text = f"the console is not known as {host[:100]!r}; add it to console.hosts"
            await JSONResponse({"error": {"message": text}}, status_code=421)(scope, receive, adorned)
            return
        await self._app(scope, receive, adorned)


def _host_of(header: str) -> str:
    """Without the port, in lower case."""
    host, colon, port = header.rpartition(":")
    name = host if colon and port.isdigit() else header
    return name.strip("[]").lower()

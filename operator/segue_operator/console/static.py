"""The files of the page, as they lie in the package.

Separate because there is a fixed set of them and nothing else is ever served: no path of a request touches the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """By name; read at the first request, so that a console that nobody opens holds none of them."""
    found = {}
    for file in resources.files("segue_operator.console").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            content = file.read_bytes()
            found[file.name] = Asset(content, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def serve(request: Request, name: str) -> Response | None:
    """Answer with a file, or that it is unchanged; None: there is no such file."""
    asset = assets().get(name)
    if asset is None:
        return None
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)

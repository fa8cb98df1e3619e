"""The plain listener: health, readiness, figures, and whatever may come in from Alertmanager.

Separate from `api.py`, which shows people what is going on through a Unix socket: this one is reached over the network,
so it shows nothing of voices and changes nothing without a token.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from segue.errors import SegueError
from segue_operator.api import ApiServer

KEEP_ALIVE_S = 10
BACKLOG = 256


class CannotListen(SegueError):
    """The address is taken, or none of this machine's."""


def make_plain_app(
    *, waiting_for: Callable[[], Sequence[str]], registry: CollectorRegistry, routes: Sequence[Route] = ()
) -> Starlette:
    """`/healthz` (the loop turns), `/readyz`, `/metrics`, and the given routes.

    `waiting_for` names what is not ready yet; nothing is ready.
    """

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        missing = list(waiting_for())
        return JSONResponse({"ready": not missing, "waitingFor": missing}, status_code=503 if missing else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics), *routes],
        exception_handlers={HTTPException: _refuse},
    )


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    content = {"error": {"message": error.detail}}
    return JSONResponse(content, status_code=error.status_code, headers=error.headers)


def make_plain_server(app: ASGIApp) -> ApiServer:
    """A server that is run with `api.serve_on`."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    return ApiServer(config)


def bind_address(address: str) -> socket.socket:
    """Listen on `ADDRESS:PORT`; port 0 takes a free one.

    Raises
    ------
    CannotListen
        With the address and why.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except (OSError, OverflowError, ValueError) as error:
        listening.close()
        raise CannotListen(f"cannot listen on {address}: {error}; choose another `listen`") from error
    return listening


def address_of(listening: socket.socket) -> str:
    """The `ADDRESS:PORT` that was really taken."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

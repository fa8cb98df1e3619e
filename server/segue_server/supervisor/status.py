"""`/metrics /healthz /readyz /stats`, on a port of their own: they must answer when every worker is busy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from typing_extensions import override

from segue.exposition import exposition
from segue_server.supervisor.metrics import Snapshot


class StatusServer(uvicorn.Server):
    """uvicorn without its hands on the signals: those are the supervisor's."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_status_app(
    *, snapshot: Callable[[], Snapshot], unready: Callable[[], str], stats: Callable[[], dict[str, Any]]
) -> Starlette:
    """The application. `unready` says why the server should get no traffic; empty: it should."""

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(snapshot())
        return Response(await exposition(registry), media_type=CONTENT_TYPE_LATEST)

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        reason = unready()
        return PlainTextResponse(f"{reason or 'ready'}\n", status_code=503 if reason else 200)

    async def all_stats(request: Request) -> Response:
        return JSONResponse(stats())

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/stats", all_stats),
        ]
    )


def serve_status(app: Starlette, sock: socket.socket) -> tuple[StatusServer, asyncio.Task[None]]:
    """Serve it on a bound socket; set `should_exit` of the server and await the task to end it."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none", timeout_keep_alive=30)
    server = StatusServer(config)
    return server, asyncio.create_task(server.serve(sockets=[sock]))

"""The plain listener: health and metrics, for probes and Prometheus. It changes nothing and needs no certificate."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segue.exposition import exposition
from segue_sidecar.metrics import Metrics


def make_status_app(*, metrics: Metrics, waiting_for: Callable[[], list[str]]) -> Starlette:
    """`/healthz` (the loop turns), `/readyz` (every hot voice is active) and `/metrics`.

    `waiting_for` names what is not ready yet; an empty list is ready.
    """

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        missing = waiting_for()
        return JSONResponse({"ready": not missing, "waitingFor": missing}, status_code=503 if missing else 200)

    async def show(_request: Request) -> Response:
        return Response(await exposition(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show)])

"""The routes. Each reads its input, calls one thing, and shows what came out."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse

from segue import __version__
from segue.errors import UnsupportedWire, WrongPod
from segue.memory.messages import VoiceName
from segue.wire import (
    FENCE_PATTERN,
    HEADER_FENCE,
    HEADER_POD,
    HEADER_TERM,
    HEADER_VOICE_UID,
    HEADER_WIRE,
    WIRE_VERSION,
    Fence,
    PointerRequest,
    PointerResult,
    ProbeReport,
    ProbeRequest,
    RevisionRequest,
    RevisionState,
    StateDocument,
    VoiceState,
    WindowsDocument,
    understands,
)
from segue_sidecar.api.body import BodyLimit
from segue_sidecar.api.dated import Dated
from segue_sidecar.api.errors import documented, install
from segue_sidecar.api.fast_lane import FastLane
from segue_sidecar.api.services import Services
from segue_sidecar.fences import Command
from segue_sidecar.hurry import STATE_KEY

MAX_BODY_BYTES = 1 << 20
MAX_WAIT_S = 60.0

_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_VOICE = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_ANY = (400, 404, 409, 413, 421, 422, 507)
_READS = (400, 404, 421, 422)

Namespace = Annotated[str, Path(pattern=_NAME)]
Name = Annotated[str, Path(pattern=_VOICE)]
Wire = Annotated[
    int, Header(alias=HEADER_WIRE, json_schema_extra={"minimum": WIRE_VERSION - 1, "maximum": WIRE_VERSION + 1})
]
RevisionPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


def make_app(services: Services) -> Any:
    """The whole application, as ASGI."""
    app = FastAPI(
        title="Segue sidecar",
        version=__version__,
        description="What operator and sidecar say to each other. Mutual TLS; see `segue.wire`.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_addressed(services))],
    )
    install(app, on_refusal=services.refused)
    _add_reads(app, services)
    _add_revisions(app, services)
    _add_pointer(app, services)
    return Dated(BodyLimit(FastLane(app, services), most_bytes=MAX_BODY_BYTES))


def _addressed(services: Services) -> Any:
    """Every call says which pod it means; one with the leader's term counts as contact."""
    this_pod = Header(alias=HEADER_POD, json_schema_extra={"enum": [services.pod_uid]})

    async def check(
        pod: str = this_pod,
        term: Annotated[int, Header(alias=HEADER_TERM, ge=0, lt=10**18, description="0: nobody's.")] = 0,
        wire: Wire = WIRE_VERSION,
    ) -> None:
        if not understands(wire):
            raise UnsupportedWire(
                f"this sidecar speaks wire version {WIRE_VERSION} and understands {WIRE_VERSION - 1} to "
                f"{WIRE_VERSION + 1}, not {wire}: upgrade the operator first, one version at a time"
            )
        if pod != services.pod_uid:
            raise WrongPod(f"this is pod {services.pod_uid}, not {pod}: look the address up again")
        services.contact.heard(term)

    return check


async def _command(
    fence: Annotated[str, Header(alias=HEADER_FENCE, pattern=FENCE_PATTERN)],
    voice_uid: Annotated[str, Header(alias=HEADER_VOICE_UID, min_length=1, max_length=253)],
) -> Command:
    return Command(Fence.parse(fence), voice_uid)


Commanded = Annotated[Command, Depends(_command)]


def _add_reads(app: FastAPI, services: Services) -> None:
    @app.get(
        "/v1/state",
        response_model=StateDocument,
        responses={304: {"description": "Nothing changed within `wait`."}, **documented(400, 421, 422)},
    )
    async def state(
        request: Request,
        since: Annotated[str | None, Query(max_length=64, description="ETag of the state that is known.")] = None,
        wait: Annotated[str, Query(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3})?s$", description="At most 60s.")] = "0s",
        voice: Annotated[list[str], Query(max_length=64, description="`namespace/name`; none: all.")] = [],  # noqa: B006
    ) -> Response:
        """Everything that this pod holds; with `since` and `wait`, when it is another state than that one.

        With `voice`, once or often, it tells of those only; the ETag is that of everything all the same. Another
        request behind it on the same connection ends the wait.
        """
        wait_s, hurry = min(float(wait.removesuffix("s")), MAX_WAIT_S), request.scope["state"].get(STATE_KEY)
        if since is not None and not await services.feed.wait_for_other(since, wait_s=wait_s, hurry=hurry):
            return Response(status_code=304, headers={"etag": f'"{since}"'} if since.isalnum() else None)
        etag, content = services.feed.document(only=voice)
        return Response(content, media_type="application/json", headers={"etag": f'"{etag}"'})

    @app.get("/v1/windows", responses=documented(*_READS))
    async def windows(
        voice: Annotated[str, Query(pattern=r"^[a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*$", max_length=317)],
        since: Annotated[int, Query(ge=0, le=1 << 53, description="Unix seconds.")] = 0,
    ) -> WindowsDocument:
        """The evidence of one voice: ten-second buckets of its revisions, at most one hour."""
        services.commands.require_known(voice)
        return services.evidence.windows(voice, since_s=since)


def _add_revisions(app: FastAPI, services: Services) -> None:
    base = "/v1/voices/{namespace}/{name}/revisions/{revision}"

    @app.put(base, status_code=202, responses=documented(*_ANY))
    async def ensure_revision(
        namespace: Namespace, name: Name, revision: RevisionPath, request: RevisionRequest, command: Commanded
    ) -> RevisionState:
        """Have a revision resident as a shadow. The same call again: the same answer."""
        return services.commands.ensure_revision(VoiceName(namespace, name), revision, request, command)

    @app.delete(base, status_code=204, responses=documented(*_ANY))
    async def drop_revision(namespace: Namespace, name: Name, revision: RevisionPath, command: Commanded) -> Response:
        """Let a revision go. One that is not here is gone already."""
        await services.commands.drop_revision(VoiceName(namespace, name), revision, command)
        return Response(status_code=204)

    @app.post(f"{base}/probe", status_code=202, responses=documented(*_ANY))
    async def probe(
        namespace: Namespace, name: Name, revision: RevisionPath, request: ProbeRequest, command: Commanded
    ) -> ProbeReport:
        """Start a probe, or find the one of the same key and kind. It goes on behind the answer; see the state."""
        return services.probing.start(VoiceName(namespace, name), revision, request, command)

    @app.get(f"{base}/report", responses=documented(*_READS))
    async def report(namespace: Namespace, name: Name, revision: RevisionPath) -> ProbeReport:
        """The latest report, with the details of each case and seed."""
        return services.probing.report(VoiceName(namespace, name), revision)

    @app.get(
        f"{base}/audio/{{case}}/{{seed}}",
        response_class=FileResponse,
        responses={200: {"content": {"audio/wav": {}}}, **documented(*_READS)},
    )
    async def audio(
        namespace: Namespace,
        name: Name,
        revision: RevisionPath,
        case: Annotated[int, Path(ge=0, le=63)],
        seed: Annotated[int, Path(ge=0, le=1 << 31)],
    ) -> FileResponse:
        """What the latest full probe said in one case with one seed."""
        path = services.probing.audio(VoiceName(namespace, name), revision, case=case, seed=seed)
        return FileResponse(path, media_type="audio/wav")


def _add_pointer(app: FastAPI, services: Services) -> None:
    @app.put("/v1/voices/{namespace}/{name}/pointer", responses=documented(*_ANY))
    async def set_pointer(
        namespace: Namespace, name: Name, request: PointerRequest, command: Commanded
    ) -> PointerResult:
        """The flip. Well-formed ones never get here: see `fast_lane`."""
        return services.flip(VoiceName(namespace, name), request, command, received_ns=time.monotonic_ns())

    @app.post("/v1/voices/{namespace}/{name}/confirm", responses=documented(*_ANY))
    async def confirm(namespace: Namespace, name: Name, command: Commanded) -> VoiceState:
        """Close the watch; without one, nothing changes."""
        return services.commands.confirm(VoiceName(namespace, name), command)

    @app.delete("/v1/voices/{namespace}/{name}", status_code=204, responses=documented(*_ANY))
    async def release_voice(namespace: Namespace, name: Name, command: Commanded) -> Response:
        """Let a voice and all its revisions go."""
        await services.commands.release_voice(VoiceName(namespace, name), command)
        return Response(status_code=204)

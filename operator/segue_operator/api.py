"""The operator's local API: what `segue get`, `describe` and `watch` show. It only reads; intents are edits of YAML.

On a Unix socket in a directory of mode 0700, so that it needs no authentication of its own.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typing_extensions import override

from segue.model import ConditionStatus, Status, VoiceModel
from segue.wire import RESTING, ModelsState, RevisionPhase, RevisionWindows, StateDocument
from segue_operator.changes import Changes
from segue_operator.events import EventLog
from segue_operator.fleet.listening import Latest
from segue_operator.fleet.sidecars import SidecarFleet
from segue_operator.folder.cluster import FolderCluster
from segue_operator.ports import Problem
from segue_operator.reports import ReportBook

EVENTS_SHOWN = 30
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Everything that can be shown."""

    cluster: FolderCluster
    fleet: SidecarFleet
    latest: Latest
    events: EventLog
    changes: Changes
    reports: ReportBook

    def states(self) -> Mapping[str, StateDocument | None]:
        """The latest state of each pod by uid; None while it is out of reach."""
        return {uid: self.latest.states.get(uid) for uid in self.fleet.pods}

    def models(self) -> Iterator[tuple[str, str, ModelsState]]:
        """The shared models of each pod: its uid, their engine, and how they stand."""
        for uid, state in self.states().items():
            for engine, models in state.models.items() if state is not None else ():
                yield uid, engine, models


def build_app(board: Board) -> Starlette:
    """The application."""

    async def voices(_: Request) -> Response:
        return JSONResponse(
            {
                "version": board.changes.version,
                "voices": [_summary(voice, board) for voice in sorted(board.cluster.voices(), key=lambda v: v.key)],
                "problems": [_problem(each) for each in board.cluster.problems()],
                "models": [_models(uid, engine, each, board) for uid, engine, each in board.models()],
            }
        )

    async def voice(request: Request) -> Response:
        await _wait_for_change(request, board)
        key = f"{request.path_params['namespace']}/{request.path_params['name']}"
        found = await board.cluster.read(key)
        if found is None:
            known = ", ".join(sorted(each.key for each in board.cluster.voices())) or "none"
            raise HTTPException(404, f"there is no voice {key}; there are: {known}")
        return JSONResponse(_full(found, board))

    async def events(request: Request) -> Response:
        since = int(min(2**53, _number(request, "since", 0)))
        only = request.query_params.get("voice")
        wait_s = min(LONGEST_WAIT_S, _number(request, "wait", 0.0))
        version = board.changes.version
        if wait_s and not board.events.since(since, voice=only):
            await board.changes.wait_after(version, timeout_s=wait_s)
        entries = [asdict(entry) for entry in board.events.since(since, voice=only)]
        return JSONResponse({"events": entries, "last": board.events.last_id, "version": board.changes.version})

    async def pods(_: Request) -> Response:
        return JSONResponse({"pods": [_pod(uid, state, board) for uid, state in board.states().items()]})

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/voices", voices),
            Route("/v1/voices/{namespace}/{name}", voice),
            Route("/v1/events", events),
            Route("/v1/pods", pods),
            Route("/healthz", healthz),
        ],
        exception_handlers={HTTPException: _refuse},
    )


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, status_code=error.status_code)


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise HTTPException(400, f"{name} is a number, not {text!r}") from error


async def _wait_for_change(request: Request, board: Board) -> None:
    wait_s = min(LONGEST_WAIT_S, _number(request, "wait", 0.0))
    if "after" in request.query_params and wait_s:
        await board.changes.wait_after(int(_number(request, "after", 0)), timeout_s=wait_s)


def _problem(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "text": str(problem)}


def _summary(voice: VoiceModel, board: Board) -> dict[str, Any]:
    status = voice.status
    return {
        "key": voice.key,
        "namespace": voice.metadata.namespace,
        "name": voice.metadata.name,
        "engine": voice.spec.engine.value,
        "phase": status.phase.value,
        "reason": status.reason,
        "message": status.message,
        "activeRevision": status.active_revision,
        "targetRevision": status.target_revision,
        "pods": status.pods.summary,
        "ready": _is(status, "Ready"),
        "promoted": _is(status, "Promoted"),
        "stalled": _is(status, "Stalled"),
        "served": any(_serves(state, voice) for state in board.states().values()),
        "paused": voice.spec.rollout.paused,
        "since": status.phase_started_at.isoformat() if status.phase_started_at else None,
        "problems": [str(each) for each in board.cluster.problems() if voice.key in each.voices],
    }


def _serves(state: StateDocument | None, voice: VoiceModel) -> bool:
    """Whether a pod's word names the active revision, and its workers have it: after a restart it may still load.

    One that rests is served, too: whoever asks waits for a moment.
    """
    active = voice.status.active_revision
    held = state.voices.get(voice.key) if state is not None else None
    if held is None or active is None or held.pointer.active != active:
        return False
    revision = held.revisions.get(active)
    return revision is not None and (revision.phase is RevisionPhase.READY or revision.phase in RESTING)


def _is(status: Status, kind: str) -> bool:
    condition = status.condition(kind)
    return condition is not None and condition.status is ConditionStatus.TRUE


def _full(voice: VoiceModel, board: Board) -> dict[str, Any]:
    record = board.cluster.store.records[voice.key]
    events = board.events.since(0, voice=voice.key)[-EVENTS_SHOWN:]
    return {
        "version": board.changes.version,
        "key": voice.key,
        "file": record.file,
        "computedDigests": list(record.origins),
        "problems": [_problem(each) for each in board.cluster.problems() if voice.key in each.voices],
        "pods": [_voice_on_pod(uid, state, voice, board) for uid, state in board.states().items()],
        "reports": {
            revision: report.model_dump(mode="json", by_alias=True)
            for revision, report in board.reports.of(voice.key).items()
        },
        "events": [asdict(entry) for entry in events],
        **voice.dump(),
    }


def _pod(uid: str, state: StateDocument | None, board: Board) -> dict[str, Any]:
    shown: dict[str, Any] = {"uid": uid, "name": board.fleet.pods[uid].name, "inReach": state is not None}
    if state is not None:
        dumped = state.model_dump(mode="json", by_alias=True, exclude={"voices", "events", "pod"})
        shown |= {**dumped, "voices": sorted(state.voices), "pod": state.pod.model_dump(mode="json", by_alias=True)}
    return shown


def _models(uid: str, engine: str, models: ModelsState, board: Board) -> dict[str, Any]:
    return {"pod": board.fleet.pods[uid].name, "engine": engine, **models.model_dump(mode="json", by_alias=True)}


def _voice_on_pod(uid: str, state: StateDocument | None, voice: VoiceModel, board: Board) -> dict[str, Any]:
    shown: dict[str, Any] = {"uid": uid, "name": board.fleet.pods[uid].name, "inReach": state is not None}
    key, engine = voice.key, voice.spec.engine.value
    held = state.voices.get(key) if state is not None else None
    if state is not None:
        shown["workers"] = [worker.model_dump(mode="json", by_alias=True) for worker in state.workers]
        if engine in state.models:
            shown["models"] = _models(uid, engine, state.models[engine], board)
    if held is not None:
        shown["state"] = held.model_dump(mode="json", by_alias=True)
    windows = board.latest.windows.get((uid, key))
    if windows is not None:
        shown["lastHour"] = {revision: _totals(each) for revision, each in windows.revisions.items()}
    return shown


def _totals(windows: RevisionWindows) -> dict[str, Any]:
    errors: dict[str, int] = {}
    for bucket in windows.buckets:
        for kind, count in bucket.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    return {
        "successes": sum(bucket.successes for bucket in windows.buckets),
        "errors": errors,
        "shielded": sum(bucket.shielded for bucket in windows.buckets),
        "mirrored": sum(bucket.mirrored for bucket in windows.buckets),
    }


class ApiServer(uvicorn.Server):
    """uvicorn without its own signal handling: the process stops when `__main__` says so."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def make_server(board: Board) -> ApiServer:
    """A server that is run with `serve_on`."""
    config = uvicorn.Config(
        build_app(board), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    return ApiServer(config)


def bind(path: Path) -> socket.socket:
    """Listen on a Unix socket, in the place of one that a dead process left (the leader's lock says that it is)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


async def serve_on(server: ApiServer, listening: Sequence[socket.socket]) -> None:
    """Serve until `server.should_exit` is set."""
    await server.serve(sockets=list(listening))

"""Talking to a sidecar: the client side of the control API.

Separate from the operator because the command line and the benches command sidecars too. One method per call of
`segue.wire`; every refusal comes back as the error class that the sidecar raised, so that callers handle
`StaleFence` and not status codes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from segue.errors import (
    CommandRefused,
    Conflict,
    ControlUnreachable,
    InvalidCommand,
    NotFound,
    NotReady,
    PoolExhausted,
    SegueError,
    StaleFence,
    WrongPod,
)
from segue.wire import (
    HEADER_FENCE,
    HEADER_POD,
    HEADER_TERM,
    HEADER_VOICE_UID,
    HEADER_WIRE,
    WIRE_VERSION,
    ErrorBody,
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
    WireModel,
)

REFUSALS: Mapping[str, tuple[type[CommandRefused], int]] = {
    "StaleFence": (StaleFence, 409),
    "Conflict": (Conflict, 409),
    "NotReady": (NotReady, 409),
    "WrongPod": (WrongPod, 421),
    "NotFound": (NotFound, 404),
    "InvalidCommand": (InvalidCommand, 409),
}
"""`ErrorBody` reason to error class and HTTP status; both sides read this table.

A command that breaks the schema is an `InvalidCommand` with 422; one that keeps to it and means nothing has 409."""

Trace = Callable[[str, Any], Awaitable[None]]
"""As httpx calls it: name of the event, and what belongs to it."""

_Model = TypeVar("_Model", bound=WireModel)


class SidecarClient:
    """One sidecar. Keeps its connection open between calls; use it as an async context manager, or `aclose` it.

    Every call may raise `ControlUnreachable`; what else it raises stands in its docstring. Voices are written
    `namespace/name`.

    Parameters
    ----------
    base_url
        `https://ADDRESS:PORT`. The certificate is checked for the name in `tls`, not for the address.
    pod_uid
        Whom we mean; another pod that got this address answers `WrongPod`.
    tls
        From `segue.tls.client_context`; `None` for plain HTTP (tests).
    timeout_s
        For connecting and for each answer; long-polls get their wait on top.
    transport
        Test seam.
    """

    def __init__(
        self,
        base_url: str,
        *,
        pod_uid: str,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={HEADER_WIRE: str(WIRE_VERSION), HEADER_POD: pod_uid},
            verify=tls if tls is not None else True,
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=60),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def state(
        self, *, since: str | None = None, wait_s: float = 0.0, term: int | None = None
    ) -> StateDocument | None:
        """What the pod holds now; with `since` (an ETag) `None` when nothing else came up within `wait_s`.

        `term` is the leader's; sending it counts as contact for the dead-man rule.
        """
        query = {"wait": f"{wait_s:g}s"} | ({"since": since} if since else {})
        response = await self._send("GET", "/v1/state", params=query, headers=_term(term), extra_s=wait_s)
        return None if response.status_code == httpx.codes.NOT_MODIFIED else _read(StateDocument, response)

    async def windows(self, voice: str, *, since_s: int = 0, term: int | None = None) -> WindowsDocument:
        """The evidence of one voice since `since_s` (unix seconds), at most one hour. Raises `NotFound`."""
        query = {"voice": voice, "since": str(since_s)}
        return _read(WindowsDocument, await self._send("GET", "/v1/windows", params=query, headers=_term(term)))

    async def ensure_revision(
        self, voice: str, revision: str, request: RevisionRequest, *, fence: Fence, voice_uid: str
    ) -> RevisionState:
        """Have a revision resident as a shadow; the same call again gives the same answer. Raises `StaleFence`."""
        path = _revision_path(voice, revision)
        response = await self._send("PUT", path, body=request, headers=_command(fence, voice_uid))
        return _read(RevisionState, response)

    async def probe(
        self, voice: str, revision: str, request: ProbeRequest, *, fence: Fence, voice_uid: str
    ) -> ProbeReport:
        """Start a probe, or find the one of the same key running or done.

        Raises `StaleFence`, `NotFound`, `NotReady` (the revision is not resident yet).
        """
        path = f"{_revision_path(voice, revision)}/probe"
        response = await self._send("POST", path, body=request, headers=_command(fence, voice_uid))
        return _read(ProbeReport, response)

    async def report(self, voice: str, revision: str, *, term: int | None = None) -> ProbeReport:
        """The latest report with the details of each case and seed. Raises `NotFound`."""
        path = f"{_revision_path(voice, revision)}/report"
        return _read(ProbeReport, await self._send("GET", path, headers=_term(term)))

    async def audio(self, voice: str, revision: str, *, case: int, seed: int, term: int | None = None) -> bytes:
        """What the latest full probe said in one case with one seed, as a wav file. Raises `NotFound`."""
        path = f"{_revision_path(voice, revision)}/audio/{case}/{seed}"
        return (await self._send("GET", path, headers=_term(term))).content

    async def set_pointer(
        self,
        voice: str,
        request: PointerRequest,
        *,
        fence: Fence,
        voice_uid: str,
        on_write: Callable[[int], None] | None = None,
    ) -> PointerResult:
        """Flip. Raises `StaleFence`, `Conflict`, `NotReady`, `NotFound`.

        `on_write` is called with CLOCK_MONOTONIC ns just before the command is written to the open connection: from
        there on a flip's delay is the sidecar's.
        """
        path = f"{_voice_path(voice)}/pointer"
        trace = _tell_write(on_write) if on_write is not None else None
        response = await self._send("PUT", path, body=request, headers=_command(fence, voice_uid), trace=trace)
        return _read(PointerResult, response)

    async def confirm(self, voice: str, *, fence: Fence, voice_uid: str) -> VoiceState:
        """Close the watch; without one, nothing changes. Raises `StaleFence`, `NotFound`."""
        response = await self._send("POST", f"{_voice_path(voice)}/confirm", headers=_command(fence, voice_uid))
        return _read(VoiceState, response)

    async def drop_revision(self, voice: str, revision: str, *, fence: Fence, voice_uid: str) -> None:
        """Let a revision go; one that is not there is gone already.

        Raises `StaleFence`, `Conflict` (it is active, candidate, or the previous one under an open watch).
        """
        await self._send("DELETE", _revision_path(voice, revision), headers=_command(fence, voice_uid))

    async def release_voice(self, voice: str, *, fence: Fence, voice_uid: str) -> None:
        """Let a voice and all its revisions go. Raises `StaleFence`."""
        await self._send("DELETE", _voice_path(voice), headers=_command(fence, voice_uid))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: WireModel | None = None,
        extra_s: float = 0.0,
        trace: Trace | None = None,
    ) -> httpx.Response:
        content = body.model_dump_json(by_alias=True).encode() if body is not None else None
        kind = {"content-type": "application/json"} if content is not None else {}
        timeout = httpx.Timeout(self._timeout_s, read=self._timeout_s + extra_s)
        try:
            response = await self._client.request(
                method,
                path,
                params=params,
                content=content,
                headers={**headers, **kind},
                timeout=timeout,
                extensions={"trace": trace} if trace is not None else None,
            )
        except httpx.TransportError as error:
            where = self._client.base_url
            raise ControlUnreachable(f"{where}: {method} {path}: {type(error).__name__}: {error}") from error
        if response.status_code >= 400:
            raise refusal_of(response.status_code, response.content)
        return response


def _tell_write(on_write: Callable[[int], None]) -> Trace:
    async def trace(event: str, _: Any) -> None:
        if event == "http11.send_request_headers.started":
            on_write(time.monotonic_ns())

    return trace


def refusal_of(status: int, content: bytes) -> SegueError:
    """The error that an answer stands for."""
    try:
        detail = ErrorBody.model_validate_json(content).error
    except ValidationError:
        return ControlUnreachable(f"answer {status} that is no error of a sidecar: {content[:200]!r}")
    if detail.reason == "PoolExhausted":
        return _pool_exhausted(detail.message, detail.figures)
    if status >= 500:
        return ControlUnreachable(f"the sidecar failed: {detail.reason}: {detail.message}")
    kind = REFUSALS[detail.reason][0] if detail.reason in REFUSALS else CommandRefused
    return kind(detail.message if detail.reason in REFUSALS else f"{detail.reason}: {detail.message}")


def _pool_exhausted(message: str, figures: Mapping[str, Any]) -> PoolExhausted:
    return PoolExhausted(
        message,
        needed_bytes=int(figures.get("neededBytes", 0)),
        free_bytes=int(figures.get("freeBytes", 0)),
        budget_bytes=int(figures.get("budgetBytes", 0)),
    )


def _read(model: type[_Model], response: httpx.Response) -> _Model:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ControlUnreachable(f"the sidecar's answer is no {model.__name__}: {error}") from error


def _term(term: int | None) -> dict[str, str]:
    return {} if term is None else {HEADER_TERM: str(term)}


def _command(fence: Fence, voice_uid: str) -> dict[str, str]:
    return {HEADER_FENCE: str(fence), HEADER_VOICE_UID: voice_uid, HEADER_TERM: str(fence.term)}


def _voice_path(voice: str) -> str:
    namespace, _, name = voice.partition("/")
    if not namespace or not name:
        raise ValueError(f"a voice is written namespace/name, not {voice!r}")
    return f"/v1/voices/{quote(namespace, safe='')}/{quote(name, safe='')}"


def _revision_path(voice: str, revision: str) -> str:
    return f"{_voice_path(voice)}/revisions/{quote(revision, safe='')}"

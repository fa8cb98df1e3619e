"""Talking to a sidecar: the client side of the control API.

Separate from the operator because the command line and the benches command sidecars too. One method per call of
`segue.wire`; every refusal comes back as the error class that the sidecar raised, so that callers handle
`StaleFence` and not status codes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote, urlencode

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
    UnsupportedWire,
    WrongPod,
)
from segue.tracing import OUTGOING, TRACEPARENT
from segue.wire import (
    HEADER_FENCE,
    HEADER_NOW,
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
    "UnsupportedWire": (UnsupportedWire, 400),
    "NotFound": (NotFound, 404),
    "InvalidCommand": (InvalidCommand, 409),
}
"""`ErrorBody` reason to error class and HTTP status; both sides read this table.

A command that breaks the schema is an `InvalidCommand` with 422; one that keeps to it and means nothing has 409."""

Trace = Callable[[str, Any], Awaitable[None]]
"""As httpx calls it: name of the event, and what belongs to it."""

_Model = TypeVar("_Model", bound=WireModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, ready to be written.

    Attributes
    ----------
    target
        Path and query.
    timeout_s
        For connecting; the answer may take `extra_s` longer.
    on_write
        Called with CLOCK_MONOTONIC ns just before the request is written to the open connection.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes | None = None
    timeout_s: float
    extra_s: float = 0.0
    on_write: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes
    ----------
    headers
        Names in lower case.
    sent_ns, received_ns
        CLOCK_REALTIME around the exchange on the open connection, so that the sidecar's clock can be told.
    """

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sent_ns: int = 0
    received_ns: int = 0


class Line(Protocol):
    """How calls reach one sidecar: httpx by default; an operator of thousands of pods brings something leaner."""

    async def exchange(self, request: Request) -> Answer:
        """Carry one call out; several at a time are allowed.

        Raises
        ------
        ControlUnreachable
            No connection, or no whole answer in time.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open and in use."""
        ...

    def rest(self) -> None:
        """Nothing will be asked for a while: connections that nobody uses are closed."""
        ...

    def hears(self, wire: int) -> None:
        """The sidecar speaks this version of the wire."""
        ...


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
        Test seam, below httpx.
    line
        Carries the calls in the place of httpx; it knows the address and the certificate itself.

    Attributes
    ----------
    on_clock
        Told of each answer that came without a wait: our CLOCK_REALTIME before and after, the sidecar's in between.
    """

    def __init__(
        self,
        base_url: str,
        *,
        pod_uid: str,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
        line: Line | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._headers = {HEADER_WIRE: str(WIRE_VERSION), HEADER_POD: pod_uid}
        self._line = line if line is not None else HttpxLine(base_url, tls=tls, transport=transport)
        self.on_clock: Callable[[int, int, int], None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._line.aclose()

    def rest(self) -> None:
        """Close connections that are not in use: the next call opens another one."""
        self._line.rest()

    async def state(
        self,
        *,
        since: str | None = None,
        wait_s: float = 0.0,
        voices: Iterable[str] = (),
        term: int | None = None,
    ) -> StateDocument | None:
        """What the pod holds now; with `since` (an ETag) `None` when nothing else came up within `wait_s`.

        Parameters
        ----------
        voices
            Tell of these only; the ETag, and what ends the wait, is that of everything. Empty: all. A sidecar that is
            a version behind tells of all.
        term
            The leader's; sending it counts as contact for the dead-man rule.
        """
        query = [f"wait={wait_s:g}s", *([f"since={_quoted(since)}"] if since else [])]
        query += [f"voice={_quoted(voice)}" for voice in voices]
        answer = await self._send("GET", f"/v1/state?{'&'.join(query)}", headers=_term(term), extra_s=wait_s)
        if answer.status == httpx.codes.NOT_MODIFIED:
            return None
        found = _read(StateDocument, answer)
        self._line.hears(found.wire)
        if HEADER_NOW.lower() not in answer.headers and wait_s == 0.0:
            self._tell_clock(answer, found.now_ns)
        return found

    async def windows(self, voice: str, *, since_s: int = 0, term: int | None = None) -> WindowsDocument:
        """The evidence of one voice since `since_s` (unix seconds), at most one hour. Raises `NotFound`."""
        query = urlencode({"voice": voice, "since": str(since_s)})
        return _read(WindowsDocument, await self._send("GET", f"/v1/windows?{query}", headers=_term(term)))

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
        answer = await self._send("PUT", path, body=request, headers=_command(fence, voice_uid), on_write=on_write)
        return _read(PointerResult, answer)

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
        target: str,
        *,
        headers: Mapping[str, str],
        body: WireModel | None = None,
        extra_s: float = 0.0,
        on_write: Callable[[int], None] | None = None,
    ) -> Answer:
        content = body.model_dump_json(by_alias=True).encode() if body is not None else None
        kind = {"content-type": "application/json"} if content is not None else {}
        traceparent = OUTGOING.get()
        if traceparent is not None:
            kind[TRACEPARENT] = traceparent
        answer = await self._line.exchange(
            Request(
                method=method,
                target=target,
                headers={**self._headers, **headers, **kind},
                content=content,
                timeout_s=self._timeout_s,
                extra_s=extra_s,
                on_write=on_write,
            )
        )
        now = answer.headers.get(HEADER_NOW.lower(), "")
        if extra_s == 0.0 and now.isascii() and now.isdigit():
            self._tell_clock(answer, int(now))
        if answer.status >= 400:
            raise refusal_of(answer.status, answer.content)
        return answer

    def _tell_clock(self, answer: Answer, now_ns: int) -> None:
        if self.on_clock is not None and answer.sent_ns:
            self.on_clock(answer.sent_ns, answer.received_ns, now_ns)


class HttpxLine:
    """Calls over httpx: for whoever talks to a few sidecars."""

    def __init__(
        self, base_url: str, *, tls: ssl.SSLContext | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url,
            verify=tls if tls is not None else True,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=60),
        )

    async def exchange(self, request: Request) -> Answer:
        """See `Line`."""
        sent_ns = [time.time_ns()]
        try:
            response = await self._client.request(
                request.method,
                request.target,
                content=request.content,
                headers=dict(request.headers),
                timeout=httpx.Timeout(request.timeout_s, read=request.timeout_s + request.extra_s),
                extensions={"trace": _note_write(request.on_write, sent_ns)},
            )
        except httpx.TransportError as error:
            where = f"{self._client.base_url}: {request.method} {request.target}"
            raise ControlUnreachable(f"{where}: {type(error).__name__}: {error}") from error
        return Answer(
            status=response.status_code,
            content=response.content,
            headers=response.headers,
            sent_ns=sent_ns[-1],
            received_ns=time.time_ns(),
        )

    async def aclose(self) -> None:
        """See `Line`."""
        await self._client.aclose()

    def rest(self) -> None:
        """See `Line`. httpx closes what was idle for a minute by itself."""

    def hears(self, wire: int) -> None:
        """See `Line`. Each call under way has a connection of its own."""


def _note_write(on_write: Callable[[int], None] | None, sent_ns: list[int]) -> Trace:
    async def trace(event: str, _: Any) -> None:
        if event == "http11.send_request_headers.started":
            sent_ns.append(time.time_ns())
            if on_write is not None:
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


def _read(model: type[_Model], response: Answer) -> _Model:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ControlUnreachable(f"the sidecar's answer is no {model.__name__}: {error}") from error


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return quote(text, safe="")


def _term(term: int | None) -> dict[str, str]:
    return {} if term is None else {HEADER_TERM: str(term)}


def _command(fence: Fence, voice_uid: str) -> dict[str, str]:
    return {HEADER_FENCE: str(fence), HEADER_VOICE_UID: voice_uid, HEADER_TERM: str(fence.term)}


@lru_cache(maxsize=4096)
def _voice_path(voice: str) -> str:
    namespace, _, name = voice.partition("/")
    if not namespace or not name:
        raise ValueError(f"a voice is written namespace/name, not {voice!r}")
    return f"/v1/voices/{quote(namespace, safe='')}/{quote(name, safe='')}"


@lru_cache(maxsize=4096)
def _revision_path(voice: str, revision: str) -> str:
    return f"{_voice_path(voice)}/revisions/{quote(revision, safe='')}"

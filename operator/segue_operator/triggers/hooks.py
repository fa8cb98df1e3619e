"""`POST /v1/hooks/alertmanager`: alerts become reasons for a voice to look at itself.

Separate from the book because here is all that a stranger on the network can reach. What costs least is asked first:
the token before the body, the size before the content, a byte budget before the parser. Nothing is decided here: an
alert is written down and its voice woken; whether it leads back is the engine's business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segue.errors import SegueError
from segue.rollout import Alert
from segue_operator.triggers.alert_book import AlertBook, Notice
from segue_operator.triggers.config import HooksConfig
from segue_operator.triggers.payload import MalformedCall, WebhookAlert, parse_call
from segue_operator.triggers.token_file import NoToken, TokenFile

PATH = "/v1/hooks/alertmanager"
REQUIRED_LABELS = ("segue_namespace", "segue_voice")
BODY_WITHIN_S = 5.0
CLOCKS_DIFFER = timedelta(minutes=1)
"""An alert that claims to begin later than this from now says nothing about when it began."""

MOST_DIGITS = 18
NAME_SHOWN = 100
IGNORED_SHOWN = 20
COMPLAIN_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Refused(SegueError):
    """A call that is answered with an error.

    Attributes
    ----------
    status
        5xx where Alertmanager should try again, 4xx where that would not help.
    """

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers
        super().__init__(message)


@dataclass(slots=True)
class ByteBudget:
    """How much is parsed: a full bucket of `burst_bytes` that fills at `per_s_bytes`."""

    per_s_bytes: float = 4 << 20
    burst_bytes: float = 8 << 20
    monotonic: Callable[[], float] = time.monotonic
    _spent_bytes: float = 0.0
    _at_s: float = 0.0

    def take(self, amount: int) -> bool:
        """Whether this many bytes may be parsed now."""
        now_s = self.monotonic()
        self._spent_bytes = max(0.0, self._spent_bytes - (now_s - self._at_s) * self.per_s_bytes)
        self._at_s = now_s
        if self._spent_bytes + amount > self.burst_bytes:
            return False
        self._spent_bytes += amount
        return True


@dataclass(slots=True)
class Complaints:
    """Log lines about calls that cannot be used: one a while for each kind, with a count, however many come."""

    monotonic: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)
    _unsaid: dict[str, int] = field(default_factory=dict)

    def say(self, kind: str, message: str) -> None:
        """Log it now, or count it for the next time."""
        now_s = self.monotonic()
        if now_s - self._last.get(kind, float("-inf")) < COMPLAIN_EVERY_S:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._last[kind] = now_s
        more = self._unsaid.pop(kind, 0)
        logger.warning("alert webhook: %s%s", message, f" (and {more} more like it)" if more else "")


@dataclass(slots=True, kw_only=True)
class AlertReceiver:
    """The route.

    Attributes
    ----------
    voice_exists
        By key, `namespace/name`.
    is_ready
        Whether this operator leads and has read its voices: before that a call would be lost, so it is sent again.
    """

    config: HooksConfig | None
    book: AlertBook
    voice_exists: Callable[[str], bool]
    wake: Callable[[frozenset[str]], None]
    is_ready: Callable[[], bool] = lambda: True
    budget: ByteBudget = field(default_factory=ByteBudget)
    body_within_s: float = BODY_WITHIN_S
    calls: Counter = field(init=False)
    """By the status of the answer; for a registry of the process."""
    _complaints: Complaints = field(default_factory=Complaints)
    _token: TokenFile | None = field(init=False)

    def __post_init__(self) -> None:
        self._token = TokenFile(self.config.token_file) if self.config is not None else None
        about = "Calls of the alert webhook, by the answer's status."
        self.calls = Counter("segue_operator_alert_calls", about, ["status"], registry=None)

    def routes(self) -> tuple[Route, ...]:
        """For the listener's application."""
        return (Route(PATH, self.receive, methods=["POST"]),)

    async def receive(self, request: Request) -> Response:
        """Answer one call."""
        response = await self._answer(request)
        self.calls.labels(response.status_code).inc()
        return response

    async def _answer(self, request: Request) -> Response:
        try:
            config = self._admit(request)
            body = await _read(request, at_most_bytes=config.max_body_bytes, within_s=self.body_within_s)
            return JSONResponse(self._take(body))
        except Refused as refusal:
            self._complaints.say(str(refusal.status), f"{refusal.status}: {refusal}")
            content = {"error": {"message": str(refusal)}}
            return JSONResponse(content, status_code=refusal.status, headers=refusal.headers)

    def _admit(self, request: Request) -> HooksConfig:
        if self.config is None or self._token is None:
            raise Refused(404, "alerts are not taken: set hooks.tokenFile in the operator's configuration")
        try:
            welcome = self._token.opens(request.headers.get("authorization"))
        except NoToken as error:
            self._complaints.say("token", str(error))
            raise Refused(503, "alerts are not taken: the operator's hooks.tokenFile has no token") from error
        if not welcome:
            raise Refused(401, "needs the bearer token of hooks.tokenFile", headers={"WWW-Authenticate": "Bearer"})
        if not self.is_ready():
            # Over another connection, which may lead to another replica.
            raise _later("this operator does not lead, or has not read its voices yet", Connection="close")
        return self.config

    def _take(self, body: bytes) -> dict[str, Any]:
        if not self.budget.take(len(body)):
            raise _later("too much at once")
        try:
            call = parse_call(body)
        except MalformedCall as error:
            raise Refused(400, f"is no call of Alertmanager's webhook, version 4: {error}") from error
        now = self.book.now()
        reasons = [(alert, self._why_not(alert, now)) for alert in call.alerts]
        ignored = [
            {"fingerprint": alert.fingerprint, "reason": reason} for alert, reason in reasons if reason is not None
        ]
        if ignored:
            self._complaints.say("ignored", f"ignores an alert that {ignored[0]['reason']}")
        taken = [_notice(alert, now) for alert, reason in reasons if reason is None]
        self._note(taken)
        return {"taken": len(taken), "ignored": len(ignored), "reasons": ignored[:IGNORED_SHOWN]}

    def _why_not(self, alert: WebhookAlert, now: datetime) -> str | None:
        """Why an alert concerns no voice, in words that continue "an alert that"."""
        for label in REQUIRED_LABELS:
            if not alert.labels.get(label):
                return f"has no label {label}"
        key = _key(alert)
        if not self.voice_exists(key):
            return f"names the voice {_printable(key)!r}, which does not exist"
        if alert.starts_at > now + CLOCKS_DIFFER:
            return f"begins at {alert.starts_at.isoformat()}, which is in the future"
        return None

    def _note(self, notices: list[Notice]) -> None:
        changed = self.book.note(notices)
        for key in changed:
            logger.debug("%s: alerts: %s", key, ", ".join(alert.name for alert in self.book.firing(key)) or "none")
        self.wake(changed)


def _later(why: str, **headers: str) -> Refused:
    return Refused(503, f"{why}; try again", headers={"Retry-After": "1", **headers})


async def _read(request: Request, *, at_most_bytes: int, within_s: float) -> bytes:
    """The body, if it is short enough and comes in time."""
    too_long = Refused(413, f"is longer than {at_most_bytes} bytes; set max_alerts in the receiver's configuration")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > MOST_DIGITS or int(announced) > at_most_bytes):
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > at_most_bytes:
                    raise too_long
    except TimeoutError as error:
        raise Refused(408, f"did not come within {within_s:g} s") from error
    except ClientDisconnect as error:
        raise Refused(400, "ended in the middle") from error
    return bytes(body)


def _notice(alert: WebhookAlert, now: datetime) -> Notice:
    over = alert.ends_at is not None and alert.ends_at <= now
    name = _printable(alert.labels.get("alertname", "")) or "without a name"
    labels = {label: alert.labels[label] for label in REQUIRED_LABELS}  # the rest may be long, and nobody reads it
    return Notice(
        voice=_key(alert),
        fingerprint=alert.fingerprint,
        alert=Alert(name=name, labels=labels, starts_at=alert.starts_at),
        fires=alert.status == "firing" and not over,
        ends_at=alert.ends_at,
    )


def _key(alert: WebhookAlert) -> str:
    return f"{alert.labels['segue_namespace']}/{alert.labels['segue_voice']}"


def _printable(text: str) -> str:
    """Names end up in statuses and logs: nothing that moves a cursor, and not a whole page."""
    return "".join(char if char.isprintable() else "?" for char in text[:NAME_SHOWN])

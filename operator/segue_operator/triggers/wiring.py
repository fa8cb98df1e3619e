"""Both kinds of triggers behind the one port, from what the operator was configured with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Counter
from starlette.routing import Route

from segue.model import VoiceModel
from segue.rollout import Alert, QueryResult
from segue_operator.triggers.alert_book import AlertBook
from segue_operator.triggers.config import HooksConfig, PrometheusConfig
from segue_operator.triggers.hooks import AlertReceiver
from segue_operator.triggers.nothing import NoTriggers
from segue_operator.triggers.prometheus import PrometheusClient
from segue_operator.triggers.queries import QuerySheets
from segue_operator.triggers.waking import Waker

ALERT_TTL = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalTriggers:
    """See `ports.Triggers`. `routes` go into a listener, `run` into a task."""

    receiver: AlertReceiver
    sheets: QuerySheets | None
    client: PrometheusClient | None

    @property
    def routes(self) -> tuple[Route, ...]:
        """What a listener must serve so that alerts arrive."""
        return self.receiver.routes()

    @property
    def calls(self) -> Counter:
        """Calls of the webhook, for the registry of the process."""
        return self.receiver.calls

    def alerts(self, voice: VoiceModel) -> tuple[Alert, ...]:
        """See `ports.Triggers`."""
        return self.receiver.book.firing(voice.key)

    def queries(self, voice: VoiceModel) -> tuple[QueryResult, ...]:
        """See `ports.Triggers`."""
        return self.sheets.queries(voice) if self.sheets is not None else NoTriggers().queries(voice)

    async def run(self) -> None:
        """Evaluate queries, until cancelled."""
        if self.sheets is None or self.client is None:
            await asyncio.Event().wait()
            return
        async with self.client:
            await self.sheets.run()


def build_triggers(
    *,
    hooks: HooksConfig | None,
    prometheus: PrometheusConfig | None,
    voice_exists: Callable[[str], bool],
    wake: Callable[[frozenset[str]], None],
    now: Callable[[], datetime],
    is_ready: Callable[[], bool] = lambda: True,
) -> ExternalTriggers:
    """Make them; what is not configured is answered with what to configure.

    Parameters
    ----------
    wake
        Makes voices observe again; called at most once a second for each.
    is_ready
        Whether this operator leads and has read its voices.

    Raises
    ------
    PrometheusUnusable
        `prometheus.caFile` holds no certificates.
    """
    waker = Waker(wake)
    ttl = timedelta(seconds=hooks.alert_ttl_s) if hooks is not None else ALERT_TTL
    receiver = AlertReceiver(
        config=hooks,
        book=AlertBook(now=now, ttl=ttl),
        voice_exists=voice_exists,
        wake=waker,
        is_ready=is_ready,
    )
    if prometheus is None:
        return ExternalTriggers(receiver=receiver, sheets=None, client=None)
    client = PrometheusClient(prometheus)
    sheets = QuerySheets(
        ask=client.ask, wake=waker, interval_s=prometheus.interval_s, concurrency=prometheus.concurrency
    )
    return ExternalTriggers(receiver=receiver, sheets=sheets, client=client)

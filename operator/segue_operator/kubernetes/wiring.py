"""kopf, as thin as it goes: it watches and hands over what it sees.

kopf knows how to list, watch, reconnect and log in; nothing else of it is used. There are no daemons, no progress, no
peering and no finalizers, so an uninstalled operator leaves nothing behind that blocks a deletion. Each watch runs in a
thread with a loop of its own, because kopf takes its loop for its own: it catches the process's signals, and when a
watch ends with an error that it does not retry (a 410 out of place, a 403, an error in the stream), it cancels every
task of the loop. Here that ends one watch, which begins anew a moment later.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import kopf

from segue_operator.kubernetes.api import CONNECT_S, Api, Body
from segue_operator.kubernetes.scope import Watch

BACKOFFS_S = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0
STEADY_S = 60.0
"""A watch that held for so long begins its next attempt at once."""

STOP_S = 5.0
_NOBODY: Any = "segue"
"""Whom kopf takes itself for, among peers that it does not have: left alone it asks for the user's name, and the user
of a container has none."""

Deliver = Callable[[Watch, str | None, Body], None]

logger = logging.getLogger(__name__)


def registry_for(watch: Watch, api: Api, deliver: Callable[[str | None, Body], None]) -> kopf.OperatorRegistry:
    """The two handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="login")
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_of(api)

    @kopf.on.event(watch.group, watch.version, watch.plural, registry=registry, id="seen")
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        deliver(event["type"], dict(event["object"]))

    return registry


def settings_for(watch: Watch) -> kopf.OperatorSettings:
    """No traces in objects, no Events, no scanning of the cluster for what else there is."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.connect_timeout = CONNECT_S
    settings.networking.error_backoffs = BACKOFFS_S
    settings.process.ultimate_exiting_timeout = None
    if watch.selector:
        settings.watching.label_selectors[watch.group, watch.version, watch.plural] = watch.selector
    return settings


async def connection_of(api: Api) -> kopf.ConnectionInfo:
    """The client's credentials in kopf's words, read again: kopf asks after it was refused."""
    await api.renew()
    known = api.client.configuration
    token = await known.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, secret = (token or "").partition(" ")
    return kopf.ConnectionInfo(
        server=known.host,
        ca_path=known.ssl_ca_cert,
        insecure=not known.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=secret.strip() or None,
        certificate_path=known.cert_file,
        private_key_path=known.key_file,
        proxy_url=known.proxy,
    )


@dataclass(slots=True, kw_only=True)
class Watching:
    """All watches; started and stopped on the loop that `deliver` and `on_gap` are called on.

    Attributes
    ----------
    deliver
        Called with each event.
    on_gap
        Called when a watch listed anew: what vanished meanwhile was not mentioned.
    restarts
        How often each watch ended and began again, for the metrics.
    """

    api: Api
    watches: tuple[Watch, ...]
    deliver: Deliver
    on_gap: Callable[[], None]
    restarts: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        threads = [_Thread(watch=watch, around=self, target=loop) for watch in self.watches]
        for thread in threads:
            thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            for thread in threads:
                thread.stop()
            await asyncio.shield(asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads)))

    async def require_served(self, watch: Watch) -> None:
        """Raise where the API server does not serve this kind (yet): kopf would wait for it without a word."""
        await self.api.call("GET", watch.paths[0], query={"limit": "1"})

    def seen(self, watch: Watch, kind: str | None, body: Body) -> None:
        """On the loop of `run`: an event came in."""
        if kind is None:
            self.on_gap()
        self.deliver(watch, kind, body)

    def ended(self, watch: Watch, reason: str) -> None:
        """On the loop of `run`: a watch ended and is begun again."""
        self.restarts[watch.name] += 1
        logger.warning("the watch of %s ended and is begun again: %s", watch.name, reason)
        self.on_gap()


@dataclass(slots=True, kw_only=True)
class _Thread:
    """One watch."""

    watch: Watch
    around: Watching
    target: asyncio.AbstractEventLoop
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _stopped: asyncio.Event | None = None
    _begun: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._main, name=f"watch {self.watch.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        if self._begun.wait(STOP_S) and self._loop is not None and self._stopped is not None:
            with suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._stopped.set)

    def join(self) -> None:
        """Wait until it has ended, within limits: the process may go without it."""
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _main(self) -> None:
        try:
            asyncio.run(self._watch())
        except Exception:  # the outermost boundary of the thread
            logger.exception("the watch of %s ends", self.watch.name)

    async def _watch(self) -> None:
        """Watch, again and again, until stopped."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop, self._stopped = loop, stopped
        loop.set_exception_handler(self._went_wrong)
        self._begun.set()
        failures = 0
        while not stopped.is_set():
            began_s = loop.time()
            reason = await self._once(stopped)
            if stopped.is_set():
                return
            self._hand_over(self.around.ended, self.watch, reason)
            failures = 0 if loop.time() - began_s > STEADY_S else failures + 1
            pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stopped.wait()

    def _went_wrong(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something that nobody awaits failed.

        kopf leaves its stream to the loop where a watch is cancelled while an event is handed on. The loop, ending,
        closes the stream and what is open within it side by side, and one of the two complains of the other.
        """
        if self._stopped is not None and self._stopped.is_set():
            logger.debug("while the watch of %s ended: %s", self.watch.name, context.get("message"))
        else:
            loop.default_exception_handler(context)

    async def _once(self, stopped: asyncio.Event) -> str:
        """One life of kopf; why it ended."""
        living = asyncio.create_task(self._live())
        stopping = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            living.cancel()
            stopping.cancel()
            (outcome, _) = await asyncio.gather(living, stopping, return_exceptions=True)
        return f"{type(outcome).__name__}: {outcome}" if outcome is not None else "it gave no reason"

    async def _live(self) -> None:
        """kopf's own stop flag is not used: when a watch fails, it would wait five seconds for the flag's waiter."""
        namespaces = self.watch.namespaces
        served = asyncio.run_coroutine_threadsafe(self.around.require_served(self.watch), self.target)
        await asyncio.wrap_future(served)
        await kopf.operator(
            registry=registry_for(self.watch, self.around.api, self._deliver),
            settings=settings_for(self.watch),
            identity=_NOBODY,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )

    def _deliver(self, kind: str | None, body: Body) -> None:
        self._hand_over(self.around.seen, self.watch, kind, body)

    def _hand_over(self, call: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the operator's loop is closed: the process ends
            self.target.call_soon_threadsafe(call, *arguments)

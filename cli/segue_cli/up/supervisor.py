"""Keeps the processes of `segue up` running and stops them in the right order.

Separate from the command so that it can be tested with three small scripts in place of the real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from segue_cli.up.service import Service

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Runs services side by side; stops them one after the other in the order given.

    The operator stops first, so that nothing is rolled out into a server that drains; the sidecar last, so that
    requests that drain keep their memory's books.
    """

    services: Sequence[Service]
    say: Callable[[str], None]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Services run inside this block; leaving it stops them."""
        with self._signals():
            tasks = [asyncio.create_task(service.run(), name=service.name) for service in self.services]
            try:
                yield
            finally:
                for service, task in zip(self.services, tasks, strict=True):
                    service.stop.set()
                    await task

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.told_to_stop, number)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def told_to_stop(self, number: signal.Signals) -> None:
        """First signal: stop in order. Second one: at once."""
        if self.stopping.is_set():
            self.say("stopping at once; requests in flight are cut")
            for service in self.services:
                service.kill()
            return
        self.say(f"stopping ({number.name}); once more to cut requests in flight")
        self.stopping.set()

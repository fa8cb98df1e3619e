"""One event loop in a thread: pods, their kubelet and the traffic go on while a test waits for something else.

Separate so that the cases read as plain steps, one after the other, although nothing behind them ever stands still.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

Result = TypeVar("Result")


class Backstage:
    """Runs coroutines for callers of other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backstage", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Result], *, within_s: float = 60.0) -> Result:
        """Run it there and wait for what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(within_s)
        except FutureTimeout as error:
            future.cancel()
            raise AssertionError(f"{getattr(work, '__qualname__', work)} took over {within_s:g} s") from error

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it there as a task and go on."""

        async def begin() -> asyncio.Task[Any]:
            return asyncio.create_task(work)

        return self.call(begin())

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task and wait for its end."""

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.call(end())

    def soon(self, work: Callable[[], None]) -> None:
        """Call it there as soon as the loop gets to it."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the thread. What still ran is cancelled."""
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

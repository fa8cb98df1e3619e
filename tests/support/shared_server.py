"""A served server on a loop of its own thread, so that many tests can share one (starting takes seconds)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.support.served import Served, serving

T = TypeVar("T")
SCENARIO_S = 60.0


class SharedServer:
    """Runs scenarios against one server."""

    def __init__(self, served: Served, loop: asyncio.AbstractEventLoop) -> None:
        self._served = served
        self._loop = loop

    def run(self, scenario: Callable[[Served], Awaitable[T]]) -> T:
        """Run one scenario to its end."""

        async def bounded() -> T:
            async with asyncio.timeout(SCENARIO_S):
                return await scenario(self._served)

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()


@contextlib.contextmanager
def shared_server(directory: Path, **settings: Any) -> Iterator[SharedServer]:
    """Start a server for the length of the block."""
    started: list[SharedServer] = []
    failed: list[BaseException] = []
    ready = threading.Event()
    leave: list[Callable[[], object]] = []

    async def main() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serving(directory, **settings) as served:
            started.append(SharedServer(served, loop))
            leave.append(lambda: loop.call_soon_threadsafe(done.set))
            ready.set()
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:  # noqa: BLE001 - the thread's boundary: told to the test below
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="served")
    thread.start()
    ready.wait()
    try:
        if started:
            yield started[0]
    finally:
        for stop in leave:
            stop()
        thread.join()
    if failed:
        raise failed[0]

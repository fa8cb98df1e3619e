"""Processes in simulated time: each has an event loop of its own, and runs only when it is told to.

So a process can be frozen as SIGSTOP freezes it: nothing of it runs, its clock goes on, what it sent is still
delivered, and when it continues, answers and timers that fell due meanwhile all come at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import override

MOST_STEPS = 100_000


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is somebody else's, and that never waits.

    Attributes
    ----------
    frozen
        Stopped where it is, as by SIGSTOP; may be set by what runs in it.
    """

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self._skew_s = 0.0
        self.frozen = False
        super().__init__()
        self._clock_resolution = 1e-6  # unix seconds as floats are no finer

    @override
    def time(self) -> float:
        return self._time_s() + self._skew_s

    def run_due(self) -> None:
        """Run everything that can run now, and what follows from it; nothing while `frozen`."""
        for _ in range(MOST_STEPS):
            if self.frozen or not self._has_work():
                return
            self.call_soon(self.stop)
            self.run_forever()
        raise AssertionError(f"still busy after {MOST_STEPS} steps at {self.time():.3f} s")

    def end(self) -> None:
        """End all tasks. For a SIGKILL cut their connections first, so that nothing that they do has an effect."""
        self.frozen = False
        for _ in range(10):
            for task in asyncio.all_tasks(self):
                task.cancel()
            self.run_due()
            if not asyncio.all_tasks(self):
                break
            self._skew_s += 60  # what waits in a `finally` waits in vain
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _has_work(self) -> bool:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        return bool(ready) or bool(scheduled and scheduled[0].when() <= self.time())


class SteppedTime:
    """One clock for all, and what is on its way between them: (due, what to do), in the order of their times."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._under_way: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = 0

    def later(self, delay_s: float, do: Callable[[], Any]) -> None:
        """Let something happen, whoever is frozen or dead by then."""
        self._count += 1
        self._under_way.append((self.now_s + delay_s, self._count, do))

    def advance(self, seconds: float) -> None:
        """Go on, and let happen what is due."""
        self.now_s += seconds
        due = sorted(each[:2] for each in self._under_way if each[0] <= self.now_s)
        found = {each[:2]: each for each in self._under_way}
        self._under_way = [each for each in self._under_way if each[0] > self.now_s]
        for place in due:
            found[place][2]()

"""When may memory that an engine worked with be unmapped, or filled anew?

Separate because both GPU modes ask it, and because a wrong answer is heard as noise or ends the process: not while a
tensor lives, not before the device is through with the last batch, and then not on the thread that serves.

`BufferError` says "not yet", as everywhere in `WeightMemory`; whoever let the part go tries again, and says after a
while that it is stuck. A device that is lost is never through: the worker gets stuck and is replaced, which is the only
cure.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from segue.errors import DeviceError
from segue.memory.device.array import Lender
from segue.memory.device.device import CudaDevice, Event

Elsewhere = Callable[[Callable[[], None]], "Future[None]"]
"""Runs a job on another thread, in the order in which jobs came."""


def unmapping_thread() -> Elsewhere:
    """A thread of its own for what the driver takes milliseconds for."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="segue-unmap").submit


def run_here(job: Callable[[], None]) -> Future[None]:
    """`Elsewhere` for children, which serve nobody."""
    done: Future[None] = Future()
    try:
        job()
    except Exception as error:  # noqa: BLE001 - a future carries what its job raised
        done.set_exception(error)
    else:
        done.set_result(None)
    return done


class Departure:
    """The end of one mapping or slot; `proceed` it until it does not raise any more."""

    def __init__(self, device: CudaDevice, lender: Lender, *, last: Callable[[], None], elsewhere: Elsewhere) -> None:
        """`last` is done elsewhere once nothing reads the memory any more."""
        self._device = device
        self._lender = lender
        self._last = last
        self._elsewhere = elsewhere
        self._events: list[Event] | None = None
        self._leaving: Future[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether nothing is lent any more."""
        return self._lender.closed

    def proceed(self) -> None:
        """Do the next step that can be done. Idempotent once it is over.

        Raises
        ------
        BufferError
            Not yet; says why.
        """
        if self._leaving is None:
            self._lender.close()
            self._wait_for_device()
            self._leaving = self._elsewhere(self._last)
        if not self._leaving.done():
            raise BufferError("the driver is unmapping this part")
        try:
            self._leaving.result()
        except DeviceError as error:
            self._leaving = None
            raise BufferError(f"this part could not be unmapped: {error}") from error

    def _wait_for_device(self) -> None:
        try:
            if self._events is None:
                # Recorded strictly after the last tensor was dropped: whatever was given to these streams before that
                # may read the part, nothing that is given to them later does.
                self._events = [self._device.record(stream) for stream in sorted(self._lender.streams)]
            while self._events:
                if not self._device.is_done(self._events[-1]):
                    raise BufferError("the device still works on a batch that reads this part")
                self._device.forget(self._events.pop())
        except DeviceError as error:
            raise BufferError(f"nobody can say whether the device still reads this part: {error}") from error

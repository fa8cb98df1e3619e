"""One revision that this worker can speak with, and how it is let go.

Separate from the roster because its life has an order that must hold: withdrawn from the table, last pin gone, views
dropped by the engine thread, mapping closed, and only then `retired` is said.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Sequence

from segue.engine import Synthesizer
from segue.memory.adoption import HeldRevision
from segue.memory.interface import MappedPart
from segue.memory.messages import RevisionRef
from segue.memory.stats import StatsRow

STUCK_AFTER_S = 30.0
_FIRST_RETRY_S = 0.02
_MOST_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Resident:
    """A built revision and its pins. Belongs to the loop; the synthesizer belongs to the engine thread.

    A pin belongs to a computation, not to a request: the loop takes it in the synchronous block that chose the
    revision, and gives it back when the engine thread has said that the row's tensors are gone.
    """

    def __init__(
        self,
        ref: RevisionRef,
        *,
        synthesizer: Synthesizer,
        parts: Sequence[MappedPart],
        engine_build: str,
        stats: StatsRow,
    ) -> None:
        """Take over `parts` and `synthesizer`."""
        self.ref = ref
        self.engine_build = engine_build
        self.sample_rate = synthesizer.sample_rate
        self.stats = stats
        self.pins = 0
        self._synthesizer: Synthesizer | None = synthesizer
        self._parts = list(parts)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def handle(self) -> int:
        """The revision's handle in the words of the pointer page."""
        return self.ref.handle

    @property
    def synthesizer(self) -> Synthesizer:
        """What rows are admitted to. Only while pinned."""
        if self._synthesizer is None:
            raise RuntimeError(f"revision {self.ref.revision[:10]} was let go, but is still used")
        return self._synthesizer

    def pin(self) -> None:
        """Keep the revision until `unpin`."""
        self.pins += 1
        self._idle.clear()

    def unpin(self) -> None:
        """The computation has dropped its tensors, or never began."""
        if self.pins <= 0:
            raise RuntimeError(f"revision {self.ref.revision[:10]} was unpinned more often than pinned")
        self.pins -= 1
        if self.pins == 0:
            self._idle.set()

    def held(self) -> HeldRevision:
        """What a restarted sidecar is told, with fresh descriptors that are the caller's."""
        return HeldRevision(self.ref, [fd for part in self._parts for fd in part.export()])

    async def let_go(
        self,
        dispose: Callable[[Synthesizer], Awaitable[None]],
        *,
        on_stuck: Callable[[str], None],
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> None:
        """Wait for the last pin, drop the views and unmap. Returns when nothing of it is mapped any more.

        Parameters
        ----------
        dispose
            Closes the synthesizer in the engine thread.
        on_stuck
            Called once, with a reason, when views still live `stuck_after_s` after they should be gone.
        """
        await self._idle.wait()
        if self._synthesizer is not None:
            synthesizer, self._synthesizer = self._synthesizer, None
            await dispose(synthesizer)
            del synthesizer
        await unmap(self._parts, on_stuck=on_stuck, stuck_after_s=stuck_after_s)


async def unmap(
    parts: list[MappedPart], *, on_stuck: Callable[[str], None], stuck_after_s: float = STUCK_AFTER_S
) -> None:
    """Close every part and empty the list; try again for as long as views of them live."""
    loop = asyncio.get_running_loop()
    began_s, delay_s, told = loop.time(), _FIRST_RETRY_S, False
    while why := _try_unmap(parts):
        if not told and loop.time() - began_s >= stuck_after_s:
            told = True
            on_stuck(f"{len(parts)} parts cannot be unmapped {stuck_after_s:g} s after the last row: {why}")
        await asyncio.sleep(delay_s)
        delay_s = min(_MOST_RETRY_S, delay_s * 2)


def _try_unmap(parts: list[MappedPart]) -> str:
    """Close what can be closed; why not all, or nothing."""
    why = ""
    for collect in (gc.collect, None):
        try:
            while parts:
                parts[-1].close()
                parts.pop()
        except BufferError as error:
            why = str(error) or "views of it still live"
            if collect is not None:
                collect()  # views in reference cycles: an exception's traceback, a closure
            continue
        return ""
    log.warning("%d retired parts cannot be unmapped yet (%s); trying again", len(parts), why)
    return why

"""From the descriptors of an offer to a revision that speaks, beside live traffic.

Mapping, prefaulting and building run in a thread of their own: nothing is copied, but a large voice takes tens of
milliseconds of small steps. The first row then runs in the engine thread, between batches, at the lowest priority.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from segue.engine import Device, Engine, SynthesisRequest, Synthesizer
from segue.errors import SegueError
from segue.memory import memfd
from segue.memory.interface import MappedPart, WeightMapper
from segue.memory.messages import RevisionRef
from segue.memory.voice_view import voice_view
from segue_server.revisions.resident import unmap
from segue_server.synthesis.engine_thread import EngineThread
from segue_server.synthesis.rows import EngineRow, Priority, RowEnd, Samples

WARM_UP_TEXT = "Hello."
WARM_UP_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class BuildFailed(SegueError):
    """A revision that was offered and cannot be spoken with here; nothing of it is held."""


@dataclass(slots=True)
class Built:
    """A revision in the making; whole once `synthesizer` is there and the first row was spoken."""

    parts: list[MappedPart] = field(default_factory=list)
    synthesizer: Synthesizer | None = None
    engine_build: str = ""


class Builder:
    """Builds what the sidecar offers."""

    def __init__(
        self, *, find_engine: Callable[[str], Engine], mapper: WeightMapper, device: Device, engine: EngineThread
    ) -> None:
        """`find_engine` looks an engine up by the name that a `VoiceModel` gives."""
        self._find_engine = find_engine
        self._mapper = mapper
        self._device = device
        self._engine = engine
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segue-build")

    async def build(self, ref: RevisionRef, fds: Sequence[int]) -> Built:
        """Map, build and warm up. Takes over `fds`, also when it raises.

        Raises
        ------
        BuildFailed
            The parts are not what was offered, the engine cannot take them, or the first row failed.
        """
        built, failure = Built(), ""
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._map_and_build, ref, list(fds), built)
            await self._warm_up(built, ref)
        except Exception as error:  # the thread's boundary: whatever an engine raises fails this offer
            log.warning("revision %s of %s cannot be built", ref.revision[:10], ref.voice, exc_info=True)
            failure = f"{type(error).__name__}: {error}"
        if failure:
            # Outside the handler: the traceback's frames hold views of the parts.
            await self._discard(built)
            raise BuildFailed(failure)
        return built

    def close(self) -> None:
        """End the thread, once what it does is done."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _map_and_build(self, ref: RevisionRef, fds: list[int], built: Built) -> None:
        try:
            engine = self._find_engine(ref.engine)
            for part_ref, own in ref.grouped(fds.copy()):
                del fds[: len(own)]
                built.parts.append(self._mapper.map(own, part_ref))
                built.parts[-1].prefault()
            view = voice_view(built.parts, options=ref.options)
            built.engine_build = engine.build_id
            built.synthesizer = engine.build(view, self._device)
        finally:
            memfd.close_all(fds)

    async def _warm_up(self, built: Built, ref: RevisionRef) -> None:
        sink = _FirstRow(asyncio.get_running_loop())
        request = SynthesisRequest(text=WARM_UP_TEXT, language=ref.language or "en")
        row = EngineRow(_of(built), request, group=ref.handle, priority=Priority.WARM_UP, sink=sink)
        self._engine.submit(row)
        try:
            async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                await asyncio.shield(sink.released)
        except TimeoutError:
            self._engine.cancel(row)
            raise BuildFailed(f"the first row took longer than {WARM_UP_TIMEOUT_S:g} s") from None
        if sink.end is None or sink.end.error is not None:
            raise BuildFailed(f"the first row failed: {sink.end.error if sink.end is not None else 'it never ran'}")

    async def _discard(self, built: Built) -> None:
        if built.synthesizer is not None:
            synthesizer, built.synthesizer = built.synthesizer, None
            await self._engine.dispose(synthesizer)
            del synthesizer
        await unmap(built.parts, on_stuck=log.error)


def _of(built: Built) -> Synthesizer:
    if built.synthesizer is None:
        raise BuildFailed("the engine returned nothing")
    return built.synthesizer


class _FirstRow:
    """Sink of the warm-up row: its sound is judged and thrown away."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.released: asyncio.Future[None] = loop.create_future()
        self.end: RowEnd | None = None

    def on_audio(self, samples: Samples) -> None:
        pass

    def on_end(self, end: RowEnd) -> None:
        self.end = end

    def on_released(self) -> None:
        if not self.released.done():
            self.released.set_result(None)

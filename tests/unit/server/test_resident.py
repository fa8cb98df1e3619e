"""A revision is let go when the last pin is gone and nobody views it; until then it says that it is stuck."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.memory import revision_ref, written_memfd
from tests.support.tone_engine import ToneEngine, tone_part

from segue.engine import Device, Synthesizer, VoiceView
from segue.memory.arena import ArenaPlan
from segue.memory.host import HostMapper
from segue.memory.interface import MappedPart
from segue.memory.messages import PartRef
from segue.memory.stats import StatsPage, create_stats_memfd
from segue_server.revisions.resident import Resident


def mapped() -> MappedPart:
    part = tone_part(440.0)
    plan = ArenaPlan.of(part)
    fd = written_memfd(part)
    return HostMapper().map([fd], PartRef(name="tone", digest=plan.digest, size_bytes=plan.total_bytes))


def resident(part: MappedPart, stats: StatsPage) -> Resident:
    synthesizer = ToneEngine().build(VoiceView(parts={"tone": part.view()}), Device())
    return Resident(revision_ref(), synthesizer=synthesizer, parts=[part], engine_build="tone-1", stats=stats.row(1))


async def close(synthesizer: Synthesizer) -> None:
    synthesizer.close()


def stuck(reason: str) -> None:
    raise AssertionError(reason)


def test_letting_go_waits_for_the_last_pin() -> None:
    async def main() -> None:
        stats = StatsPage(create_stats_memfd())
        kept = resident(mapped(), stats)
        kept.pin()
        kept.pin()
        going = asyncio.create_task(kept.let_go(close, on_stuck=stuck))
        kept.unpin()
        await asyncio.sleep(0)
        assert not going.done()
        kept.unpin()
        await asyncio.wait_for(going, 5)
        stats.close()

    asyncio.run(main())


def test_a_view_that_lives_on_is_told_once_and_waited_for() -> None:
    async def main() -> None:
        stats = StatsPage(create_stats_memfd())
        part = mapped()
        held: list[NDArray[np.float32]] = [part.view().tensors["hz"]]
        told: list[str] = []
        going = asyncio.create_task(resident(part, stats).let_go(close, on_stuck=told.append, stuck_after_s=0.01))
        async with asyncio.timeout(5):
            while True:
                if told:
                    break
                await asyncio.sleep(0.01)
        assert not going.done()
        held.clear()
        await asyncio.wait_for(going, 5)
        assert len(told) == 1
        stats.close()

    asyncio.run(main())


def test_unpinning_what_was_not_pinned_is_a_mistake() -> None:
    async def main() -> None:
        stats = StatsPage(create_stats_memfd())
        part = mapped()
        kept = resident(part, stats)
        with pytest.raises(RuntimeError, match="unpinned more often"):
            kept.unpin()
        await kept.let_go(close, on_stuck=stuck)
        stats.close()

    asyncio.run(main())


def test_what_was_let_go_cannot_be_used() -> None:
    async def main() -> None:
        stats = StatsPage(create_stats_memfd())
        kept = resident(mapped(), stats)
        await kept.let_go(close, on_stuck=stuck)
        with pytest.raises(RuntimeError, match="was let go"):
            _ = kept.synthesizer
        stats.close()

    asyncio.run(main())

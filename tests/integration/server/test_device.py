"""Real workers that speak on a device, with a driver that has none: host arenas are copied, and go back in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.support.device_memory import FAKE_DRIVER
from tests.support.served import HZ, Served, serving
from tests.support.tone_engine import expected_samples, tone_part

pytestmark = pytest.mark.process


def test_revisions_change_on_copies_and_give_their_memory_back(tmp_path: Path) -> None:
    async def story() -> None:
        gpu = {"budgetBytes": 8 << 20, "driver": FAKE_DRIVER}
        async with asyncio.timeout(90), serving(tmp_path, device="cuda:0", gpu=gpu) as served:
            sidecar = served.sidecar
            assert await says(served, HZ)
            first = served.handle
            for turn in range(4):
                other = await sidecar.offer(served.voice, {"tone": tone_part(500.0 + 50 * turn)})
                sidecar.point(served.voice, other)
                assert await says(served, 500.0 + 50 * turn)
                await sidecar.retire(first)
                assert sidecar.free(first)
                first = other

    asyncio.run(story())


async def says(served: Served, hz: float) -> bool:
    """Whether the next answer is, from the first sample to the last, what the revision at `hz` says."""
    text = f"what is {hz:g} like"
    found = np.frombuffer((await served.speak(text)).content, "<i2").astype(np.float32) / np.float32(32767)
    wanted = expected_samples(text, hz)
    return len(found) == len(wanted) and bool(np.abs(found - wanted).max() < 1e-3)

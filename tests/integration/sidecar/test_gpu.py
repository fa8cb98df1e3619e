"""Weights in device memory, with a real sidecar, its children and workers, on a driver without a device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support import tiers
from tests.support.device_memory import FAKE_DRIVER
from tests.support.sidecar import UID, VOICE, flip, load, running, state_of, until, until_phase, voice_of

from segue.errors import DeviceError
from segue.memory.device.driver import Driver
from segue.wire import RevisionPhase, StateDocument

pytestmark = pytest.mark.process

MIB = 1 << 20
LARGE = 1_500_000 // 4
"""Values of a part that has a device allocation of its own: one granule of 2 MiB."""


def on_device(**more: Any) -> dict[str, Any]:
    return {"gpu": {"mode": "gpu-shared", "budgetBytes": "16Mi", "driver": FAKE_DRIVER, **more}}


def adopted(document: StateDocument) -> int:
    return [event.reason for event in document.events].count("Adopted")


def test_voices_are_loaded_flipped_kept_over_a_restart_and_given_back() -> None:
    async def story() -> None:
        async with running(workers=2, **on_device()) as (world, client):
            first, second = await load(world, client, 1, values=LARGE), await load(world, client, 2, values=LARGE)
            await flip(world, client, first)
            await flip(world, client, second)
            state = await state_of(client)
            assert state.gpu_pool is not None
            assert (state.pool.budget_bytes, state.gpu_pool.budget_bytes) == (64 * MIB, 16 * MIB)
            assert state.gpu_pool.used_bytes == 4 * MIB
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                await until(again, lambda document: adopted(document) == 2)
                await until_phase(again, second, RevisionPhase.READY)
                assert (await voice_of(again)).pointer.active == second
                await again.drop_revision(VOICE, first, fence=world.fence(), voice_uid=UID)
                await until(again, lambda document: document.gpu_pool and document.gpu_pool.used_bytes == 2 * MIB)
                third = await load(world, again, 3, values=LARGE)
                await flip(world, again, third)

    asyncio.run(story())


def test_a_full_device_budget_queues_what_comes_and_evicts_what_may_go() -> None:
    async def story() -> None:
        async with running(workers=1, **on_device(budgetBytes="4Mi")) as (world, client):
            first, second = await load(world, client, 1, values=LARGE), await load(world, client, 2, values=LARGE)
            await flip(world, client, second)
            await load(world, client, 3, values=LARGE)
            document = await state_of(client)
            assert first not in document.voices[VOICE].revisions
            assert "Evicted" in [event.reason for event in document.events]
            assert document.gpu_pool is not None
            assert document.gpu_pool.peak_bytes == 4 * MIB

    asyncio.run(story())


def test_a_sidecar_that_sees_no_device_keeps_host_memory_unless_it_must_not() -> None:
    try:
        Driver.load()
    except DeviceError:
        pass
    else:
        pytest.skip("this machine has a driver")

    async def story() -> None:
        async with running(workers=1, gpu={"mode": "auto"}) as (world, client):
            await load(world, client, 1)
            assert (await state_of(client)).gpu_pool is None
            assert world.sidecar is not None
            assert "weights live in gpu-copy memory: the sidecar sees no device" in world.sidecar.output.read_text()
            world.sidecar.kill()
            world.settings = {"gpu": {"mode": "gpu-shared"}}
            refused = world.spawn_sidecar()
            assert await asyncio.to_thread(refused.process.wait, 20) != 0
            assert "gpu.mode is gpu-shared, but no CUDA driver here" in refused.output.read_text()

    asyncio.run(story())


def test_a_cold_voice_comes_back_to_the_device_from_what_was_stored_of_it() -> None:
    async def story() -> None:
        async with running(asked=True, **on_device(budgetBytes="4Mi")) as (world, client):
            worker = world.processes[1]
            await tiers.add(world, client, 1)
            await tiers.ask(worker, 1)
            revision = await tiers.add(world, client, 2)
            await tiers.until_stored(client, 1, 2)
            await tiers.add(world, client, 3)
            await tiers.until_phase(client, 2, RevisionPhase.COLD)
            tiers.forget_sources(world)
            await tiers.ask(worker, 2)
            assert tiers.spoken(worker, 2) == [revision]
            assert tiers.metric(world, 'segue_sidecar_cold_starts_total{source="disk"}') == 1
            assert tiers.metric(world, "segue_sidecar_gpu_pool_used_bytes") == 4 * MIB

    asyncio.run(story())

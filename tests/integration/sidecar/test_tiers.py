"""Voices that are not hot, in a real sidecar with a real worker: they leave memory, and come back for a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.sidecar import eventually, running, state_of, until
from tests.support.tiers import (
    add,
    ask,
    ask_in_vain,
    forget_sources,
    metric,
    prepared_files,
    revision_of,
    spoken,
    until_phase,
    until_stored,
    voice,
)

from segue.errors import NotReady
from segue.wire import PointerRequest, RevisionPhase, Tier

pytestmark = pytest.mark.process

ROOM_FOR_TWO: dict[str, Any] = {"pool": {"budgetBytes": "2300Ki", "spares": 0}}
IDLE: dict[str, Any] = {"tiers": {"idleS": 0.3}}


def test_a_cold_voice_makes_room_and_comes_back_from_disk_for_its_next_request() -> None:
    async def story() -> None:
        async with running(asked=True, **ROOM_FOR_TWO) as (world, client):
            worker = world.processes[1]
            await add(world, client, 1)
            await ask(worker, 1)
            revision = await add(world, client, 2)
            handle = (await until_phase(client, 2, RevisionPhase.READY)).handle
            await until_stored(client, 1, 2)
            await add(world, client, 3)
            state = await until_phase(client, 2, RevisionPhase.COLD)
            assert (state.reason, state.tier, state.stored, state.handle) == ("Evicted", Tier.COLD, True, None)
            assert (await state_of(client)).voices[voice(2)].pointer.active == revision
            forget_sources(world)

            await ask(worker, 2)
            assert spoken(worker, 2) == [revision]
            assert (await until_phase(client, 2, RevisionPhase.READY)).handle == handle
            assert metric(world, 'segue_sidecar_cold_starts_total{source="disk"}') == 1
            assert metric(world, 'segue_sidecar_evictions_total{reason="rollout"}') == 1
            assert metric(world, 'segue_sidecar_evictions_total{reason="request"}') == 1

    asyncio.run(story())


def test_a_warm_voice_that_nobody_asks_leaves_the_workers_and_comes_back_from_memory() -> None:
    async def story() -> None:
        async with running(asked=True, **IDLE) as (world, client):
            worker = world.processes[1]
            revision = await add(world, client, 1, Tier.WARM)
            resting = await until_phase(client, 1, RevisionPhase.WARM)
            assert (resting.handle, len(resting.parts)) == (None, 1)
            await eventually(lambda: worker.events("retired"), what="the worker to let it go")
            for path in prepared_files(world):
                path.unlink()
            forget_sources(world)

            await ask(worker, 1)
            assert spoken(worker, 1) == [revision]
            assert metric(world, 'segue_sidecar_cold_starts_total{source="memory"}') == 1

    asyncio.run(story())


def test_a_cold_voice_that_nobody_asks_leaves_memory() -> None:
    async def story() -> None:
        async with running(asked=True, **IDLE) as (world, client):
            await add(world, client, 1)
            resting = await until_phase(client, 1, RevisionPhase.COLD)
            assert (resting.reason, resting.parts) == ("Idle", ())
            assert metric(world, 'segue_sidecar_evictions_total{reason="idle"}') >= 1

    asyncio.run(story())


def test_hot_voices_stay_and_who_finds_no_room_is_told_so_with_figures() -> None:
    async def story() -> None:
        settings: dict[str, Any] = {**ROOM_FOR_TWO, "tiers": {"waitS": 0.5}}
        async with running(asked=True, **settings) as (world, client):
            worker = world.processes[1]
            await add(world, client, 3, resident=False)
            for number in (1, 2):
                await add(world, client, number, Tier.HOT)
            reason, message = await ask_in_vain(worker, 3)
            assert reason == "PoolFull"
            assert "2.2 MiB" in message
            assert (await until_phase(client, 3, RevisionPhase.COLD)).reason == "PoolFull"
            for number in (1, 2):
                assert (await until_phase(client, number, RevisionPhase.READY)).tier is Tier.HOT

    asyncio.run(story())


def test_a_voice_that_is_only_known_is_loaded_by_its_first_request() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            worker = world.processes[1]
            revision = await add(world, client, 1, resident=False)
            assert (await until_phase(client, 1, RevisionPhase.COLD)).reason == "OnRequest"
            assert (await state_of(client)).pool.used_bytes == 0
            await ask(worker, 1)
            assert spoken(worker, 1) == [revision]
            assert metric(world, 'segue_sidecar_cold_starts_total{source="source"}') == 1

    asyncio.run(story())


def test_a_hot_voice_is_never_pointed_at_what_is_not_ready() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            revision, request = revision_of(1, Tier.HOT, world)
            await client.ensure_revision(
                voice(1),
                revision,
                request.model_copy(update={"resident": False}),
                fence=world.fence(),
                voice_uid="uid-1",
            )
            with pytest.raises(NotReady):
                await client.set_pointer(
                    voice(1), PointerRequest(active=revision), fence=world.fence(), voice_uid="uid-1"
                )
            await until_phase(client, 1, RevisionPhase.READY)

    asyncio.run(story())


def test_a_voice_that_speaks_is_not_pointed_at_what_rests() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            await add(world, client, 1)
            other, request = revision_of(2, Tier.COLD, world)
            await client.ensure_revision(
                voice(1), other, request.model_copy(update={"resident": False}), fence=world.fence(), voice_uid="uid-1"
            )
            with pytest.raises(NotReady):
                await client.set_pointer(voice(1), PointerRequest(active=other), fence=world.fence(), voice_uid="uid-1")

    asyncio.run(story())


def test_a_flip_while_the_voice_is_cold_changes_what_its_next_request_brings_up() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            worker = world.processes[1]
            await add(world, client, 1, resident=False)
            other, request = revision_of(2, Tier.COLD, world)
            await client.ensure_revision(
                voice(1), other, request.model_copy(update={"resident": False}), fence=world.fence(), voice_uid="uid-1"
            )
            await client.set_pointer(voice(1), PointerRequest(active=other), fence=world.fence(), voice_uid="uid-1")
            await ask(worker, 1)
            assert spoken(worker, 1) == [other]

    asyncio.run(story())


def test_a_damaged_file_is_never_believed_and_the_source_steps_in() -> None:
    async def story() -> None:
        async with running(asked=True, **IDLE) as (world, client):
            worker = world.processes[1]
            revision = await add(world, client, 1)
            await until_stored(client, 1)
            await until_phase(client, 1, RevisionPhase.COLD)
            (file,) = prepared_files(world)
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)

            await ask(worker, 1)
            assert spoken(worker, 1) == [revision]
            document = await state_of(client)
            assert any(event.reason == "PreparedUnusable" and "Damaged" in event.message for event in document.events)
            assert metric(world, 'segue_sidecar_cold_starts_total{source="source"}') == 1
            await until_stored(client, 1)

    asyncio.run(story())


def test_what_cannot_come_up_says_why_and_is_tried_again_by_a_later_request() -> None:
    async def story() -> None:
        async with running(asked=True, tiers={"retryS": 1}) as (world, client):
            worker = world.processes[1]
            revision = await add(world, client, 1, resident=False)
            file = world.voices / "voice-1.npz"
            content = file.read_bytes()
            file.unlink()
            reason, message = await ask_in_vain(worker, 1)
            assert reason == "FetchError"
            assert "voice-1.npz" in message
            file.write_bytes(content)

            async def spoke() -> bool:
                worker.say(f"ask {voice(1)}")
                await asyncio.sleep(0.2)
                return spoken(worker, 1) == [revision]

            async with asyncio.timeout(20):
                while not await spoke():
                    pass

    asyncio.run(story())


def test_two_voices_wanted_at_once_with_room_for_one_both_speak() -> None:
    async def story() -> None:
        settings: dict[str, Any] = {"pool": {"budgetBytes": "1200Ki", "spares": 0}, "tiers": {"waitS": 15}}
        async with running(asked=True, **settings) as (world, client):
            worker = world.processes[1]
            for number in (1, 2):
                await add(world, client, number, resident=False)
            worker.say(f"ask {voice(1)}")
            worker.say(f"ask {voice(2)}")
            await eventually(lambda: spoken(worker, 1) and spoken(worker, 2), what="both to speak")
            assert not worker.events("unavailable")
            document = await state_of(client)
            assert document.pool.peak_bytes <= document.pool.budget_bytes

    asyncio.run(story())


def test_memory_that_somebody_still_speaks_with_is_not_free() -> None:
    async def story() -> None:
        settings: dict[str, Any] = {"pool": {"budgetBytes": "1200Ki", "spares": 0}, "tiers": {"waitS": 1}}
        async with running(asked=True, **settings) as (world, client):
            worker = world.processes[1]
            await add(world, client, 1)
            await until_stored(client, 1)
            worker.say(f"hold {voice(1)}")
            await eventually(lambda: spoken(worker, 1), what="the long request to begin")
            await add(world, client, 2, resident=False)
            reason, message = await ask_in_vain(worker, 2)
            assert reason == "PoolFull"
            assert "1.0 MiB more when what was let go is back" in message
            await until_phase(client, 1, RevisionPhase.COLD)

            worker.say("let go")
            await ask(worker, 2)

    asyncio.run(story())


def test_a_restarted_sidecar_knows_whom_a_cold_voice_comes_back_with() -> None:
    async def story() -> None:
        async with running(asked=True, **IDLE) as (world, client):
            worker = world.processes[1]
            cold, warm = await add(world, client, 1), await add(world, client, 2, Tier.WARM)
            await until_stored(client, 1, 2)
            await until_phase(client, 1, RevisionPhase.COLD)
            await until_phase(client, 2, RevisionPhase.WARM)
            forget_sources(world)
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                for number in (1, 2):
                    assert (await until_phase(again, number, RevisionPhase.COLD)).stored
                await until(again, lambda state: state.workers and state.workers[0].phase == "serving")
                await ask(worker, 1)
                await ask(worker, 2)
                assert (spoken(worker, 1), spoken(worker, 2)) == ([cold], [warm])

    asyncio.run(story())


def test_a_worker_that_dies_while_a_voice_rises_does_not_keep_it_down() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            await add(world, client, 1, resident=False)
            world.processes[1].say(f"ask {voice(1)}")
            await until_phase(client, 1, RevisionPhase.FETCHING, RevisionPhase.PREPARING, RevisionPhase.PROVING)
            world.processes[1].kill()
            worker = world.start_worker("w0", asked=True)
            await eventually(lambda: worker.events("serving"), what="the next worker to serve")
            await ask(worker, 1)

    asyncio.run(story())


def test_a_voice_that_is_let_go_while_it_rises_is_gone() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            worker = world.processes[1]
            await add(world, client, 1, resident=False)
            worker.say(f"ask {voice(1)}")
            await until_phase(client, 1, RevisionPhase.FETCHING, RevisionPhase.PREPARING, RevisionPhase.PROVING)
            await client.release_voice(voice(1), fence=world.fence(), voice_uid="uid-1")
            await until(client, lambda state: voice(1) not in state.voices)
            await eventually(lambda: worker.events("unavailable"), what="whoever waits to be told")
            assert worker.events("unavailable")[-1]["reason"] == "NoRevision"
            await until(client, lambda state: state.pool.used_bytes == 0)

            revision = await add(world, client, 1, resident=False)
            await ask(worker, 1)
            assert spoken(worker, 1) == [revision]

    asyncio.run(story())


def test_a_disk_that_takes_nothing_costs_the_copies_and_nothing_else() -> None:
    async def story() -> None:
        async with running(asked=True, tiers={"diskBytes": "64Ki", "idleS": 0.3}) as (world, client):
            worker = world.processes[1]
            await add(world, client, 1)
            document = await until(
                client, lambda state: any(event.reason == "PreparedNotStored" for event in state.events)
            )
            assert any("OverBudget" in event.message for event in document.events)
            assert not (await until_phase(client, 1, RevisionPhase.COLD)).stored
            await ask(worker, 1)
            assert metric(world, 'segue_sidecar_cold_starts_total{source="source"}') == 1

    asyncio.run(story())


def test_a_voice_that_becomes_hot_comes_up_and_takes_nobody_out_of_service() -> None:
    async def story() -> None:
        async with running(asked=True) as (world, client):
            revision = await add(world, client, 1, resident=False)
            _, request = revision_of(1, Tier.HOT, world)
            await client.ensure_revision(voice(1), revision, request, fence=world.fence(), voice_uid="uid-1")
            state = await until_phase(client, 1, RevisionPhase.READY)
            assert state.tier is Tier.HOT
            await ask(world.processes[1], 1)

    asyncio.run(story())


def test_a_storm_of_requests_is_one_attempt_per_voice() -> None:
    async def story() -> None:
        async with running(asked=True, **ROOM_FOR_TWO) as (world, client):
            worker = world.processes[1]
            numbers = range(5)
            for number in numbers:
                await add(world, client, number)
                await until_stored(client, number)
            for number in list(numbers) * 40:
                worker.say(f"ask {voice(number)}")
            await eventually(lambda: all(spoken(worker, number) for number in numbers), what="all voices to speak")
            loads = metric(world, 'segue_sidecar_children_total{kind="load",outcome="ok"}')
            assert loads <= 2 * len(numbers)
            document = await state_of(client)
            assert document.pool.peak_bytes <= document.pool.budget_bytes

    asyncio.run(story())

"""A flip at an instant: stored then, disarmed by any later command, never stored late, and told about."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.sidecar import UID, VOICE, flip, load, running, until, until_phase, voice_of

from segue.control import SidecarClient
from segue.errors import Conflict, InvalidCommand
from segue.wire import Fence, PointerRequest, PointerResult, RevisionPhase

pytestmark = pytest.mark.process

SECOND_NS = 1_000_000_000


def test_the_state_says_how_late_an_armed_flip_was_stored_and_the_same_command_again_changes_nothing() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            request, fence = PointerRequest(active=second, at_ns=time.time_ns() + SECOND_NS // 4), world.fence()
            armed = await client.set_pointer(VOICE, request, fence=fence, voice_uid=UID)
            assert (armed.armed_at_ns, armed.stored_monotonic_ns) == (request.at_ns, None)
            await until(client, lambda state: state.voices[VOICE].armed_outcome)
            voice = await voice_of(client)
            outcome = voice.armed_outcome
            assert outcome is not None
            assert (outcome.fence, outcome.at_ns, outcome.reason) == (str(fence), request.at_ns, "")
            assert outcome.late_ms is not None
            assert 0 <= outcome.late_ms < 2000
            assert outcome.stored_ns is not None
            assert outcome.stored_ns >= outcome.at_ns

            again = await client.set_pointer(VOICE, request, fence=fence, voice_uid=UID)
            assert (again.pointer, again.late_ms) == (voice.pointer, outcome.late_ms)
            await flip(world, client, first)
            assert (await voice_of(client)).armed_outcome is None

    asyncio.run(story())


def test_a_flip_whose_time_is_just_past_is_stored_at_once_and_says_how_late() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            result = await at(client, world.fence(), second, time.time_ns() - SECOND_NS // 2)
            assert result.pointer.active == second
            assert result.stored_monotonic_ns is not None
            assert result.late_ms is not None
            assert 500 <= result.late_ms < 2000

    asyncio.run(story())


def test_a_flip_for_too_late_or_too_far_ahead_is_refused_and_changes_nothing() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            before = await voice_of(client)
            with pytest.raises(Conflict, match="too late"):
                await at(client, world.fence(), second, time.time_ns() - 3 * SECOND_NS)
            with pytest.raises(InvalidCommand, match="atNs"):
                await at(client, world.fence(), second, time.time_ns() + 2 * 3600 * SECOND_NS)
            assert await voice_of(client) == before

    asyncio.run(story())


def test_an_armed_flip_survives_a_restart_and_is_dropped_when_its_time_went_by_meanwhile() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            far = time.time_ns() + 600 * SECOND_NS
            await at(client, world.fence(), second, far)
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, second, RevisionPhase.READY)
                voice = await voice_of(again)
                assert voice.armed is not None
                assert voice.armed.at_ns == far

                soon = time.time_ns() + SECOND_NS
                await at(again, world.fence(), second, soon)
                world.sidecar.kill()
            await asyncio.to_thread(wait_until, soon + 2 * SECOND_NS)
            await world.start_sidecar()
            async with world.client() as again:
                document = await until(again, lambda state: VOICE in state.voices and not state.voices[VOICE].armed)
                voice = document.voices[VOICE]
                assert voice.pointer.active == first
                assert voice.armed_outcome is not None
                assert (voice.armed_outcome.reason, voice.armed_outcome.stored_ns) == ("Conflict", None)

    asyncio.run(story())


async def at(client: SidecarClient, fence: Fence, active: str, at_ns: int) -> PointerResult:
    """Flip at an instant of the sidecar's clock."""
    return await client.set_pointer(VOICE, PointerRequest(active=active, at_ns=at_ns), fence=fence, voice_uid=UID)


def wait_until(at_ns: int) -> None:
    """The wall clock has to pass a time: nothing else tells."""
    while time.time_ns() <= at_ns:
        time.sleep(0.05)

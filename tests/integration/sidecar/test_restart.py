"""`kill -9` at any time: workers go on, the next sidecar takes over what lives and brings back what does not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.sidecar import (
    UID,
    VOICE,
    eventually,
    flip,
    load,
    running,
    until,
    until_phase,
    voice_of,
)

from segue.errors import StaleFence
from segue.wire import Fence, PointerRequest, RevisionPhase, StateDocument, WatchTerms
from segue_sidecar.workers import start_ticks

pytestmark = pytest.mark.process


LATER = {
    RevisionPhase.FETCHING: (RevisionPhase.PREPARING, RevisionPhase.PROVING),
    RevisionPhase.PREPARING: (RevisionPhase.PROVING,),
    RevisionPhase.PROVING: (RevisionPhase.OFFERING, RevisionPhase.READY),
}
"""What may be seen instead of a phase that was over too soon."""


def settled(active: str) -> Callable[[StateDocument], bool]:
    """The voice speaks with this revision, which is Ready."""

    def holds(state: StateDocument) -> bool:
        voice = state.voices.get(VOICE)
        if voice is None or voice.pointer.active != active:
            return False
        return voice.revisions[active].phase is RevisionPhase.READY

    return holds


def test_a_killed_sidecar_comes_back_to_what_the_workers_kept() -> None:
    async def story() -> None:
        async with running(workers=2) as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            terms = WatchTerms(previous=first, max_error_rate=0.5, sustained_for_s=60, min_requests=5, min_errors=3)
            await flip(world, client, second, watch=terms)
            before = await voice_of(client)
            assert world.sidecar is not None
            world.sidecar.kill()
            await world.start_sidecar()
            async with world.client() as again:
                document = await until(again, lambda state: reasons(state).count("Adopted") == 2)
                await until_phase(again, first, RevisionPhase.READY)
                await until_phase(again, second, RevisionPhase.READY)
                voice = await voice_of(again)
                assert voice.pointer.active == second
                assert voice.watch == before.watch
                assert voice.fence == before.fence
                for name, state in before.revisions.items():
                    assert (voice.revisions[name].handle, voice.revisions[name].parts) == (state.handle, state.parts)
                assert "PageLost" not in reasons(document)
                with pytest.raises(StaleFence):
                    await again.set_pointer(VOICE, PointerRequest(active=first), fence=Fence(1, 1), voice_uid=UID)
                await flip(world, again, first)
                third = await load(world, again, 3)
                await flip(world, again, third)

    asyncio.run(story())


def test_everything_killed_at_once_comes_back_from_the_cache() -> None:
    async def story() -> None:
        async with running(workers=2) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            for path in world.voices.iterdir():
                path.unlink()
            for process in world.processes:
                process.kill()
            await world.start_sidecar()
            world.start_worker("w0")
            async with world.client() as again:
                await until(again, settled(first))

    asyncio.run(story())


@pytest.mark.parametrize("phase", [RevisionPhase.FETCHING, RevisionPhase.PREPARING, RevisionPhase.PROVING])
def test_a_preload_that_a_kill_cut_short_is_taken_up_again(phase: RevisionPhase) -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            revision, request = world.version(2, values=1_000_000)
            await client.ensure_revision(VOICE, revision, request, fence=world.fence(), voice_uid=UID)
            await until_phase(client, revision, phase, *LATER[phase])
            assert world.sidecar is not None
            children = children_of(world.sidecar.pid)
            world.sidecar.kill()
            await eventually(lambda: not any(map(start_ticks, children)), what="the sidecar's children to end with it")
            await world.start_sidecar()
            async with world.client() as again:
                await until_phase(again, revision, RevisionPhase.READY)
                assert (await voice_of(again)).pointer.active == first
                await flip(world, again, revision)

    asyncio.run(story())


def test_a_worker_that_died_meanwhile_is_not_waited_for() -> None:
    async def story() -> None:
        async with running(workers=2) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            assert world.sidecar is not None
            world.sidecar.kill()
            world.processes[2].kill()
            await world.start_sidecar()
            async with world.client() as again:
                await until(again, settled(first))
                document = await until(again, lambda state: len(state.workers) == 1)
                assert [worker.phase for worker in document.workers] == ["serving"]

    asyncio.run(story())


def test_a_worker_that_joins_later_gets_all_that_it_needs_before_it_serves() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first, candidate=second, weight=100)
            late = world.start_worker("w1")
            await eventually(lambda: late.events("serving"), what="the late worker to serve")
            ready = {event["revision"] for event in late.events("ready")}
            assert {first, second} <= ready

    asyncio.run(story())


def test_a_second_sidecar_on_the_same_socket_says_who_holds_it() -> None:
    async def story() -> None:
        async with running() as (world, client):
            second = world.spawn_sidecar()
            await eventually(lambda: second.process.poll() is not None, what="the second sidecar to end")
            assert second.process.returncode == 1
            assert world.sidecar is not None
            assert f"pid {world.sidecar.pid}" in second.output.read_text()
            assert await client.state() is not None

    asyncio.run(story())


def test_a_cached_file_that_rotted_is_fetched_again() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            content = (world.voices / "v1.npz").read_bytes()
            cached = world.directory / "cache" / "files" / hashlib.sha256(content).hexdigest()
            cached.write_bytes(content[:-1] + b"?")
            for process in world.processes:
                process.kill()
            await world.start_sidecar()
            world.start_worker("w0")
            async with world.client() as again:
                await until(again, settled(first))

    asyncio.run(story())


def children_of(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reasons(state: StateDocument) -> list[str]:
    """Of all events."""
    return [event.reason for event in state.events]

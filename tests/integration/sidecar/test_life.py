"""A revision's life in a real sidecar with real workers: brought up, pointed at, watched, let go."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from pathlib import Path

import pytest
from tests.support.sidecar import UID, VOICE, eventually, flip, load, running, until, voice_of

from segue.errors import Conflict, InvalidCommand, NotFound, NotReady, StaleFence, WrongPod
from segue.wire import CanaryMode, Fence, PointerRequest, RevisionWindows, WatchTerms

pytestmark = pytest.mark.process

MIN_ERRORS = 3


def watch(previous: str) -> WatchTerms:
    """Terms that a few seconds can judge."""
    return WatchTerms(
        previous=previous, max_error_rate=0.01, sustained_for_s=1.0, min_requests=5, min_errors=MIN_ERRORS
    )


def test_a_voice_is_brought_up_canaried_flipped_watched_and_confirmed() -> None:
    async def story() -> None:
        async with running(workers=2) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            second = await load(world, client, 2)
            await flip(world, client, first, expected=first, candidate=second, weight=500)
            assert (await voice_of(client)).pointer.weight == 500
            await flip(world, client, second, watch=watch(first))
            voice = await voice_of(client)
            assert (voice.pointer.active, voice.pointer.candidate) == (second, None)
            assert voice.watch is not None
            assert voice.watch.previous == first

            with pytest.raises(Conflict, match="way back"):
                await client.drop_revision(VOICE, first, fence=world.fence(), voice_uid=UID)
            confirmed = await client.confirm(VOICE, fence=world.fence(), voice_uid=UID)
            assert confirmed.watch is None
            await client.drop_revision(VOICE, first, fence=world.fence(), voice_uid=UID)
            await until(client, lambda state: first not in state.voices[VOICE].revisions)

    asyncio.run(story())


def test_the_shield_is_told_the_way_back_before_the_word_changes() -> None:
    async def story() -> None:
        async with running() as (world, client):
            worker = world.processes[1]
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            handles = {name: state.handle for name, state in (await voice_of(client)).revisions.items()}
            await flip(world, client, first, candidate=second, weight=100)
            await eventually(
                lambda: worker.events("voice")[-1]["suspect"] == handles[second], what="the canary's guard"
            )
            assert worker.events("voice")[-1]["knownGood"] == handles[first]
            await flip(world, client, second, watch=watch(first))
            await eventually(lambda: worker.events("voice")[-1]["knownGood"] == handles[first], what="the watch's")
            await flip(world, client, first)
            await eventually(lambda: worker.events("voice")[-1]["suspect"] is None, what="the guard to go")

    asyncio.run(story())


def test_commands_of_an_outrun_leader_change_nothing() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            stale = Fence(world.term, 1)
            before = await voice_of(client)
            _, request = world.version(3)
            for command in (
                client.set_pointer(VOICE, PointerRequest(active=second), fence=stale, voice_uid=UID),
                client.ensure_revision(VOICE, "ab" * 32, request, fence=stale, voice_uid=UID),
                client.drop_revision(VOICE, second, fence=stale, voice_uid=UID),
                client.confirm(VOICE, fence=stale, voice_uid=UID),
                client.release_voice(VOICE, fence=stale, voice_uid=UID),
            ):
                with pytest.raises(StaleFence):
                    await command
            assert await voice_of(client) == before

    asyncio.run(story())


def test_a_new_uid_with_a_higher_fence_takes_the_voice_over() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            _, request = world.version(1)
            with pytest.raises(StaleFence):
                await client.ensure_revision(
                    VOICE, first, request, fence=Fence(world.term, world.sequence), voice_uid="uid-2"
                )
            await client.ensure_revision(VOICE, first, request, fence=world.fence(), voice_uid="uid-2")
            voice = await voice_of(client)
            assert (voice.uid, voice.pointer.active) == ("uid-2", first)

    asyncio.run(story())


def test_what_is_not_ready_known_or_expected_is_not_pointed_at() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            with pytest.raises(NotReady):
                await flip(world, client, "ab" * 32)
            with pytest.raises(Conflict, match="not active"):
                await flip(world, client, None, expected="cd" * 32)
            with pytest.raises(InvalidCommand, match="weight"):
                await flip(world, client, first, weight=5)
            with pytest.raises(InvalidCommand, match="candidate"):
                await flip(world, client, first, candidate=first)
            with pytest.raises(NotFound):
                await client.windows("default/nobody")
            other = world.client(pod="pod-2")
            async with other:
                with pytest.raises(WrongPod, match="pod-1"):
                    await other.state()
            assert (await voice_of(client)).pointer.active == first

    asyncio.run(story())


def test_a_flip_at_a_time_is_stored_at_that_time_and_disarmed_by_a_higher_fence() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            at_ns = time.time_ns() + 300_000_000
            await flip(world, client, second, at_ns=at_ns)
            voice = await voice_of(client)
            assert voice.armed is not None
            assert voice.pointer.active == first
            document = await until(client, lambda state: state.voices[VOICE].pointer.active == second)
            assert time.time_ns() >= at_ns
            assert any(event.reason == "ArmedFlipStored" for event in document.events)

            await flip(world, client, first, at_ns=time.time_ns() + 60_000_000_000)
            await client.confirm(VOICE, fence=world.fence(), voice_uid=UID)
            voice = await voice_of(client)
            assert voice.armed is None
            assert voice.pointer.active == second
            with pytest.raises(Conflict, match="too late"):
                await flip(world, client, first, at_ns=time.time_ns() - 3_000_000_000)

    asyncio.run(story())


def test_windows_count_what_listeners_heard() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2, fails=True)
            await flip(world, client, first)
            await flip(world, client, first, candidate=second, weight=5000, mode=CanaryMode.SPLIT)
            async with asyncio.timeout(40):
                while True:
                    document = await client.windows(VOICE)
                    bad, good = document.revisions.get(second), document.revisions.get(first)
                    if bad and good and failed(bad) > 10 and sum(bucket.successes for bucket in good.buckets) > 10:
                        break
                    await asyncio.sleep(0.1)
            assert failed(good) == 0
            assert sum(bucket.successes for bucket in bad.buckets) == 0
            assert all(bucket.start_s % 10 == 0 for bucket in good.buckets)
            assert int(good.texts, 16).bit_count() > 10

    asyncio.run(story())


def test_an_unreachable_operator_is_stood_in_for() -> None:
    async def story() -> None:
        async with running(outOfReachS=0.5) as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2, fails=True)
            await flip(world, client, first)
            await flip(world, client, second, watch=watch(first))
            document = await until(client, lambda state: state.voices[VOICE].self_reverted)
            voice = document.voices[VOICE]
            assert voice.self_reverted is not None
            assert voice.pointer.active == first
            assert voice.self_reverted.from_revision == second
            assert voice.self_reverted.errors >= MIN_ERRORS
            await flip(world, client, first)
            assert (await voice_of(client)).self_reverted is None

    asyncio.run(story())


def test_two_deaths_of_workers_mute_the_candidate() -> None:
    async def story() -> None:
        async with running(workers=1) as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            killer = await load(world, client, 2, kills=True)
            await flip(world, client, first, candidate=killer, weight=10_000)
            for _ in range(2):
                await eventually(lambda: world.processes[-1].process.poll() is not None, what="the worker's death")
                world.start_worker("w0")
            await until(client, lambda state: state.voices[VOICE].pointer.weight == 0)
            assert (await voice_of(client)).pointer.active == first
            document = await client.windows(VOICE)
            assert sum(bucket.errors.get("died", 0) for bucket in document.revisions[killer].buckets) >= 2

    asyncio.run(story())


def test_releasing_a_voice_frees_its_memory_and_keeps_its_fence() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            await client.release_voice(VOICE, fence=world.fence(), voice_uid=UID)
            await until(client, lambda state: VOICE not in state.voices)
            _, request = world.version(1)
            with pytest.raises(StaleFence):
                await client.ensure_revision(VOICE, first, request, fence=Fence(world.term, 1), voice_uid=UID)
            metrics = f"{world.ready['status']}/metrics"
            await eventually(lambda: "segue_sidecar_pool_used_bytes 0.0" in fetched(metrics), what="free memory")

    asyncio.run(story())


def test_health_readiness_and_metrics_need_no_certificate() -> None:
    async def story() -> None:
        async with running() as (world, client):
            status = world.ready["status"]
            assert json.loads(fetched(f"{status}/healthz"))["status"] == "ok"
            assert json.loads(fetched(f"{status}/readyz"))["ready"]
            first = await load(world, client, 1)
            await flip(world, client, first)
            assert json.loads(fetched(f"{status}/readyz"))["ready"]
            text = fetched(f"{status}/metrics")
            assert 'segue_sidecar_revisions{phase="Ready"} 1.0' in text
            assert "segue_sidecar_stores_total 1.0" in text

    asyncio.run(story())


def test_descriptors_do_not_grow_over_swaps() -> None:
    async def story() -> None:
        async with running() as (world, client):
            assert world.sidecar is not None
            descriptors = Path(f"/proc/{world.sidecar.pid}/fd")
            active = await load(world, client, 1)
            await flip(world, client, active)
            counts = []
            for number in range(2, 8):
                following = await load(world, client, number)
                await flip(world, client, following)
                await client.drop_revision(VOICE, active, fence=world.fence(), voice_uid=UID)
                await until(client, lambda state, gone=active: gone not in state.voices[VOICE].revisions)  # type: ignore[misc]
                active = following
                counts.append(len(os.listdir(descriptors)))  # noqa: PTH208 - counting, not walking
            assert max(counts[3:]) <= max(counts[:3]), counts

    asyncio.run(story())


def test_sigterm_ends_the_sidecar_and_not_the_workers() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            assert world.sidecar is not None
            assert world.sidecar.kill(15) == 0
            assert not world.socket.exists()
            assert world.processes[1].process.poll() is None

    asyncio.run(story())


def failed(windows: RevisionWindows) -> int:
    """Errors of every kind."""
    return sum(bucket.error_count for bucket in windows.buckets)


def fetched(url: str) -> str:
    """The body, whatever the status."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())

"""A pod that nobody commands: it speaks what its mounted desired set says, and disturbs nothing that is commanded."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.support.mounted import Mount
from tests.support.sidecar import (
    UID,
    VOICE,
    World,
    eventually,
    flip,
    load,
    running,
    state_of,
    until,
    until_phase,
    voice_of,
)

from segue.desired import DesiredEntry, data_key
from segue.errors import StaleFence
from segue.wire import Fence, PointerRequest, RevisionPhase, RevisionRequest, StateDocument, WatchTerms
from segue_operator.config import KubernetesConfig
from segue_sidecar.config import Config

pytestmark = pytest.mark.process

MOUNT = "desired"


def mount_of(world: World) -> Mount:
    """Where this world's sidecar looks."""
    return Mount(world.directory / MOUNT)


def follows(world: World, **settings: Any) -> None:
    """Have the sidecar follow a mount; set before it starts."""
    world.settings.update(desiredDirectory=str(world.directory / MOUNT), desiredRetryS=0.2, **settings)


def entry(
    world: World, number: int, *, fence: str = "5.5", voice: str = VOICE, uid: str = UID, **settings: Any
) -> DesiredEntry:
    """One version of the tiny engine as the stable one of a voice."""
    revision, request = world.version(number, **settings)
    return DesiredEntry(voice=voice, uid=uid, fence=fence, revision=revision, request=request)


def show(mount: Mount, *entries: DesiredEntry, **more: str) -> None:
    """Replace what is mounted."""
    mount.show({**{data_key(one.voice): one.to_json() for one in entries}, **more})


def active(state: StateDocument, voice: str = VOICE) -> str | None:
    """Who speaks."""
    return state.voices[voice].pointer.active if voice in state.voices else None


def readiness(world: World) -> tuple[bool, list[str]]:
    """`/readyz`, and what it waits for."""
    try:
        with urllib.request.urlopen(f"{world.ready['status']}/readyz", timeout=5) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            document = json.load(error)
    return document["ready"], document["waitingFor"]


async def restarted(world: World, **settings: Any) -> None:
    """Another sidecar, which follows."""
    assert world.sidecar is not None
    world.sidecar.kill()
    follows(world, **settings)
    await world.start_sidecar()


def test_a_fresh_pod_speaks_its_stable_revision_before_its_worker_serves_and_without_an_operator() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            stable = entry(world, 1, values=200_000)
            show(mount_of(world), stable)
            await restarted(world)
            async with world.client() as client:
                await until_phase(client, stable.revision, RevisionPhase.OFFERING)
                await eventually(lambda: readiness(world)[0], what="a start-up probe that the server waits for")
                assert active(await state_of(client)) is None
                worker = world.start_worker("w0")
                await until(client, lambda state: active(state) == stable.revision)
                await eventually(lambda: worker.events("serving"), what="the worker to serve")
                voice = await voice_of(client)
                assert (voice.uid, voice.fence, voice.watch) == (UID, "5.5", None)
                order = [line for line in worker.output.read_text().splitlines() if line.startswith("{")]
                kinds = [json.loads(line)["event"] for line in order]
                assert kinds.index("ready") < kinds.index("serving")
                assert "DesiredFollowed" in [event.reason for event in (await state_of(client)).events]
                with pytest.raises(StaleFence):
                    await flip(world, client, None)

    asyncio.run(story())


def test_an_entry_that_is_mounted_later_is_followed_and_takes_nobody_out_of_service() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            mount = mount_of(world)
            first = entry(world, 1)
            show(mount, first)
            await restarted(world)
            world.start_worker("w0")
            async with world.client() as client:
                await until(client, lambda state: active(state) == first.revision)
                await eventually(lambda: readiness(world)[0], what="readiness")
                second = entry(world, 2, voice="team-a/second", uid="uid-2", prepare="hang")
                show(mount, first, second)
                document = await until(client, lambda state: "team-a/second" in state.voices)
                assert document.desired is not None
                assert (document.desired.entries, document.desired.missing) == (2, ("team-a/second",))
                assert readiness(world) == (True, [])
                show(mount)
                document = await until(client, lambda state: state.desired and state.desired.entries == 0)
                assert active(document) == first.revision
                assert "team-a/second" in document.voices

    asyncio.run(story())


def test_what_is_broken_is_told_and_the_others_go_on() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            good = entry(world, 1)
            foreign = good.model_copy(
                update={"voice": "default/foreign", "request": good.request.model_copy(update={"engine": "gpt-sovits"})}
            )
            source = good.request.weights["tone"].model_copy(update={"uri": "file:///etc/hostname"})
            outside = good.model_copy(
                update={
                    "voice": "default/outside",
                    "request": RevisionRequest(engine="tiny", weights={"tone": source}),
                }
            )
            show(mount_of(world), good, foreign, outside, **{"default.broken": "{"})
            await restarted(world)
            world.start_worker("w0")
            async with world.client() as client:
                await until(client, lambda state: active(state) == good.revision)
                document = await until(client, lambda state: state.desired and len(state.desired.problems) == 3)
                assert document.desired is not None
                problems = {problem.source: problem for problem in document.desired.problems}
                assert problems["default.broken"].reason == "Invalid"
                assert "gpt-sovits" in problems["default/foreign"].message
                assert "ForbiddenSource" in problems["default/outside"].message
                told = [
                    event for event in document.events if event.reason.startswith("Desired") and event.kind == "Warning"
                ]
                assert len(told) == 3
                await eventually(lambda: readiness(world)[0], what="readiness without what can never be had")

    asyncio.run(story())


def test_a_source_that_was_away_is_asked_again() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            stable = entry(world, 1)
            hidden = world.voices / "v1.npz"
            hidden.rename(hidden.with_suffix(".away"))
            show(mount_of(world), stable)
            await restarted(world)
            world.start_worker("w0")
            async with world.client() as client:
                document = await until(client, lambda state: state.desired and state.desired.problems)
                assert document.desired is not None
                assert document.desired.problems[0].reason == "LoadFailed"
                assert readiness(world) == (False, [VOICE])
                hidden.with_suffix(".away").rename(hidden)
                document = await until(client, lambda state: active(state) == stable.revision)
                document = await until(client, lambda state: state.desired and not state.desired.problems)
                assert readiness(world)[0]

    asyncio.run(story())


def test_an_outrun_entry_is_ignored_and_a_leader_is_not_overtaken() -> None:
    async def story() -> None:
        async with running() as (world, client):
            world.term = 9
            first = await load(world, client, 1)
            await flip(world, client, first)
            lower, higher = entry(world, 2, fence="5.5"), entry(world, 3, fence="10.1")
            other = entry(world, 4, voice="default/other")
            mount = mount_of(world)
            show(mount, lower, other)
            await restarted(world, desiredSettleS=0)
            async with world.client() as again:
                await until(again, lambda state: active(state, "default/other") == other.revision)
                assert lower.revision not in (await voice_of(again)).revisions
                show(mount, higher, other, entry(world, 5, voice="default/third"))
                await until(again, lambda state: active(state, "default/third"))
                voice = await voice_of(again)
                assert (voice.pointer.active, voice.fence) == (first, f"9.{world.sequence}")
                assert higher.revision not in voice.revisions

    asyncio.run(story())


def test_a_pod_that_is_left_alone_follows_but_closes_no_watch() -> None:
    async def story() -> None:
        async with running() as (world, client):
            first, second = await load(world, client, 1), await load(world, client, 2)
            await flip(world, client, first)
            terms = WatchTerms(previous=first, max_error_rate=0.9, sustained_for_s=600, min_requests=5, min_errors=3)
            await flip(world, client, second, watch=terms)
            third, other = entry(world, 3, fence="7.1"), entry(world, 4, voice="default/other")
            show(mount_of(world), third, other)
            await restarted(world, desiredSettleS=0, desiredAloneS=0.1)
            async with world.client() as again:
                await until(again, lambda state: active(state, "default/other") == other.revision)
                voice = await voice_of(again)
                assert voice.watch is not None
                assert third.revision not in voice.revisions
                await until_phase(again, second, RevisionPhase.READY)
                await again.confirm(VOICE, fence=world.fence(), voice_uid=UID)
                document = await until(again, lambda state: active(state) == third.revision)
                voice = document.voices[VOICE]
                assert voice.fence == "7.1"
                assert second in voice.revisions

    asyncio.run(story())


def test_a_quiet_pod_that_is_read_now_and_then_is_not_alone() -> None:
    """An operator that is well reads quiet pods every 45 to 75 s, which is longer than the dead-man rule waits."""

    async def story() -> None:
        async with running() as (world, client):
            first = await load(world, client, 1)
            await flip(world, client, first)
            higher, other = entry(world, 3, fence="7.1"), entry(world, 4, voice="default/other")
            mount = mount_of(world)
            show(mount, higher, other)
            await restarted(world, desiredSettleS=0, outOfReachS=0.1)
            async with world.client() as again:
                await until(again, lambda state: active(state, "default/other") == other.revision)
                show(mount, higher, other, entry(world, 5, voice="default/third"))  # a later round saw all of them
                await until(again, lambda state: active(state, "default/third"))
                voice = await voice_of(again)
                assert voice.pointer.active == first
                assert higher.revision not in voice.revisions

    asyncio.run(story())


def test_the_longest_pause_of_an_operator_that_is_well_leaves_no_pod_alone() -> None:
    longest_pause_s = 1.25 * KubernetesConfig.model_fields["idle_poll_s"].default
    assert Config.model_fields["desired_alone_s"].default >= 2 * longest_pause_s
    assert Config.model_fields["out_of_reach_s"].default < longest_pause_s, "that is why they are two"


def test_an_operator_that_only_loads_a_joining_pods_voice_leaves_no_gap_before_its_server_serves() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            stable = entry(world, 1)
            show(mount_of(world), stable)
            await restarted(world)
            world.term = 9
            async with world.client() as client:
                command: dict[str, Any] = {"fence": world.fence(), "voice_uid": UID}
                await client.ensure_revision(VOICE, stable.revision, stable.request, **command)
                await until_phase(client, stable.revision, RevisionPhase.OFFERING)
                worker = world.start_worker("w0")
                document = await until(client, lambda state: [one for one in state.workers if one.phase == "serving"])
                assert active(document) == stable.revision
                assert document.voices[VOICE].fence == "9.1"
                await eventually(lambda: worker.events("serving"), what="the worker to serve")

    asyncio.run(story())


def test_a_lost_journal_costs_no_voice() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            stable = entry(world, 1)
            show(mount_of(world), stable)
            await restarted(world)
            world.start_worker("w0")
            async with world.client() as client:
                await until(client, lambda state: active(state) == stable.revision)
            assert world.sidecar is not None
            world.sidecar.kill()
            shutil.rmtree(world.directory / "journal")
            await world.start_sidecar()
            async with world.client() as client:
                await until(client, lambda state: active(state) == stable.revision)
                await until_phase(client, stable.revision, RevisionPhase.READY)

    asyncio.run(story())


def test_a_restart_takes_over_what_is_there_and_an_operator_goes_on_from_it() -> None:
    async def story() -> None:
        async with running(workers=0) as (world, _):
            stable = entry(world, 1)
            show(mount_of(world), stable)
            await restarted(world)
            world.start_worker("w0")
            async with world.client() as client:
                await until(client, lambda state: active(state) == stable.revision)
                await restarted(world)
            async with world.client() as client:
                await until_phase(client, stable.revision, RevisionPhase.READY)
                document = await state_of(client)
                assert "Adopted" in [event.reason for event in document.events]
                assert "DesiredFollowed" not in [event.reason for event in document.events]
                world.term = 6
                second = await load(world, client, 2)
                await flip(world, client, second, expected=stable.revision)
                fence = Fence(6, world.sequence)
                assert (await voice_of(client)).fence == str(fence)
                request = PointerRequest(active=stable.revision)
                await client.set_pointer(VOICE, request, fence=world.fence(), voice_uid=UID)

    asyncio.run(story())

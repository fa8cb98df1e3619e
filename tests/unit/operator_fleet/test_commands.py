"""Commands on their way: fenced at the last moment, bounded, at an instant of the pod's own clock, and let go of."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.fleet import Fleets, ScriptedSidecar, holding, narrator, polled, record, until
from tests.support.voices import revision, voice

from segue.errors import CommandRefused, Conflict, InvalidCommand
from segue.model import RevisionSource, source_of
from segue.rollout import EnsureRevision, SetPointer
from segue.wire import Fence, RevisionPhase
from segue_operator.leader import NotLeading

KEY = "default/narrator"


def source() -> RevisionSource:
    return source_of(voice("v2").spec)


async def begin(fleets: Fleets, *uids: str) -> None:
    fleets.fleet.update([record(uid) for uid in uids])
    await until(lambda: all(pod.identity is not None for pod in fleets.fleet.pods.values()))


def flip(*uids: str, at: datetime | None = None) -> SetPointer:
    return SetPointer(pods=uids, active="a" * 64, at=at)


def test_a_leader_that_was_deposed_while_a_command_waited_sends_nothing() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets, "p0")

        def deposed() -> Fence:
            raise NotLeading("another one may lead")

        with pytest.raises(NotLeading):
            await fleets.fleet.send(flip("p0"), "p0", voice=narrator(), next_fence=deposed)
        assert [each for each in pod.asked if not each.startswith("GET")] == []

    polled(story)


def test_a_command_to_many_pods_has_only_so_many_calls_under_way() -> None:
    async def story(fleets: Fleets) -> None:
        gate = asyncio.Event()
        pods: list[ScriptedSidecar] = []
        for index in range(12):
            pods.append(fleets.pod(f"p{index}", narrator=holding()))
            pods[-1].holds_up = gate
        uids = [pod.uid for pod in pods]
        await begin(fleets, *uids)
        sends = [
            asyncio.create_task(fleets.fleet.send(flip(*uids), uid, voice=narrator(), next_fence=fleets.next_fence))
            for uid in uids
        ]
        await until(lambda: sum(pod.under_way for pod in pods) == 4)
        await asyncio.sleep(0.05)
        assert sum(pod.under_way for pod in pods) == 4
        assert fleets.sequence == 4, "no fence is taken before its command's turn"
        gate.set()
        fences = await asyncio.gather(*sends)
        assert len(set(fences)) == 12

    polled(story, commands_at_a_time=4)


def test_what_a_sidecar_refuses_to_load_is_seen_as_failed_with_its_reason() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0")
        pod.refuses = InvalidCommand("ForbiddenSource: s3://elsewhere is outside the allowed sources")
        await begin(fleets, "p0")
        command = EnsureRevision(pods=("p0",), source=source())
        with pytest.raises(InvalidCommand):
            await fleets.fleet.send(command, "p0", voice=narrator(), next_fence=fleets.next_fence)
        (view,) = await fleets.fleet.observe(narrator(), evidence=False)
        found = view.revisions[revision("v2")]
        assert (found.phase, found.reason) == (RevisionPhase.FAILED, "ForbiddenSource")

    polled(story)


def test_a_flip_at_an_instant_names_it_in_the_clock_of_the_pod() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        pod.ahead_ns = 3_000_000_000
        await begin(fleets, "p0")
        at = datetime.now(UTC) + timedelta(seconds=5)
        await fleets.fleet.send(flip("p0", at=at), "p0", voice=narrator(), next_fence=fleets.next_fence)
        ahead_s = pod.bodies[-1]["atNs"] / 1e9 - at.timestamp()
        assert ahead_s == pytest.approx(3.0, abs=0.01)
        assert fleets.told == []

    polled(story)


def test_a_pod_whose_clock_is_not_known_well_flips_on_arrival_and_it_is_said() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        pod.slow_s = 0.05
        await begin(fleets, "p0")
        at = datetime.now(UTC) + timedelta(seconds=5)
        await fleets.fleet.send(flip("p0", at=at), "p0", voice=narrator(), next_fence=fleets.next_fence)
        assert pod.bodies[-1]["atNs"] is None
        ((told_of, event),) = fleets.told
        assert (told_of, event.reason, event.warning) == (KEY, "FlipsOnArrival", True)
        assert "p0" in event.message

    polled(story)


def test_a_pod_that_cannot_be_armed_is_reported() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets, "p0")
        pod.refuses = Conflict("atNs: 2.4 s ago: too late to flip")
        at = datetime.now(UTC) + timedelta(seconds=5)
        with pytest.raises(Conflict):
            await fleets.fleet.send(flip("p0", at=at), "p0", voice=narrator(), next_fence=fleets.next_fence)
        assert [event.reason for _, event in fleets.told] == ["NotArmed"]

    polled(story)


def test_an_armed_flip_that_the_pod_dropped_is_reported_once() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding())
        await begin(fleets, "p0")
        fleets.fleet.follow(KEY, closely=True)
        await fleets.fleet.observe(narrator(), evidence=False)
        pod.drop_armed(KEY, reason="NotReady", message="b was let go meanwhile")
        await until(lambda: fleets.told)
        for _ in range(3):
            await fleets.fleet.observe(narrator(), evidence=False)
        assert [(key, event.reason) for key, event in fleets.told] == [(KEY, "FlipDropped")]

    polled(story)


def test_a_deleted_voice_is_released_by_every_pod_that_holds_it() -> None:
    async def story(fleets: Fleets) -> None:
        holders = [fleets.pod("p0", narrator=holding(None)), fleets.pod("p1", narrator=holding(None))]
        fleets.pod("p2")
        await begin(fleets, "p0", "p1", "p2")
        assert await fleets.fleet.release(narrator(), next_fence=fleets.next_fence)
        assert [pod.voices for pod in holders] == [{}, {}]

    polled(story)


def test_a_voice_is_not_released_while_a_pod_of_its_fleet_cannot_be_asked() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding(None))
        unknown = fleets.pod("p1")
        unknown.silent = True
        fleets.fleet.update([record("p0"), record("p1")])
        await until(lambda: all(pod.settled for pod in fleets.fleet.pods.values()))
        assert not await fleets.fleet.release(narrator(), next_fence=fleets.next_fence)
        unknown.silent = False
        await until(lambda: all(pod.identity is not None for pod in fleets.fleet.pods.values()))
        assert await fleets.fleet.release(narrator(), next_fence=fleets.next_fence)

    polled(story)


def test_a_voice_of_the_same_name_that_was_made_anew_is_not_released_with_the_old_one() -> None:
    async def story(fleets: Fleets) -> None:
        pod = fleets.pod("p0", narrator=holding(uid="uid-new"))
        await begin(fleets, "p0")
        assert await fleets.fleet.release(narrator(uid="uid-old"), next_fence=fleets.next_fence)
        assert KEY in pod.voices

    polled(story)


def test_the_highest_term_that_pods_have_seen_is_known() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("p0", narrator=holding(fence="12.3"))
        await begin(fleets, "p0")
        assert fleets.fleet.highest_term() == 12
        with pytest.raises(CommandRefused):
            await fleets.fleet.send(flip("p0"), "p0", voice=narrator(), next_fence=fleets.next_fence)

    polled(story)

"""The set of pods changes under the fleet: they join, leave, restart, move, lose readiness, or are somebody else."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fleet import Fleets, holding, narrator, polled, record, until

from segue.errors import ControlUnreachable
from segue.rollout import ConfirmWatch, PodView, SetPointer


async def views(fleets: Fleets) -> dict[str, PodView]:
    return {view.uid: view for view in await fleets.fleet.observe(narrator(), evidence=False)}


async def reach(fleets: Fleets, *uids: str) -> None:
    await until(lambda: {pod.uid for pod in fleets.fleet.pods.values() if pod.identity is not None} == set(uids))


def test_a_pod_that_joins_is_read_and_its_voices_are_seen() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("a", narrator=holding())
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")
        fleets.pod("b")
        fleets.fleet.update([record("a"), record("b")])
        await reach(fleets, "a", "b")
        seen = await views(fleets)
        assert (seen["a"].pointer.active, seen["b"].pointer.active) == ("a" * 64, None)
        assert all(view.in_reach for view in seen.values())

    polled(story)


def test_a_pod_that_leaves_is_asked_no_more_and_its_client_is_closed() -> None:
    async def story(fleets: Fleets) -> None:
        gone = fleets.pod("a", narrator=holding())
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")
        fleets.fleet.update([])
        await until(lambda: gone.closed)
        assert await views(fleets) == {}
        with pytest.raises(ControlUnreachable, match="is gone"):
            await fleets.fleet.send(ConfirmWatch(pods=("a",)), "a", voice=narrator(), next_fence=fleets.next_fence)
        assert fleets.sequence == 0

    polled(story)


def test_a_pod_of_the_same_name_with_another_uid_is_another_pod() -> None:
    async def story(fleets: Fleets) -> None:
        old = fleets.pod("a1", at="https://first", narrator=holding())
        fleets.fleet.update([record("a1", at="https://first", name="web-0")])
        await reach(fleets, "a1")
        fleets.pod("a2", at="https://second")
        fleets.fleet.update([record("a2", at="https://second", name="web-0")])
        await reach(fleets, "a2")
        await until(lambda: old.closed)
        assert (await views(fleets))["a2"].pointer.active is None

    polled(story)


def test_a_pod_that_got_another_address_is_asked_there_and_nothing_old_is_believed() -> None:
    async def story(fleets: Fleets) -> None:
        old = fleets.pod("a", at="https://first", narrator=holding("a" * 64))
        fleets.fleet.update([record("a", at="https://first")])
        await reach(fleets, "a")
        new = fleets.pod("a", at="https://second", narrator=holding("b" * 64))
        new.silent = True
        fleets.fleet.update([record("a", at="https://second")])
        assert not (await views(fleets))["a"].in_reach
        new.silent = False
        await reach(fleets, "a")
        assert (await views(fleets))["a"].pointer.active == "b" * 64
        assert old.closed

    polled(story)


def test_a_pod_without_an_address_is_there_and_never_asked() -> None:
    async def story(fleets: Fleets) -> None:
        later = fleets.pod("a")
        fleets.fleet.update([record("a", at="", ready=False)])
        view = (await views(fleets))["a"]
        assert (view.in_reach, view.ready, later.asked) == (False, False, [])
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")

    polled(story)


def test_a_pod_that_loses_readiness_wakes_the_voices_and_keeps_its_state() -> None:
    async def story(fleets: Fleets) -> None:
        sidecar = fleets.pod("a", narrator=holding())
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")
        await views(fleets)
        asked = len(sidecar.asked)
        fleets.woken.clear()
        fleets.fleet.update([record("a", ready=False)])
        assert fleets.woken == [frozenset({"default/narrator"})]
        view = (await views(fleets))["a"]
        assert (view.ready, view.in_reach, view.pointer.active) == (False, True, "a" * 64)
        assert len(sidecar.asked) == asked

    polled(story)


def test_the_same_set_again_wakes_nobody() -> None:
    async def story(fleets: Fleets) -> None:
        fleets.pod("a")
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")
        await views(fleets)
        fleets.woken.clear()
        fleets.fleet.update([record("a")])
        assert fleets.woken == []

    polled(story)


def test_an_address_that_belongs_to_another_pod_now_is_left_alone_until_the_cluster_says_more() -> None:
    async def story(fleets: Fleets) -> None:
        other = fleets.pod("somebody-else", at="https://first")
        fleets.fleet.update([record("a", at="https://first")])
        await until(lambda: fleets.fleet.pods["a"].settled)
        await asyncio.sleep(0.5)  # longer than the first retries of a pod that is merely out of reach
        assert len(other.asked) == 1
        with pytest.raises(ControlUnreachable):
            await fleets.fleet.send(ConfirmWatch(pods=("a",)), "a", voice=narrator(), next_fence=fleets.next_fence)
        assert len(other.asked) == 1
        fleets.pod("a", at="https://second")
        fleets.fleet.update([record("a", at="https://second")])
        await reach(fleets, "a")

    polled(story)


def test_a_command_that_meets_another_pod_puts_it_out_of_reach() -> None:
    async def story(fleets: Fleets) -> None:
        sidecar = fleets.pod("a", narrator=holding())
        fleets.fleet.update([record("a")])
        await reach(fleets, "a")
        sidecar.uid = "b"
        with pytest.raises(Exception, match="this is b"):
            await fleets.fleet.send(
                SetPointer(pods=("a",), active=None), "a", voice=narrator(), next_fence=fleets.next_fence
            )
        assert not (await views(fleets))["a"].in_reach

    polled(story)


def test_a_pod_that_stops_answering_is_out_of_reach_and_comes_back_by_itself() -> None:
    async def story(fleets: Fleets) -> None:
        sidecar = fleets.pod("a", narrator=holding())
        sidecar.silent = True
        fleets.fleet.update([record("a")])
        await until(lambda: len(sidecar.asked) >= 3)
        assert not (await views(fleets))["a"].in_reach
        sidecar.silent = False
        await reach(fleets, "a")
        assert (await views(fleets))["a"].pointer.active == "a" * 64

    polled(story)


def test_the_first_look_waits_until_every_pod_was_asked() -> None:
    async def story(fleets: Fleets) -> None:
        slow = fleets.pod("a", narrator=holding())
        slow.slow_s = 0.3
        fleets.fleet.update([record("a")])
        assert (await views(fleets))["a"].in_reach

    polled(story)


def test_when_it_stops_leading_everything_is_closed_and_no_command_goes_out() -> None:
    async def run() -> None:
        fleets = Fleets()
        sidecar = fleets.pod("a", narrator=holding())
        fleets.fleet.update([record("a")])
        polling = asyncio.create_task(fleets.fleet.run())
        await reach(fleets, "a")
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert sidecar.closed
        with pytest.raises(ControlUnreachable):
            await fleets.fleet.send(ConfirmWatch(pods=("a",)), "a", voice=narrator(), next_fence=fleets.next_fence)
        assert sidecar.fences == []

    asyncio.run(run())

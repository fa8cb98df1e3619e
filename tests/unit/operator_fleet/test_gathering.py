"""Thousands of changes are told a few times; who waits for commands to be over waits no longer than that."""

from __future__ import annotations

import asyncio

from tests.support.fleet import Fleets, holding, narrator, polled, record, until

from segue_operator.fleet.lull import MOST_S, Lull

KEY = "default/narrator"


async def begin(fleets: Fleets, count: int) -> None:
    for index in range(count):
        fleets.pod(f"p{index}", narrator=holding())
    fleets.fleet.update([record(f"p{index}") for index in range(count)])
    await fleets.fleet.observe(narrator(), evidence=False)
    await until(lambda: all(pod.identity is not None for pod in fleets.fleet.pods.values()))


def test_pods_that_change_by_the_hundred_wake_a_voice_a_few_times() -> None:
    async def story(fleets: Fleets) -> None:
        await begin(fleets, 150)
        await asyncio.sleep(0.3)
        fleets.woken.clear()
        fleets.fleet.update([record(f"p{index}", ready=False) for index in range(150)])
        await until(lambda: fleets.woken)
        await asyncio.sleep(0.3)
        assert fleets.woken == [frozenset({KEY})]

    polled(story)


def test_with_a_few_pods_a_change_is_told_at_once() -> None:
    async def story(fleets: Fleets) -> None:
        await begin(fleets, 3)
        fleets.woken.clear()
        fleets.fleet.update([record(f"p{index}", ready=index > 0) for index in range(3)])
        assert fleets.woken == [frozenset({KEY})]

    polled(story)


def test_a_lull_is_when_the_last_command_is_over() -> None:
    async def story() -> None:
        lull = Lull()
        with lull.broken():
            with lull.broken():
                waiting = asyncio.create_task(lull.wait())
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await asyncio.sleep(0.01)
        assert waiting.done()

    asyncio.run(story())


def test_what_can_wait_is_done_in_the_next_lull() -> None:
    async def story() -> None:
        lull, done = Lull(), list[str]()
        lull.call(lambda: done.append("at once"))
        with lull.broken():
            with lull.broken():
                lull.call(lambda: done.append("one"))
            lull.call(lambda: done.append("two"))
            assert done == ["at once"]
        assert done == ["at once", "one", "two"]

    asyncio.run(story())


def test_it_is_done_in_the_end_where_somebody_is_always_commanded() -> None:
    async def story() -> None:
        lull, done = Lull(), asyncio.Event()
        with lull.broken():
            lull.call(done.set)
            async with asyncio.timeout(MOST_S + 5):
                await done.wait()

    asyncio.run(story())


def test_nobody_waits_for_ever_where_somebody_is_always_commanded() -> None:
    async def story() -> None:
        lull = Lull()
        with lull.broken():
            async with asyncio.timeout(MOST_S + 5):
                await lull.wait()

    asyncio.run(story())

"""A voice is woken at once, and then not for every single alert."""

from __future__ import annotations

import asyncio

from segue_operator.triggers.waking import Waker


def test_the_first_wakes_at_once_and_the_rest_together_later() -> None:
    async def story() -> list[list[str]]:
        woken: list[list[str]] = []
        rested = asyncio.Event()

        def wake(keys: frozenset[str]) -> None:
            woken.append(sorted(keys))
            if len(woken) == 3:
                rested.set()

        waker = Waker(wake, rest_s=0.05)
        for _ in range(100):
            waker(frozenset({"a"}))
        waker(frozenset({"b"}))
        assert woken == [["a"], ["b"]]
        await asyncio.wait_for(rested.wait(), 10)
        return woken

    assert asyncio.run(story()) == [["a"], ["b"], ["a"]]


def test_after_its_rest_a_voice_is_woken_at_once_again() -> None:
    async def story() -> int:
        woken: list[frozenset[str]] = []
        waker = Waker(woken.append, rest_s=0.01)
        waker(frozenset({"a"}))
        async with asyncio.timeout(10):
            while len(woken) < 2:
                await asyncio.sleep(0.005)
                waker(frozenset({"a"}))
        return len(woken)

    assert asyncio.run(story()) == 2

"""Commands take turns: never more than so many, first come first served, and a place is never lost."""

from __future__ import annotations

import asyncio

from segue_operator.fleet.places import Places


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_never_more_than_so_many_and_in_the_order_in_which_they_came() -> None:
    async def story() -> None:
        places, entered, leave = Places(2), list[int](), [asyncio.Event() for _ in range(5)]

        async def visit(number: int) -> None:
            async with places:
                entered.append(number)
                await leave[number].wait()

        visits = [asyncio.create_task(visit(number)) for number in range(5)]
        await settle()
        assert entered == [0, 1]
        leave[1].set()
        await settle()
        assert entered == [0, 1, 2]
        for event in leave:
            event.set()
        await asyncio.gather(*visits)
        assert entered == [0, 1, 2, 3, 4]

    asyncio.run(story())


def test_who_gives_up_while_waiting_takes_no_place() -> None:
    async def story() -> None:
        places = Places(1)
        async with places:
            waiting = asyncio.create_task(places.__aenter__())
            await settle()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(1), places:
            pass

    asyncio.run(story())


def test_who_gives_up_in_the_moment_of_the_turn_hands_the_place_on() -> None:
    async def story() -> None:
        places = Places(1)
        await places.__aenter__()
        first, second = (asyncio.create_task(places.__aenter__()) for _ in range(2))
        await settle()
        await places.__aexit__()  # the place is the first one's, who has not moved yet
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with asyncio.timeout(1):
            await second
        await places.__aexit__()
        async with asyncio.timeout(1), places:
            pass

    asyncio.run(story())


def test_an_error_inside_leaves_the_place() -> None:
    async def story() -> None:
        places = Places(1)
        for _ in range(3):
            try:
                async with places:
                    raise ValueError
            except ValueError:
                continue
        async with asyncio.timeout(1), places:
            pass

    asyncio.run(story())

"""Collections that would stall a flip do not happen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from segue.garbage import MIDDLE, OLD, YOUNG, collect_in_quiet, settle_garbage


def test_what_is_there_is_never_walked_again_and_what_comes_seldom() -> None:
    before = gc.get_threshold()
    try:
        settle_garbage()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold() == (YOUNG, MIDDLE, OLD)
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@contextlib.contextmanager
def collections_by_hand() -> Iterator[None]:
    """Nothing is collected but what is collected on purpose; afterwards everything is."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


class Knot:
    """Something that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize(("quiet", "at_the_latest"), [(True, 1000), (False, 3)])
def test_knots_go_in_a_quiet_moment_and_at_the_latest_after_a_while(quiet: bool, at_the_latest: int) -> None:
    async def story() -> None:
        knot = weakref.ref(Knot())
        collecting = asyncio.create_task(collect_in_quiet(lambda: quiet, every_s=0.001, at_the_latest=at_the_latest))
        async with asyncio.timeout(10):
            while knot() is not None:  # noqa: ASYNC110 - nobody tells of a collection
                await asyncio.sleep(0.001)
        collecting.cancel()

    with collections_by_hand():
        asyncio.run(story())


def test_nothing_is_collected_while_a_pause_would_hurt() -> None:
    async def story() -> None:
        knot, rounds = weakref.ref(Knot()), 0

        def busy() -> bool:
            nonlocal rounds
            rounds += 1
            return False

        collecting = asyncio.create_task(collect_in_quiet(busy, every_s=0.001, at_the_latest=1000))
        async with asyncio.timeout(10):
            while rounds < 5:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        assert knot() is not None
        collecting.cancel()

    with collections_by_hand():
        asyncio.run(story())

"""Collections that would stall a flip do not happen."""

from __future__ import annotations

import gc

from segue.garbage import MIDDLE, OLD, YOUNG, settle_garbage


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

"""A voice from its first version to its end: create, update, supersede, hold, let go, delete; nobody notices."""

from __future__ import annotations

import pytest
from tests.support.pods.case import Case

pytestmark = [pytest.mark.cluster, pytest.mark.process, pytest.mark.timeout(300)]


def test_create_and_update(case: Case) -> None:
    voice, first = case.speaking()
    case.heard(voice, first)
    second = voice.apply(case.fresh())
    done = voice.wait_promoted(second)
    assert [entry.revision for entry in done.status.history] == [second, first]
    assert done.status.last_switch is not None
    assert done.status.last_switch.from_revision == first
    assert done.status.pods.summary == "2/2"
    case.stage.wait_serving(voice.key, second)
    case.heard(voice, second)
    held = case.stage.voice_states(voice.key).values()
    assert all(state is not None and {first, second} <= state.revisions.keys() for state in held), (
        "the way back is warm"
    )

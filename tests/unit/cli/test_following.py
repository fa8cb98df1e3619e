"""What counts as success, as failure, and as not yet: a version that was taken back is never a success."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.stored_voices import conditions, rolled_back, rolling, serving, stored
from tests.support.voices import revision

from segue.model.status import Phase, Status
from segue_cli.cluster.outlook import document
from segue_cli.commands.intents import NothingToGoBackTo, way_back
from segue_cli.following import Goal, Lines, WayBack, status_line

PROMOTED, READY = Goal("Promoted"), Goal("Ready")


def seen(version: str, status: Status | None, *, generation: int = 2) -> dict[str, Any]:
    """A voice as commands see it."""
    return document(stored(version, generation=generation, status=status), context="dev")


def test_a_confirmed_version_is_promoted_and_ready() -> None:
    voice = seen("v2", serving("v2", "v1", generation=2))
    assert PROMOTED.is_met(voice)
    assert READY.is_met(voice)


def test_what_is_said_of_an_older_spec_does_not_count() -> None:
    voice = seen("v2", serving("v1", generation=1))
    for goal in (PROMOTED, READY):
        assert not goal.is_met(voice)
        assert goal.is_lost(voice) is None


def test_a_voice_that_nobody_has_looked_at_is_neither() -> None:
    voice = seen("v2", None)
    assert not READY.is_met(voice)
    assert READY.is_lost(voice) is None


@pytest.mark.parametrize("goal", [PROMOTED, READY, Goal("Verified"), Goal("Preloaded"), Goal("Watched")])
def test_a_version_that_was_taken_back_is_lost_though_the_old_one_is_ready(goal: Goal) -> None:
    voice = seen("v1", rolled_back("v2", "v1"))
    voice["status"]["conditions"] = [each for each in voice["status"]["conditions"] if each["type"] != "Watched"]
    assert not goal.is_met(voice)
    assert goal.is_lost(voice) == "6 of 80 failed"


def test_a_bad_version_that_gitops_keeps_in_the_spec_is_lost() -> None:
    said = {"Ready": "False", "Stalled": "True", "Promoted": "False", "Reconciling": "False"}
    status = rolled_back("v2", "v1", conditions=conditions(said, reason="RolledBack", message="not tried again"))
    assert PROMOTED.is_lost(seen("v2", status)) == "not tried again"


@pytest.mark.parametrize("phase", [Phase.PRELOADING, Phase.VERIFYING, Phase.CANARY, Phase.FLIPPING])
def test_the_old_version_is_not_what_ready_means(phase: Phase) -> None:
    voice = seen("v2", rolling("v2", "v1", phase=phase))
    assert not READY.is_met(voice)
    assert READY.is_lost(voice) is None


def test_under_watch_it_is_served_but_not_confirmed() -> None:
    voice = seen("v2", rolling("v2", "v1", phase=Phase.WATCHING))
    assert READY.is_met(voice)
    assert not PROMOTED.is_met(voice)


def test_under_watch_with_a_newer_spec_waiting_it_is_not() -> None:
    assert not READY.is_met(seen("v3", rolling("v2", "v1", phase=Phase.WATCHING, reason="WatchOpen")))


def test_a_rollback_under_way_is_neither() -> None:
    status = rolling(
        "v2", "v1", phase=Phase.ROLLING_BACK, conditions=conditions({"Promoted": "False"}, reason="RollingBack")
    )
    assert PROMOTED.is_lost(seen("v2", status)) is None


def test_a_condition_may_be_waited_for_to_be_false() -> None:
    voice = seen("v1", rolled_back("v2", "v1"))
    assert Goal("Promoted", "False").is_met(voice)
    assert Goal("Stalled", "false").is_lost(voice) is None


def test_a_version_of_its_own_is_not_met_by_another_one_that_was_confirmed() -> None:
    goal = Goal("Promoted", revision=revision("v2"))
    assert not goal.is_met(seen("v3", serving("v3", generation=2)))
    assert "was replaced by" in (goal.is_lost(seen("v3", serving("v3", generation=2))) or "")
    assert "taken back: ErrorRate: 6 of 80 failed" in (goal.is_lost(seen("v1", rolled_back("v2", "v1"))) or "")


# --- rollbacks --------------------------------------------------------------------------------------------------------


def with_token(status: Status, token: str) -> dict[str, Any]:
    voice = seen("v1", status)
    voice["status"]["handledTokens"] = {"rollback": token}
    return voice


def test_a_way_back_is_met_when_the_earlier_version_is_active_again() -> None:
    back = WayBack("token", revision("v1"))
    assert back.is_met(with_token(rolled_back("v2", "v1", reason="ManualRollback"), "token"))
    assert not back.is_met(with_token(rolled_back("v2", "v1"), "another"))
    assert not back.is_met(with_token(rolling("v2", "v1", phase=Phase.ROLLING_BACK), "token"))


def test_a_way_back_is_lost_when_the_token_did_nothing() -> None:
    found = WayBack("token", revision("v1")).is_lost(with_token(serving("v2", generation=2), "token"))
    assert found is not None
    assert "serves" in found


def test_from_idle_it_goes_to_the_version_before() -> None:
    way = way_back(seen("v2", serving("v2", "v1"))["status"])
    assert way.to == revision("v1")
    assert "acoustic v1.npz" in way.words


def test_in_a_rollout_it_goes_to_the_stable_version() -> None:
    way = way_back(seen("v3", rolling("v3", "v2", "v1", phase=Phase.CANARY))["status"])
    assert way.to == revision("v2")


def test_a_first_version_that_nobody_hears_yet_is_given_up() -> None:
    assert way_back(seen("v1", rolling("v1", phase=Phase.PRELOADING))["status"]).to is None


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (serving("v1"), "no earlier version"),
        (rolling("v1", phase=Phase.WATCHING), "is the first version"),
        (rolling("v2", "v1", phase=Phase.ROLLING_BACK), "under way already"),
    ],
)
def test_a_rollback_that_would_do_nothing_is_refused(status: Status, why: str) -> None:
    with pytest.raises(NothingToGoBackTo, match=why):
        way_back(seen("v1", status)["status"])


# --- lines ------------------------------------------------------------------------------------------------------------


def test_without_pods_the_counters_show_progress() -> None:
    line = status_line(seen("v2", rolling("v2", "v1", phase=Phase.PRELOADING)))
    assert "loaded 3/4" in line
    assert "3 of 4 pods have it" in line


@pytest.mark.parametrize(
    ("phase", "active", "arrow"),
    [
        (Phase.CANARY, "v1", ("v1", "v2")),
        (Phase.WATCHING, "v2", ("v1", "v2")),
        (Phase.ROLLING_BACK, "v1", ("v2", "v1")),
    ],
)
def test_the_arrow_shows_where_it_goes(phase: Phase, active: str, arrow: tuple[str, str]) -> None:
    line = status_line(seen("v2", rolling("v2", "v1", phase=phase, active_revision=revision(active))))
    assert " -> ".join(revision(each)[:10] for each in arrow) in line


def test_each_line_and_each_event_is_said_once() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    voice = seen("v2", serving("v2", generation=2))
    voice["events"] = [{"id": "old/1", "reason": "Old", "message": "before"}]
    lines.show(voice)
    lines.show(voice)
    told = voice["status"]["message"]
    voice["events"] = [
        *voice["events"],
        {"id": "new/1", "reason": "New", "message": "now"},
        {"id": "same/1", "reason": "Serving", "message": told},
    ]
    lines.show(voice)
    lines.show(voice)
    assert said == [status_line(voice), "  New: now"]

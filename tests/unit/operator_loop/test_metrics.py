"""What an operator tells: switches and rollbacks once each, voices while they exist."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from segue.model import Status
from segue.model.status import LastRollback, LastSwitch, Phase
from segue_operator.metrics import Overview, OverviewCollector
from segue_operator.tallies import MOST_REASONS, OTHER, REASONS, Tallies
from segue_operator.voice_figures import VoiceFigures, figures_of_body, figures_of_status

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
KEY = "default/narrator"


def switched(at: datetime = NOW) -> Status:
    return Status(last_switch=LastSwitch(to_revision="b" * 64, at=at))


def taken_back(reason: str, at: datetime = NOW) -> Status:
    return Status(last_rollback=LastRollback(from_revision="b" * 64, to_revision="a" * 64, reason=reason, at=at))


def told(overview: Overview) -> dict[tuple[str, ...], float]:
    """Value by name and label values."""
    registry = CollectorRegistry()
    registry.register(OverviewCollector(overview))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def overview(*voices: VoiceFigures, tallies: Tallies | None = None, **more: Any) -> Overview:
    return Overview(
        leading=lambda: True,
        voices=lambda: voices,
        unusable=lambda: 0,
        pods=lambda: 2,
        unreachable=more.pop("unreachable", lambda: 0),
        tallies=tallies or Tallies(),
        **more,
    )


def test_a_switch_counts_once_however_often_the_status_is_written() -> None:
    tallies, status = Tallies(), switched()
    tallies.note(KEY, Status(), status)
    tallies.note(KEY, status, status.model_copy(update={"phase": Phase.IDLE}))
    tallies.note(KEY, status, switched(NOW + timedelta(seconds=1)))
    assert told(overview(VoiceFigures(key=KEY), tallies=tallies))["segue_operator_switches_total", KEY] == 2


def test_a_rollback_counts_once_and_by_its_reason() -> None:
    tallies, status = Tallies(), taken_back("AlertFiring")
    tallies.note(KEY, Status(), status)
    tallies.note(KEY, status, status)
    found = told(overview(VoiceFigures(key=KEY), tallies=tallies))
    assert found["segue_operator_rollbacks_total", KEY] == 1
    assert found["segue_operator_rollback_reasons_total", "AlertFiring"] == 1


def test_every_reason_begins_with_0() -> None:
    """A rate knows nothing of a series that begins with 1."""
    found = told(overview())
    assert all(found["segue_operator_rollback_reasons_total", reason] == 0 for reason in REASONS)


def test_reasons_that_somebody_makes_up_share_a_label() -> None:
    tallies, before = Tallies(), Status()
    for number in range(1000):
        after = taken_back(f"Made{number}", NOW + timedelta(seconds=number))
        tallies.note(KEY, before, after)
        before = after
    assert len(tallies.reasons) == MOST_REASONS + 1
    assert tallies.reasons[OTHER] == 1000 - (MOST_REASONS - len(REASONS))


def test_a_voice_that_is_gone_has_no_series() -> None:
    tallies = Tallies()
    tallies.note(KEY, Status(), switched())
    tallies.forget(KEY)
    assert not [name for name in told(overview(tallies=tallies)) if KEY in name]


def test_only_voices_in_a_rollout_say_since_when() -> None:
    at_s = NOW.timestamp()
    found = told(
        overview(
            VoiceFigures(key="default/quiet", phase="Idle", phase_since_s=at_s),
            VoiceFigures(key=KEY, phase="Preloading", phase_since_s=at_s),
        )
    )
    name = "segue_operator_rollout_since_timestamp_seconds"
    assert found[name, KEY, "Preloading"] == at_s
    assert (name, "default/quiet", "Idle") not in found
    assert found["segue_operator_voices", "Preloading"] == found["segue_operator_voices", "Idle"] == 1
    assert found["segue_operator_voices", "Canary"] == 0


def test_an_operator_that_asks_no_pods_says_nothing_of_their_reach() -> None:
    assert ("segue_operator_pods_unreachable",) not in told(overview(unreachable=lambda: None))
    assert told(overview(unreachable=lambda: 1))["segue_operator_pods_unreachable",] == 1


@pytest.mark.parametrize(
    "status",
    [
        Status(),
        switched(),
        taken_back("ManualRollback"),
        Status(phase=Phase.VERIFYING, phase_started_at=NOW),
    ],
)
def test_an_object_and_a_model_say_the_same(status: Status) -> None:
    body = {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    assert figures_of_body(KEY, body) == figures_of_status(KEY, status)


def test_an_object_without_a_status_or_with_an_odd_one_is_told() -> None:
    assert figures_of_body(KEY, {}) == VoiceFigures(key=KEY)
    odd = {"status": {"phase": "Idle", "phaseStartedAt": "yesterday"}}
    assert figures_of_body(KEY, odd) == VoiceFigures(key=KEY, phase="Idle")

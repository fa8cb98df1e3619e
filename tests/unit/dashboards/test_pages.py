"""What a reader of a dashboard may rely on, whatever it asks."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from tests.support.dashboards import DASHBOARDS, FOLDER, NAMES, panels
from tools.dashboards.overview import SILENT_AFTER_S
from tools.dashboards.parts import WIDTH
from tools.dashboards.render import render_dashboards

from segue.memory.stats_layout import BUCKETS_S
from segue_operator.config import KubernetesConfig

CONFIG_MAP_BYTES = 1 << 20

pages = pytest.mark.parametrize("name", NAMES)


def test_files_are_what_the_code_makes_and_nothing_is_left_over() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == render_dashboards()


def test_they_are_the_same_each_time() -> None:
    assert render_dashboards() == render_dashboards()


def test_they_are_found_by_uids_that_stay() -> None:
    """People keep links to them; change none."""
    assert {name: page["uid"] for name, page in DASHBOARDS.items()} == {
        "fleet": "segue-fleet",
        "operator": "segue-operator",
        "overview": "segue-overview",
        "voice": "segue-voice",
    }
    assert all(page["tags"] == ["segue"] for page in DASHBOARDS.values())


@pages
def test_a_config_map_holds_it(name: str) -> None:
    assert (FOLDER / f"{name}.json").stat().st_size < CONFIG_MAP_BYTES // 4


@pages
def test_every_panel_says_what_it_shows(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        assert panel["title"]
        assert panel["description"].endswith((".", "`")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
        assert panel["targets"], panel["title"]


@pages
def test_every_question_goes_to_the_chosen_prometheus(name: str) -> None:
    dashboard = DASHBOARDS[name]
    asking = [
        *panels(dashboard),
        *(target for panel in panels(dashboard) for target in panel["targets"]),
        *dashboard["annotations"]["list"],
        *(each for each in dashboard["templating"]["list"] if each["type"] == "query"),
    ]
    assert all(each["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for each in asking)


@pages
def test_titles_and_numbers_are_unambiguous(name: str) -> None:
    numbers = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(numbers)) == len(numbers)
    for _, group in itertools.groupby(DASHBOARDS[name]["panels"], key=lambda panel: panel["type"] == "row"):
        titles = [panel["title"] for panel in group]
        assert len(set(titles)) == len(titles)
    for panel in panels(DASHBOARDS[name]):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


@pages
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(at.get("x", 0) + right, at.get("y", 0) + down) for right in range(at["w"]) for down in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(right for right, _ in cells) < WIDTH, panel["title"]
        taken |= cells


def test_a_voice_is_marked_where_its_revision_changes() -> None:
    markers = DASHBOARDS["voice"]["annotations"]["list"]
    assert [marker["name"] for marker in markers] == ["Switched", "Heard first", "Takes over", "Heard no more"]
    assert markers[0]["useValueForTime"] is True
    assert all(marker["enable"] and "filter" not in marker for marker in markers), "on every panel"


@pages
def test_bounds_that_are_spoken_of_are_those_of_the_histogram(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        spoken = re.search(r"(\d+) s is the last bound", panel["description"])
        if spoken is not None:
            assert float(spoken[1]) == BUCKETS_S[-1]


def test_a_quiet_pod_is_not_called_silent() -> None:
    longest_pause_s = 1.25 * KubernetesConfig.model_fields["idle_poll_s"].default
    assert 2 * longest_pause_s <= SILENT_AFTER_S
    assert f"{longest_pause_s:.0f} s on quiet pods" in str(DASHBOARDS["overview"])

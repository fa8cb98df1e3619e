"""Every query of every dashboard asks for what the processes export, by labels that it has."""

from __future__ import annotations

import re

import pytest
from tests.support.dashboards import DASHBOARDS, NAMES, QUERIES, VALUES, Asked, asked, panels, variables
from tests.support.exported import REVISION, VOICE, Figure, exported
from tests.support.promql import Mismatch, filled, labels_of, matches, selectors

from segue_server.supervisor.metrics import PAST

LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
IN_LEGEND = re.compile(r"{{\s*(\w+)\s*}}")
queries = pytest.mark.parametrize("query", QUERIES, ids=[each.where for each in QUERIES])


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    return exported()


@pytest.fixture(scope="module")
def known(figures: list[Figure]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for figure in figures:
        found[figure.name] = found.get(figure.name, frozenset()) | figure.labels.keys()
    return found


@queries
def test_it_is_promql_and_reads_what_is_exported(query: Asked, figures: list[Figure]) -> None:
    for selector in selectors(query.expr):
        same = [figure for figure in figures if figure.name == selector.name]
        assert same, f"nobody exports {selector.name}"
        assert any(matches(selector, figure.labels) for figure in same), f"{selector} matches none of {same[:3]}"


@queries
def test_its_labels_exist_and_its_legend_names_some_of_them(query: Asked, known: dict[str, frozenset[str]]) -> None:
    labels = labels_of(query.expr, known.__getitem__)
    assert set(IN_LEGEND.findall(query.legend)) <= labels
    assert bool(labels) <= bool(IN_LEGEND.search(query.legend)), "several series, and a legend that does not tell them"


@queries
def test_it_counts_no_revision_twice_that_is_gone(query: Asked, figures: list[Figure]) -> None:
    with_past = {figure.name for figure in figures if figure.labels.get("revision") == PAST}
    for selector in selectors(query.expr):
        if selector.name in with_past:
            assert not matches(selector, {"voice": VOICE, "revision": PAST, "outcome": "timeout"}), str(selector)


@queries
def test_a_counter_is_read_as_a_rate_and_a_gauge_is_not(query: Asked, figures: list[Figure]) -> None:
    kinds = {figure.name: figure.kind for figure in figures}
    read_as_rate = set(re.findall(r"(?:rate|increase)\((\w+)", query.expr))
    for selector in selectors(query.expr):
        assert selector.name is not None
        assert (kinds[selector.name] in ("counter", "histogram")) is (selector.name in read_as_rate), selector.name


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_filled_from_what_is_exported(name: str, known: dict[str, frozenset[str]]) -> None:
    found = variables(DASHBOARDS[name])
    assert found.pop("datasource")["type"] == "datasource"
    assert found
    for variable in found.values():
        match = LABEL_VALUES.fullmatch(variable["query"])
        assert match is not None, variable["query"]
        assert match[2] in labels_of(filled(match[1], VALUES), known.__getitem__)
        assert variable["multi"] is True


def test_a_voice_is_cut_into_its_namespace() -> None:
    pattern = variables(DASHBOARDS["voice"])["voice_namespace"]["regex"].strip("/").replace("\\/", "/")
    assert re.findall(pattern, VOICE) == ["voices"]
    assert re.findall(pattern, "other") == [], "the voices beyond the bound have no namespace"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_used_and_every_used_one_is_there(name: str) -> None:
    dashboard = DASHBOARDS[name]
    texts = [
        *(target["expr"] for panel in panels(dashboard) for target in panel["targets"]),
        *(marker["expr"] for marker in dashboard["annotations"]["list"]),
        *(variable["query"] for variable in variables(dashboard).values()),
    ]
    used = {found for text in texts for found in re.findall(r"\$\{?(\w+)", text)} - {"__rate_interval", "__range"}
    assert used | {"datasource"} == variables(dashboard).keys()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_one_installation_is_in_it(name: str) -> None:
    for query in asked(name):
        assert REVISION[:10] not in query.expr
    for panel in panels(DASHBOARDS[name]):
        for target in panel["targets"]:
            for label, value in re.findall(
                r'\b(namespace|pod|voice|revision|job|instance)=~?"([^"]*)"', target["expr"]
            ):
                assert value.startswith("$"), f"{label}={value}"


# --- the reader itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "sum by (voise) (rate(segue_requests_total[5m]))",
        'rate(segue_requests_total{voise="v"}[5m])',
        "sum by (voice) (rate(segue_requests_total[5m])) / sum(rate(segue_requests_total[5m]))",
        "histogram_quantile(0.9, sum by (voice) (rate(segue_latency_seconds_bucket[5m])))",
        "sum(rate(segue_requests_total[5m])) and on (pod) segue_workers",
    ],
)
def test_labels_that_are_not_there_are_found(wrong: str, known: dict[str, frozenset[str]]) -> None:
    with pytest.raises(Mismatch):
        labels_of(wrong, known.__getitem__)


def test_what_is_no_promql_is_found() -> None:
    with pytest.raises(ValueError, match="matrix"):
        selectors("rate(segue_requests_total)")


def test_a_selector_matches_as_prometheus_does() -> None:
    (selector,) = selectors('segue_requests_total{outcome=~"time.*",revision!="past",gone=~".*"}')
    assert matches(selector, {"outcome": "timeout", "revision": "a"})
    assert not matches(selector, {"outcome": "a timeout", "revision": "a"})
    assert not matches(selector, {"outcome": "timeout", "revision": "past"})

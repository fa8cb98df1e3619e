"""What `make observability` changes about the shipped rules, and what it asks."""

from __future__ import annotations

import pytest
from tests.support.dashboards import QUERIES
from tests.support.debian_packages import TEMPLATES, TEMPLATES_HERE
from tests.support.observability.__main__ import VALUES
from tests.support.observability.asked import questions, without_limit
from tests.support.observability.shortened import shortened, shortened_rule
from tests.support.promql import selectors


@pytest.mark.parametrize(
    ("shipped", "faster"),
    [
        ("rate(a[5m]) > 0.01", "rate(a[25s]) > 0.01"),
        ("increase(a[1h] offset 2m)", "increase(a[300s] offset 10s)"),
        ("max_over_time(a:b:min[7d])", "max_over_time(a:b:min[50400s])"),
        ("rate(a[30s])", "rate(a[4s])"),
        ('a{b="5m"} > 300', 'a{b="5m"} > 300'),
    ],
)
def test_only_windows_change(shipped: str, faster: str) -> None:
    assert shortened(shipped) == faster


def test_a_rule_keeps_all_but_its_windows() -> None:
    rule = {"alert": "A", "expr": "rate(a[2m]) > 1", "for": "5m", "labels": {"severity": "warning"}}
    assert shortened_rule(rule) == {**rule, "expr": "rate(a[10s]) > 1", "for": "25s"}
    assert "for" not in shortened_rule({"record": "r", "expr": "a"})


@pytest.mark.parametrize(
    ("alert", "measured"),
    [
        ("a / b > 1", "a / b"),
        ("(sum(a) or vector(0)) < 1", "(sum(a) or vector(0))"),
        ('label_replace(sum by (v) (a) > 0.01, "x", "$1", "v", "(.*)")', "sum by (v) (a)"),
        ("min(a) - time() < 5", "min(a) - time()"),
    ],
)
def test_what_an_alert_measures_is_the_left_side_of_its_limit(alert: str, measured: str) -> None:
    assert "".join(without_limit(alert).split()) == "".join(measured.split())


def test_an_alert_without_a_limit_is_told_of() -> None:
    with pytest.raises(AssertionError, match="no limit"):
        without_limit("a")


def test_everything_that_dashboards_and_rules_ask_is_asked() -> None:
    groups = [{"rules": [{"alert": "A", "expr": "a > 1"}, {"record": "r", "expr": "b"}]}]
    asked = questions(groups, VALUES)
    assert len({each.where for each in asked}) == len(asked)
    assert {query.where for query in QUERIES} <= {each.where for each in asked}
    assert [each.must_answer for each in asked if each.where.startswith("alert: A")] == [False, True]
    assert "rule: r" in {each.where for each in asked}
    assert sum("variable" in each.where for each in asked) >= 5
    for each in asked:
        assert selectors(each.expr)


def test_a_program_keeps_its_length_when_its_folder_is_replaced() -> None:
    assert len(TEMPLATES_HERE) == len(f"/{TEMPLATES}")

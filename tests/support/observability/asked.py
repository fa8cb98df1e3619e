"""Everything that the chart asks Prometheus: panels, marks and variables of dashboards, alerts, recorded series.

An alert that does not fire has an empty answer, which says nothing about whether it could. So an alert is asked twice:
as it is, which must be an expression that Prometheus takes, and without its limit, which must have an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import promql_parser as promql
from tests.support.dashboards import DASHBOARDS, NAMES, asked, variables
from tests.support.observability.shortened import shortened
from tests.support.promql import filled

LIMIT_OPERATORS = frozenset({"<", ">", "<=", ">=", "==", "!="})
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True, slots=True)
class Question:
    """One expression.

    Attributes
    ----------
    where
        What a person would look for: the dashboard and the panel, or the alert.
    must_answer
        Whether nothing is a wrong answer.
    """

    where: str
    expr: str
    must_answer: bool = True


def questions(groups: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> list[Question]:
    """All of them, with shortened windows. `groups` are those of the rules, shortened already."""
    return list(_told_apart([*_of_dashboards(values), *_of_rules(groups)]))


def _told_apart(asked: Iterable[Question]) -> Iterator[Question]:
    """Panels of one title in two rows of a page get numbers."""
    seen: Counter[str] = Counter()
    for each in asked:
        seen[each.where] += 1
        yield replace(each, where=f"{each.where} ({seen[each.where]})") if seen[each.where] > 1 else each


def _of_dashboards(values: Mapping[str, str]) -> Iterator[Question]:
    for name in NAMES:
        for each in asked(name, values):
            yield Question(each.where, shortened(each.expr))
        for variable in variables(DASHBOARDS[name]).values():
            match = LABEL_VALUES.fullmatch(variable["query"]) if variable["type"] == "query" else None
            if match is not None:
                yield Question(
                    f"{name}: variable {variable['name']}", f"count by ({match[2]}) ({filled(match[1], values)})"
                )


def _of_rules(groups: Sequence[Mapping[str, Any]]) -> Iterator[Question]:
    for group in groups:
        for rule in group["rules"]:
            if "record" in rule:
                yield Question(f"rule: {rule['record']}", rule["expr"])
                continue
            yield Question(f"alert: {rule['alert']}", rule["expr"], must_answer=False)
            yield Question(f"alert: {rule['alert']}, without its limit", without_limit(rule["expr"]))


def without_limit(expression: str) -> str:
    """What an alert measures: the left side of its outermost comparison, below brackets and functions."""
    node = promql.parse(expression)
    while True:
        match node:
            case promql.ParenExpr():
                node = node.expr
            case promql.Call():
                node = node.args[0]
            case promql.BinaryExpr() if str(node.op) in LIMIT_OPERATORS:
                return str(node.lhs.prettify())
            case _:
                raise AssertionError(f"has no limit: {expression}")

"""What a PromQL expression asks for, and which labels its answer has.

The parser is the one of GreptimeDB in its Python binding; it knows functions and types as Prometheus does. Which labels
come out follows from Prometheus' documentation of operators and is written down here as far as we use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set

import promql_parser as promql
from promql_parser import AggModifierType, LabelModifierType, VectorMatchCardinality

Labels = frozenset[str]
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


class Mismatch(AssertionError):
    """An expression whose parts can never meet, or that speaks of a label that is not there."""


def filled(text: str, values: Mapping[str, str]) -> str:
    """With Grafana's variables replaced. Raises `KeyError` with the name of one that has no value."""
    return VARIABLE.sub(lambda match: values[match[1]], text)


def selectors(expression: str) -> list[promql.VectorSelector]:
    """Everything that it reads. Raises `ValueError` where it is no PromQL."""
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        if isinstance(node, promql.MatrixSelector) and node.vector_selector not in found:
            found.append(node.vector_selector)

    promql.walk(promql.parse(expression), pre_visit=visit)
    return found


def matches(selector: promql.VectorSelector, labels: Mapping[str, str]) -> bool:
    """Whether a series with these labels is read."""
    return all(_holds(matcher, labels.get(matcher.name, "")) for matcher in selector.matchers.matchers)


def labels_of(expression: str, known: Callable[[str], Labels]) -> Labels:
    """Labels of the answer. `known` are those of a metric.

    Raises
    ------
    Mismatch
        A label is not there, or the sides of an operator have different ones.
    """
    return _labels(promql.parse(expression), known)


def _holds(matcher: promql.Matcher, value: str) -> bool:
    if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
        return (matcher.value == value) is (matcher.op is promql.MatchOp.Equal)
    return (re.fullmatch(matcher.value, value) is not None) is (matcher.op is promql.MatchOp.Re)


def _labels(node: promql.Expr, known: Callable[[str], Labels]) -> Labels:
    match node:
        case promql.VectorSelector():
            assert node.name is not None
            return _with(known(node.name), {matcher.name for matcher in node.matchers.matchers}, node)
        case promql.MatrixSelector():
            return _labels(node.vector_selector, known)
        case promql.ParenExpr():
            return _labels(node.expr, known)
        case promql.Call():
            inner = [_labels(each, known) for each in node.args]
            labels = frozenset[str]().union(*inner)
            return _with(labels, {"le"}, node) - {"le"} if node.func.name == "histogram_quantile" else labels
        case promql.AggregateExpr():
            return _aggregated(node, known)
        case promql.BinaryExpr():
            return _combined(node, known)
        case promql.NumberLiteral():
            return frozenset()
        case _:
            raise NotImplementedError(f"{type(node).__name__}: say here which labels come out of it")


def _aggregated(node: promql.AggregateExpr, known: Callable[[str], Labels]) -> Labels:
    inner = _labels(node.expr, known)
    named = frozenset(node.modifier.labels) if node.modifier is not None else frozenset[str]()
    _with(inner, named, node)
    if node.param is not None:  # topk and its like hand on whole series
        return inner
    assert node.modifier is None or node.modifier.type == AggModifierType.By, "`without` is not used"
    return named


def _combined(node: promql.BinaryExpr, known: Callable[[str], Labels]) -> Labels:
    left, right = _labels(node.lhs, known), _labels(node.rhs, known)
    if _is_scalar(node.lhs) or _is_scalar(node.rhs):
        return left | right
    if str(node.op) == "or":
        return left
    matching = node.modifier.matching if node.modifier is not None else None
    if matching is None:
        if left != right:
            raise Mismatch(f"{sorted(left)} never meet {sorted(right)}: {node.prettify()}")
        return left
    assert matching.type == LabelModifierType.Include, "`ignoring` is not used"
    on = frozenset(matching.labels)
    _with(left, on, node)
    _with(right, on, node)
    assert node.modifier is not None
    return on if node.modifier.card == VectorMatchCardinality.OneToOne else left


def _is_scalar(node: promql.Expr) -> bool:
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "time")


def _with(labels: Labels, needed: Set[str], node: promql.Expr) -> Labels:
    missing = needed - labels
    if missing:
        raise Mismatch(f"no label {', '.join(sorted(missing))} in {sorted(labels)}: {node.prettify()}")
    return labels

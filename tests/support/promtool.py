"""Prometheus' own tool, for what a parser cannot say: what an expression evaluates to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.support.debian_packages import find

STEP_S = 30
LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Expectation:
    """At this time the expression is above 0 for exactly the series with these labels."""

    expr: str
    at_s: int
    labels: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Promtool:
    """`promtool test rules`, with rules and without."""

    program: str

    def complaints(
        self, series: Mapping[str, str], expected: Sequence[Expectation], *, folder: Path, rules: Path | None = None
    ) -> str:
        """What does not hold; empty: everything does.

        Parameters
        ----------
        series
            Values of each series every 30 s, in promtool's notation: `0+30x40` rises 40 times by 30.
        rules
            A file of rules that are evaluated as well: what they record, and `ALERTS`, can be asked for.
        """
        case = {
            "interval": f"{STEP_S}s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [_as_test(each) for each in expected],
        }
        path = folder / "expressions.yaml"
        with path.open("w", encoding="utf-8") as file:
            files = [str(rules)] if rules is not None else []
            YAML(typ="safe").dump({"rule_files": files, "evaluation_interval": f"{STEP_S}s", "tests": [case]}, file)
        command = [self.program, "test", "rules", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr


def find_promtool() -> Promtool:
    """The one of this machine; the test is skipped where there is none, and fails where `SEGUE_REQUIRE` names it."""
    program = find("promtool")
    if program is None:
        if "promtool" in os.environ.get("SEGUE_REQUIRE", "").split(","):
            pytest.fail("SEGUE_REQUIRE demands promtool; on Debian: apt-get install prometheus")
        pytest.skip("no promtool; on Debian: apt-get install prometheus")
    return Promtool(str(program))


def series_name(name: str, labels: Mapping[str, str]) -> str:
    """As promtool reads it."""
    inside = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}"


def _as_test(expected: Expectation) -> dict[str, object]:
    return {
        "expr": f"({expected.expr}) > bool 0",
        "eval_time": f"{expected.at_s}s",
        "exp_samples": [{"labels": series_name("", labels), "value": 1} for labels in expected.labels],
    }

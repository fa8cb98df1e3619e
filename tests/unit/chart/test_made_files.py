"""The files of the chart that follow from others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.chart.__main__ import made
from tools.chart.crd import render_template
from tools.chart.values import Uncommented, read_values, with_table

from segue.model.crd import render_crd

ROOT = Path(__file__).parents[3]


def test_they_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [path for path, text in made().items() if path.read_text(encoding="utf-8") != text] == []


def test_the_template_is_the_crd_and_two_conditions() -> None:
    kept = [line for line in render_template().splitlines() if not line.lstrip().startswith("{{-")]
    added = {"  annotations:", "    helm.sh/resource-policy: keep"}
    lines = [line for line in kept if line not in added and "segue.labels" not in line]
    assert lines == render_crd().splitlines()


def test_a_value_is_a_line_with_its_default_and_meaning() -> None:
    text = "# One\na:\n  # -- How many.\n  b: 2\n# -- A list | of things.\nc: [x]\n"
    page = with_table("before\n<!-- begin: python -m tools.chart -->\nold\n<!-- end -->\nafter\n", text)
    assert "| **`a`** |  | *One* |" in page
    assert "| `a.b` | `2` | How many. |" in page
    assert '| `c` | `["x"]` | A list \\| of things. |' in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page


def test_a_value_without_a_comment_is_named() -> None:
    with pytest.raises(Uncommented, match=r"a\.b has no comment"):
        read_values("# One\na:\n  b: 2\n")

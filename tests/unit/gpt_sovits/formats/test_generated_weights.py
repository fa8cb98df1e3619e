"""The generator makes the very weights that the golden vectors were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.gpt_sovits.files import TABLES, table
from tests.support.gpt_sovits.weights import DrawnTensors, checksum, drawn

CASES: dict[str, dict[str, Any]] = json.loads((TABLES.parent / "cases.json").read_text(encoding="utf-8"))
_WITH_WEIGHTS = [name for name, case in CASES.items() if "weights_checksum" in case]


def _table_of(name: str) -> str:
    for ending in ("-sampled1", "-sampled2", "-batch3", "-cap", "-noprompt"):
        name = name.removesuffix(ending)
    return {"t2s-full": "t2s", "sovits-v2pro-full": "sovits-v2pro", "front": "sv-eres2netv2"}.get(name, name)


def test_there_are_cases_for_every_table_of_reduced_size() -> None:
    reduced = {path.stem for path in TABLES.glob("*-reduced*.json")}
    assert reduced == {_table_of(name) for name in _WITH_WEIGHTS if "reduced" in name}


@pytest.mark.parametrize("name", _WITH_WEIGHTS)
def test_the_weights_of_a_case_have_its_checksum(name: str) -> None:
    case = CASES[name]
    weights = DrawnTensors(table(_table_of(name)).shapes, seed=case["seed"], eos_gain=case.get("eos_gain", 1.0))
    assert checksum(weights) == case["weights_checksum"]


def test_the_end_of_a_network_without_eos_is_never_preferred() -> None:
    head = drawn("model.ar_predict_layer.weight", (1025, 8), seed=1, eos_gain=0.0)
    assert not head[-1].any()
    assert head[:-1].any(axis=1).all()


def test_tables_are_there() -> None:
    assert len(list(Path(TABLES).glob("*.json"))) == 10

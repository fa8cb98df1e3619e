"""Shapes computed from a config are those of real files."""

from __future__ import annotations

import pytest
from tests.support.gpt_sovits.files import TABLES, table

from segue_engines.gpt_sovits.formats import ModelVersion, SovitsConfig, T2SConfig, sovits_shapes, t2s_shapes
from segue_engines.gpt_sovits.formats.shapes import UNUSED, is_ignored


@pytest.mark.parametrize("name", sorted(path.stem for path in TABLES.glob("t2s*.json")))
def test_t2s_tables_follow_from_their_configs(name: str) -> None:
    found = table(name)
    shapes = t2s_shapes(T2SConfig.read(found.config, name))
    assert shapes == found.shapes
    assert list(shapes) == list(found.shapes)


@pytest.mark.parametrize("name", sorted(path.stem for path in TABLES.glob("sovits*.json")))
def test_sovits_tables_follow_from_their_configs(name: str) -> None:
    found = table(name)
    version = ModelVersion(found.config["model"]["version"])
    shapes = sovits_shapes(SovitsConfig.read(found.config, version, name))
    assert list(shapes) == [tensor for tensor in found.shapes if not is_ignored(tensor)]
    assert shapes == {tensor: shape for tensor, shape in found.shapes.items() if not is_ignored(tensor)}
    assert set(UNUSED) < set(found.shapes)


def test_the_model_section_comes_back_as_it_was_read() -> None:
    sovits, t2s = table("sovits-v2proplus-reduced").config, table("t2s-reduced-b").config
    config = SovitsConfig.read(sovits, ModelVersion.V2_PRO_PLUS, "x")
    assert (
        SovitsConfig.read(sovits | {"model": sovits["model"] | config.model_section()}, config.version, "x") == config
    )
    assert config.model_section().items() <= sovits["model"].items()
    assert T2SConfig.read(t2s, "x").model_section().items() <= t2s["model"].items()

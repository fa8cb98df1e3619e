"""The engine by its name, and everything else without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.unit.engine_gpt_sovits.builders import PhonesGiven

from segue.engine import Engine
from segue.errors import TextRejected
from segue_engines.gpt_sovits.engine import GptSovitsEngine
from segue_engines.gpt_sovits.front_end import PieceReader
from segue_engines.registry import get_engine

_BLOCKED = "import sys; sys.modules['torch'] = None\n"


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_the_registry_makes_the_engine() -> None:
    engine: Engine = get_engine("gpt-sovits")
    assert engine.name == "gpt-sovits"
    assert engine.weight_names == ("gpt", "sovits")
    assert engine.build_id == GptSovitsEngine(front_end=PhonesGiven()).build_id


def test_without_torch_the_other_engine_works_and_this_one_says_what_to_install() -> None:
    script = _BLOCKED + (
        "from segue_engines.registry import get_engine\n"
        "import segue_engines.gpt_sovits.formats\n"
        "print(get_engine('demo').name)\n"
        "try:\n    get_engine('gpt-sovits')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    told = _run(script)
    assert "demo\n" in told
    assert "SegueError the engine 'gpt-sovits' needs torch: pip install \"segue[gpt-sovits]\"" in told


def test_an_engine_that_nobody_asked_for_imports_no_torch() -> None:
    assert _run("import segue_engines.registry, sys; print('torch' in sys.modules)") == "False\n"


def test_english_text_becomes_phone_ids_without_features() -> None:
    spoken = PieceReader().read("Hello there. How are you?", "en")
    assert spoken
    assert all(len(each.ids) == len(each.phones) and each.bert is None for each in spoken)
    assert PieceReader().read_reference("Hello there.", "en").phones[:2] == ("HH", "AH0")


def test_what_the_front_end_refuses_is_refused() -> None:
    with pytest.raises(TextRejected):
        PieceReader().read("…", "en")

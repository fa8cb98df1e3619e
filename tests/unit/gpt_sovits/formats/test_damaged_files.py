"""Whatever is done to a weight file: it is read or refused, in bounded memory and time, and nothing of it runs.

`python -m tests.fuzz.containers --seconds 600` looks for longer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.inputs import Files, edited
from tests.fuzz.rules import Broken, Watch, check
from tests.support.gpt_sovits.files import table
from tests.unit.containers.test_torch_file import GADGETS

from segue.errors import WeightsError
from segue_engines.gpt_sovits.formats import ModelVersion, SovitsConfig, T2SConfig, sovits_shapes, t2s_shapes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


def _header(way: int, marker: int = 0) -> bytes:
    return bytes([way, marker])


def test_files_that_nothing_was_done_to_are_accepted(files: Files) -> None:
    for way in (0, 2, 4):
        assert check(files.of(_header(way)))
    assert check(files.of(_header(4, 2)))


@pytest.mark.parametrize("gadget", GADGETS)
def test_gadgets_are_refused_in_every_reader(files: Files, gadget: str) -> None:
    assert not check(files.of(_header(1) + GADGETS[gadget]))


_quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_edits = st.lists(
    st.builds(
        lambda place, kind, piece: place.to_bytes(3, "little") + bytes([kind, len(piece)]) + piece,
        st.integers(0, (1 << 24) - 1),
        st.integers(0, 2),
        st.binary(max_size=16),
    ),
    min_size=1,
    max_size=4,
).map(b"".join)


@pytest.mark.parametrize("way", [0, 2, 4])
def test_damage_is_survived(files: Files, way: int) -> None:
    @_quick
    @given(marker=st.integers(0, 10), edits=_edits)
    def damage(marker: int, edits: bytes) -> None:
        check(files.of(_header(way, marker) + edits))

    damage()


@_quick
@given(body=st.lists(st.sampled_from([*GADGETS.values(), *(bytes([code]) for code in range(256))]), max_size=12))
def test_any_pickle_is_survived(files: Files, body: list[bytes]) -> None:
    check(files.of(_header(1) + b"".join(body)))


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
_sizes = st.integers(-1, 1 << 16) | st.lists(st.integers(0, 64), max_size=9) | st.lists(st.lists(st.integers(0, 9)))


def _shapes_or_refusal(name: str, config: Any) -> dict[str, tuple[int, ...]] | str:
    try:
        if name.startswith("t2s"):
            return t2s_shapes(T2SConfig.read(config, "n.pth"))
        return sovits_shapes(SovitsConfig.read(config, ModelVersion.V2_PRO, "n.pth"))
    except WeightsError as error:
        return str(error)


@pytest.mark.parametrize("name", ["sovits-v2pro-reduced", "t2s-reduced-b"])
def test_any_config_gives_a_bounded_number_of_shapes_or_is_refused(name: str) -> None:
    known = table(name).config

    @settings(max_examples=300, deadline=None)
    @given(st.dictionaries(st.sampled_from(sorted(known["model"])), _sizes | _plain, max_size=4))
    def change(changes: dict[str, Any]) -> None:
        found = _shapes_or_refusal(name, known | {"model": known["model"] | changes})
        if isinstance(found, str):
            assert 10 < len(found) < 500
        else:
            assert len(found) < 5000
            assert all(extent > 0 for shape in found.values() for extent in shape)

    change()


@settings(deadline=None)
@given(_plain)
def test_what_is_no_config_at_all_is_refused(config: Any) -> None:
    with pytest.raises(WeightsError, match=r"n\.pth: "):
        T2SConfig.read(config, "n.pth")
    with pytest.raises(WeightsError, match=r"n\.pth: "):
        SovitsConfig.read(config, ModelVersion.V2, "n.pth")


def test_edits_overwrite_insert_and_delete() -> None:
    assert edited(b"abcdef", b"\1\0\0" + b"\0\2XY") == b"aXYdef"
    assert edited(b"abcdef", b"\1\0\0" + b"\1\2XY") == b"aXYbcdef"
    assert edited(b"abcdef", b"\1\0\0" + b"\2\2XY") == b"adef"


def test_the_watch_sees_code_files_and_processes(tmp_path: Path) -> None:
    watch = Watch()
    other = tmp_path / "other"
    other.write_bytes(b"")
    for deed, expected in (
        (lambda: compile("1", "x", "eval"), "compile"),
        (other.read_bytes, f"opened {other} as r"),
        (lambda: os.system("true"), "os.system"),
    ):
        watch.begin(tmp_path / "file")
        deed()
        assert expected in watch.end()


def test_a_message_that_does_not_name_the_file_breaks_a_rule(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.of(_header(1))
    monkeypatch.setattr("tests.fuzz.rules.SLOWEST_CPU_S", -1.0)
    with pytest.raises(Broken, match="of processor time"):
        check(path)

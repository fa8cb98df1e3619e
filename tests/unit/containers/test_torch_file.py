"""A weight file is data: it loads exactly, or it is refused by name, and it never runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.containers.pickles import (
    PROTO,
    STOP,
    archive,
    dict_of,
    integer,
    named,
    storage,
    tensor,
    text,
    tuple_of,
    write,
)
from typing_extensions import override

from segue.containers import TensorInfo, load_torch_file, open_torch_file
from segue.errors import UnsafePickle, WeightsError

FIXTURES = Path(__file__).parent / "fixtures"
VALUES = np.arange(12, dtype="<f4").reshape(3, 4)
VALID = archive(PROTO + dict_of(a=tensor("0", (3, 4)), epoch=integer(8)) + STOP, {"0": VALUES.tobytes()})


def load(tmp_path: Path, content: bytes, **limits: Any) -> Any:
    return load_torch_file(write(tmp_path / "voice.pth", content), **limits)


def load_pickle(tmp_path: Path, body: bytes) -> Any:
    return load(tmp_path, archive(PROTO + body + STOP, {"0": VALUES.tobytes()}))


def test_a_file_of_real_torch_loads_exactly() -> None:
    loaded = load_torch_file(FIXTURES / "torch.pt")
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected: dict[str, Any] = {
        "layer/weight": (np.arange(6, dtype=np.float32) / 4).reshape(2, 3),
        "layer/bias": np.array([0.5, -0.5], np.float32),
        "parameter": (np.arange(6, dtype=np.float32) / 4).reshape(2, 3),
        "half": base.astype(np.float16),
        "bfloat": base,
        "transposed": base.T,
        "row": base[1],
        "flags": np.array([True, False]),
        "longs": np.array([1 << 40, -1]),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 4), np.float32),
    }
    assert set(loaded.tensors) == set(expected)
    for name, array in loaded.tensors.items():
        assert array.dtype == np.asarray(expected[name]).dtype, name
        assert array.flags.c_contiguous, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert loaded.data["epoch"] == 8
    assert loaded.data["config"] == {"sizes": [1, 2, 3], "rate": 0.5, "name": "voice", "flag": True, "none": None}


def test_a_marked_gpt_sovits_file_loads_when_its_marker_is_allowed() -> None:
    loaded = load_torch_file(FIXTURES / "gpt-sovits-05.pth", markers=(b"PK", b"05"))
    assert loaded.marker == b"05"
    assert list(loaded.tensors) == ["weight/enc_p.weight"]
    assert json.dumps(loaded.data["config"]) == '{"data": {"sampling_rate": 32000}, "version": "v2Pro"}'


def test_a_marker_that_is_not_allowed_is_named() -> None:
    with pytest.raises(WeightsError, match="begins with b'05"):
        load_torch_file(FIXTURES / "gpt-sovits-05.pth")


def test_a_config_class_that_is_not_listed_is_refused() -> None:
    with pytest.raises(UnsafePickle, match=r"utils\.HParams"):
        load_torch_file(FIXTURES / "gpt-sovits-05.pth", markers=(b"05",), data_classes=())


def test_big_endian_files_are_turned(tmp_path: Path) -> None:
    content = archive(
        PROTO + dict_of(a=tensor("0", (12,)), b=tensor("1", (2,), kind="BFloat16Storage")) + STOP,
        {"0": VALUES.astype(">f4").tobytes(), "1": b"\x3f\x80\x40\x00"},
        byteorder=b"big",
    )
    loaded = load(tmp_path, content)
    np.testing.assert_array_equal(loaded.tensors["a"], VALUES.ravel())
    np.testing.assert_array_equal(loaded.tensors["b"], [1.0, 2.0])


class _Gadget:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("protocol", range(6))
def test_no_gadget_of_the_standard_pickler_runs(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "ran"
    body = pickle.dumps({"weight": [_Gadget(witness)]}, protocol=protocol)
    with pytest.raises(UnsafePickle):
        load(tmp_path, archive(body))
    assert not witness.exists()


COMMAND = tuple_of(text("id"))
GADGETS = {
    "global": named("os", "system") + COMMAND + b"R",
    "posix": named("posix", "system") + COMMAND + b"R",
    "stack_global": text("os") + text("system") + b"\x93" + COMMAND + b"R",
    "builtins": named("builtins", "eval") + COMMAND + b"R",
    "dotted": named("torch._utils", "_rebuild_tensor_v2.__globals__") + COMMAND + b"R",
    "torch_load": named("torch", "load") + COMMAND + b"R",
    "torch_hub": named("torch.hub", "load") + COMMAND + b"R",
    "getattr": named("builtins", "getattr") + tuple_of(named("collections", "OrderedDict"), text("x")) + b"R",
    "inst": b"(" + text("id") + b"ios\nsystem\n",
    "obj": b"(" + named("os", "system") + text("id") + b"o",
    "newobj": named("subprocess", "Popen") + COMMAND + b"\x81",
    "newobj_ex": named("collections", "OrderedDict") + b")}\x92",
    "newobj_tensor": named("torch._utils", "_rebuild_tensor_v2") + b")\x81",
    "call_a_string": text("os.system") + COMMAND + b"R",
    "call_a_result": named("collections", "OrderedDict") + b")R" + COMMAND + b"R",
    "extension_1": b"\x82\x01",
    "extension_2": b"\x83\x01\x00",
    "extension_4": b"\x84\x01\x00\x00\x00",
    "persistent_text": b"Pos.system\n",
    "persistent_string": text("os.system") + b"Q",
    "persistent_other": tuple_of(text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), b"K\x0c")
    + b"Q",
    "persistent_callable": tuple_of(text("storage"), text("os"), text("0"), text("cpu"), b"K\x0c") + b"Q",
    "persistent_negative": storage("0", -1),
    "persistent_true": tuple_of(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), b"\x88")
    + b"Q",
    "build_on_tensor": tensor("0", (3, 4)) + dict_of(__setstate__=text("x")) + b"b",
    "build_on_list": b"]" + dict_of(append=text("x")) + b"b",
    "build_pair": named("utils", "HParams") + b")\x81" + tuple_of(dict_of(a=b"N"), dict_of(b=b"N")) + b"b",
    "hparams_called": named("utils", "HParams") + b")R",
    "hparams_arguments": named("utils", "HParams") + COMMAND + b"\x81",
    "ordered_dict_arguments": named("collections", "OrderedDict") + tuple_of(b"]") + b"R",
    "bare_global": named("collections", "OrderedDict"),
    "bare_storage": b"]" + storage("0", 12) + b"a",
    "out_of_band_buffer": b"\x97",
    "bytearray": b"\x96" + struct.pack("<Q", 1 << 62),
    "text_integer": b"I" + b"9" * 5000 + b"\n",
    "huge_long": b"\x8b" + struct.pack("<I", 1 << 16) + b"\xff" * (1 << 16),
    "huge_long_claim": b"\x8b" + struct.pack("<I", 0x7FFFFFFF),
    "huge_string_claim": b"\x8d" + struct.pack("<Q", 1 << 60),
    "unhashable_key": b"}" + b"]" + b"N" + b"s",
    "tuple_key": b"}" + tuple_of(b"K\x01") + b"N" + b"s",
    "unknown_memo": b"h\x07",
    "stack_underflow": b"0",
    "mark_underflow": b"t",
    "pop_a_mark": b"(0",
    "set_on_list": b"]" + text("k") + b"N" + b"s",
    "append_to_dict": b"}Na",
    "cycle": b"]q\x00h\x00a",
    "deep_lists": b"]" * 100_000 + b"a" * 99_999,
    "deep_tuples": b")" + b"\x85" * 100_000,
    "unfolding": b"]" + b"".join(b"q\x00]" + b"h\x00a" * 10 for _ in range(30)),
    "long_names": b"".join(b"}" + text("k" * 3000) for _ in range(3)) + b"Nsss",
    "not_utf8": b"X\x01\x00\x00\x00\xff",
    "endless_name": b"c" + b"a" * 5000,
}


@pytest.mark.parametrize("name", GADGETS)
def test_a_pickle_that_asks_for_more_than_data_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePickle, match=r"voice\.pth"):
        load_pickle(tmp_path, GADGETS[name])


def test_the_refused_global_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsafePickle, match=r"voice\.pth: it asks for os\.system, which is not on the list"):
        load_pickle(tmp_path, GADGETS["global"])


MALFORMED_TENSORS = {
    "reaches_past_its_storage": (tensor("0", (3, 5), count=12), "reaches element 15 of a storage of 12"),
    "offset_past_its_storage": (tensor("0", (12,), offset=1), "reaches element 13"),
    "stride_past_its_storage": (tensor("0", (3, 4), stride=(5, 1)), "reaches element 14"),
    "declares_another_size": (tensor("0", (3, 4), count=13), "holds 48 bytes where 52 are declared"),
    "another_dtype": (tensor("0", (3, 4), kind="DoubleStorage"), "holds 48 bytes where 96 are declared"),
    "unknown_storage": (tensor("9", (3, 4)), "storage '9', which the file does not hold"),
    "expanded_bomb": (tensor("0", (1 << 20, 1 << 20), stride=(0, 0), count=12), "the limit is"),
    "negative_stride": (tensor("0", (3, 4), stride=(-4, 1)), "malformed"),
    "negative_extent": (tensor("0", (-3, 4), count=12), "malformed"),
    "negative_offset": (tensor("0", (3,), offset=-1, count=12), "malformed"),
    "ranks_differ": (tensor("0", (3, 4), stride=(1,)), "2 dimensions and 1 strides"),
    "many_dimensions": (tensor("0", (1,) * 40, count=12), "40 dimensions"),
    "no_tensor_at_all": (
        named("torch._utils", "_rebuild_tensor_v2") + tuple_of(b"N", b"N", b"N", b"N") + b"R",
        "malformed",
    ),
}


@pytest.mark.parametrize("name", MALFORMED_TENSORS)
def test_a_tensor_that_its_storage_does_not_bear_out_is_refused(tmp_path: Path, name: str) -> None:
    body, message = MALFORMED_TENSORS[name]
    with pytest.raises(WeightsError, match=message):
        load_pickle(tmp_path, dict_of(a=body))


def test_one_tensor_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tensor 'a' \(3, 4\) takes 48 bytes; the limit is 47"):
        load(tmp_path, VALID, max_tensor_bytes=47)


def test_all_tensors_together_are_bounded(tmp_path: Path) -> None:
    pair = archive(PROTO + dict_of(a=tensor("0", (12,)), b=tensor("0", (12,))) + STOP, {"0": VALUES.tobytes()})
    assert len(load(tmp_path, pair, max_total_bytes=96).tensors) == 2
    with pytest.raises(WeightsError, match="more than the limit of 95"):
        load(tmp_path, pair, max_total_bytes=95)


def _two_rows(raw: bytes) -> bytes:
    """Two tensors that are windows of one storage, and its whole."""
    rows = dict_of(
        first=tensor("0", (4,), count=12),
        second=tensor("0", (2,), stride=(4,), offset=5, count=12),
        whole=tensor("0", (3, 4)),
    )
    return archive(PROTO + rows + STOP, {"0": raw})


def test_an_open_file_tells_what_it_holds_and_reads_one_tensor_at_a_time(tmp_path: Path) -> None:
    with open_torch_file(write(tmp_path / "voice.pth", _two_rows(VALUES.tobytes()))) as file:
        assert file.tensors["second"] == TensorInfo(shape=(2,), dtype="float32")
        assert file.data == file.tensors
        np.testing.assert_array_equal(file.read("first"), VALUES[0])
        np.testing.assert_array_equal(file.read("second"), VALUES[1:, 1])
        np.testing.assert_array_equal(file.read("whole"), VALUES)
        with pytest.raises(KeyError):
            file.read("third")


def test_a_window_is_read_without_the_rest_of_its_storage(tmp_path: Path) -> None:
    storage = np.zeros(8 << 20, np.float32)
    body = PROTO + dict_of(a=tensor("0", (4,), offset=77, count=storage.size)) + STOP
    path = write(tmp_path / "voice.pth", archive(body, {"0": storage.tobytes()}))
    tracemalloc.start()
    with open_torch_file(path) as file:
        assert file.read("a").nbytes == 16
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 << 20  # CRC in steps of 4 MiB, of a storage of 32 MiB


@pytest.mark.parametrize("name", ["first", "second", "whole"])
def test_a_damaged_storage_is_noticed_whichever_part_of_it_is_read(tmp_path: Path, name: str) -> None:
    content = _two_rows(VALUES.tobytes())
    damaged = content.replace(VALUES.tobytes(), VALUES.tobytes()[:-1] + b"\xff")
    with (
        open_torch_file(write(tmp_path / "voice.pth", damaged)) as file,
        pytest.raises(WeightsError, match="does not match its CRC"),
    ):
        file.read(name)


def test_what_strided_windows_would_take_to_read_counts_against_the_limit(tmp_path: Path) -> None:
    wide = dict_of(**{f"t{n}": tensor("0", (2,), stride=(11,), count=12) for n in range(10)})
    path = write(tmp_path / "voice.pth", archive(PROTO + wide + STOP, {"0": VALUES.tobytes()}))
    assert len(load_torch_file(path, max_total_bytes=480).tensors) == 10
    with pytest.raises(WeightsError, match="more than the limit of 479"):
        load_torch_file(path, max_total_bytes=479)


def test_a_tensor_named_a_million_times_takes_no_memory_for_its_names(tmp_path: Path) -> None:
    empty = tensor("0", (0,))
    body = b"}" + text("k" * 1000) + b"](" + empty + b"q\x07" + b"h\x07" * 200_000 + b"es"
    path = write(tmp_path / "voice.pth", archive(PROTO + body + STOP, {"0": b""}))
    tracemalloc.start()
    with pytest.raises(WeightsError, match="more than 65536 tensors"):
        load_torch_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 << 20


def test_an_empty_tensor_of_an_endless_shape_is_refused(tmp_path: Path) -> None:
    body = dict_of(a=tensor("0", (0, 1 << 47, 1 << 47), stride=(0, 0, 0), count=0))
    with pytest.raises(WeightsError, match="which no memory holds"):
        load(tmp_path, archive(PROTO + body + STOP, {"0": b""}))


def _patched(content: bytes, find: bytes, replace: bytes) -> bytes:
    assert content.count(find) >= 1
    return content.replace(find, replace)


def _overlapping() -> bytes:
    """Two directory entries of the same bytes: what a zip bomb without compression looks like."""
    content = archive(PROTO + b"}" + STOP, {"0": b"x" * 64, "1": b"y" * 64})
    first, second = content.rfind(b"archive/data/0") - 46, content.rfind(b"archive/data/1") - 46
    offset = content[first + 42 : first + 46]
    return content[: second + 42] + offset + content[second + 46 :]


BROKEN_ARCHIVES = {
    "compressed": (archive(PROTO + b"}" + STOP, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "overlapping": (_overlapping(), "lie over each other"),
    "climbing": (archive(PROTO + b"}" + STOP, extra=("../evil", b"")), "is named '../evil'"),
    "absolute": (archive(PROTO + b"}" + STOP, extra=("/etc/evil", b"")), "is named '/etc/evil'"),
    "two_roots": (archive(PROTO + b"}" + STOP, extra=("other/data.pkl", b"")), "two entries are named|2 top folders"),
    "torchscript": (archive(PROTO + b"}" + STOP, extra=("archive/constants.pkl", b"")), "TorchScript"),
    "byteorder": (archive(PROTO + b"}" + STOP, byteorder=b"middle"), "byte order b'middle'"),
    "flipped_bit": (_patched(VALID, VALUES.tobytes(), b"\xff" + VALUES.tobytes()[1:]), "does not match its CRC"),
    "empty": (b"", "begins with b''"),
    "text": (b"<!DOCTYPE html>", "begins with b'<!DO'"),
    "bare_pickle": (pickle.dumps({"a": 1}), "a bare pickle"),
    "safetensors": (struct.pack("<Q", 64) + b"{}", "begins with"),
}


@pytest.mark.parametrize("name", BROKEN_ARCHIVES)
def test_an_archive_that_torch_would_not_write_is_refused(tmp_path: Path, name: str) -> None:
    content, message = BROKEN_ARCHIVES[name]
    with pytest.raises(WeightsError, match=message):
        load(tmp_path, content)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive(PROTO + b"}" + STOP, extra=("archive/data.pkl", PROTO + b"}" + STOP))
    with pytest.raises(WeightsError, match="two entries are named"):
        load(tmp_path, content)


@pytest.mark.parametrize("kept", range(0, len(VALID), 7))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    with pytest.raises(WeightsError):
        load(tmp_path, VALID[:kept])


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        load_torch_file(tmp_path / "missing.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_torch_file(tmp_path)


_edits = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=_edits, tail=st.binary(max_size=16))
@example(edits=[(0, b"PK")], tail=b"")
def test_any_damage_either_loads_or_is_refused(tmp_path: Path, edits: list[tuple[int, bytes]], tail: bytes) -> None:
    content = bytearray(VALID)
    for offset, piece in edits:
        content[offset : offset + len(piece)] = piece
    _loads_or_refuses(tmp_path, bytes(content) + tail)


_opcodes = st.lists(st.sampled_from([*GADGETS.values(), *(bytes([code]) for code in range(256))]), max_size=12)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_opcodes.map(b"".join))
def test_any_pickle_either_loads_or_is_refused(tmp_path: Path, body: bytes) -> None:
    _loads_or_refuses(tmp_path, archive(PROTO + body + STOP, {"0": VALUES.tobytes()}))


def _loads_or_refuses(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "voice.pth", content)
    tracemalloc.start()
    try:
        load_torch_file(path, max_tensor_bytes=1 << 20, max_total_bytes=1 << 20)
    except WeightsError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * len(content) + (64 << 20)

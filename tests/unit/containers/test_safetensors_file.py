"""A safetensors file loads exactly, or is refused with the file, the tensor and what was expected."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from segue.containers import TensorInfo, open_safetensors
from segue.errors import WeightsError

GOOD: dict[str, Any] = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def _write(path: Path, header: Any, data: bytes = bytes(24)) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def test_what_the_package_writes_is_read_exactly(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    tensors = {
        "half": torch.randn(3, 5, generator=draw).half(),
        "single": torch.randn(7, generator=draw),
        "bfloat": torch.randn(2, 2, generator=draw).bfloat16(),
        "whole": torch.arange(4),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with open_safetensors(tmp_path / "m.safetensors") as file:
        assert file.tensors.keys() == tensors.keys()
        assert file.tensors["bfloat"] == TensorInfo(shape=(2, 2), dtype="bfloat16")
        for name, tensor in tensors.items():
            expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            found = file.read(name)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"", "no safetensors file: its header would have 0 bytes"),
        (b"{]", "its header is no JSON object"),
        (b"[" * 50_000, "its header is no JSON object"),
        (b"[1]", "its header is a list"),
        (b'{"a": 1, "a": 2}', "a name stands there twice"),
        ({"a": {"dtype": "F32"}}, "tensor 'a': expected an object with dtype, shape and data_offsets"),
        ({"a": GOOD["a"] | {"dtype": "F8_E5M2"}}, "is 'F8_E5M2'; expected one of"),
        ({"a": GOOD["a"] | {"shape": [2, -3]}}, "its shape is malformed"),
        ({"a": GOOD["a"] | {"shape": [2, True]}}, "its shape is malformed"),
        ({"a": GOOD["a"] | {"shape": [2, 4]}}, r"of shape \(2, 4\) takes 32 bytes, but lies at 0 to 24"),
        ({"a": GOOD["a"] | {"data_offsets": [-24, 0]}}, "but lies at -24 to 0"),
        ({"a": GOOD["a"] | {"data_offsets": [8, 32]}}, "outside of"),
        ({**GOOD, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, "inside another"),
        ({"a": {"dtype": "F32", "shape": [1 << 47, 1 << 47], "data_offsets": [0, 24]}}, "takes"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: Any, complaint: str) -> None:
    path = _write(tmp_path / "m.safetensors", header)
    with pytest.raises(WeightsError, match=rf"m\.safetensors.*{complaint}"), open_safetensors(path):
        pass


def test_a_header_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    tracemalloc.start()
    with pytest.raises(WeightsError, match="no safetensors file"), open_safetensors(path):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_what_takes_more_than_a_limit_is_refused_unread(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.safetensors", GOOD)
    with (
        pytest.raises(WeightsError, match="takes 24 bytes; the limit is 16"),
        open_safetensors(path, max_tensor_bytes=16),
    ):
        pass
    with pytest.raises(WeightsError, match="more than the limit of 20"), open_safetensors(path, max_total_bytes=20):
        pass


def test_no_such_file_and_no_regular_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"), open_safetensors(tmp_path / "none"):
        pass
    with pytest.raises(WeightsError, match="cannot be read"), open_safetensors(tmp_path):
        pass


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, place: int, byte: int, cut: int) -> None:
    raw = bytearray(_write(tmp_path / "m.safetensors", GOOD).read_bytes())
    raw[place % len(raw)] = byte
    (tmp_path / "m.safetensors").write_bytes(raw[: len(raw) - cut])
    try:
        with open_safetensors(tmp_path / "m.safetensors") as file:
            for name in file.tensors:
                file.read(name)
    except WeightsError:
        pass

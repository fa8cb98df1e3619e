"""The least ONNX writer that makes a model with the signature of G2PW's: protobuf by hand, so that no test needs onnx.

Field numbers are those of onnx.proto3 (ModelProto, GraphProto, NodeProto, TensorProto, ValueInfoProto).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INT64 = 1, 7
_TYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.int64): _INT64}


def g2pw_model(by_hanzi: NDArray[np.float32], by_next_token: NDArray[np.float32], *, broadcasts: bool = True) -> bytes:
    """A model that answers from the hanzi and from the token after it.

    Parameters
    ----------
    by_hanzi
        `(hanzi, labels) float32`.
    by_next_token
        `(tokens, labels) float32`; added.
    broadcasts
        Whether one sentence may be given for several places, as the real one can.
    """
    one = np.array([1], np.int64)
    constants: dict[str, NDArray[Any]] = {
        "hanzi": by_hanzi,
        "tokens": by_next_token,
        "one": one,
        "minus": np.array([-1], np.int64),
    }
    nodes = [
        _node("Add", ["position_ids", "one"], ["after"]),
        _node("Unsqueeze", ["after", "minus"], ["column"]),
    ]
    if broadcasts:
        nodes += [
            _node("Shape", ["column"], ["many"]),
            _node("Shape", ["input_ids"], ["size"]),
            _node("Gather", ["size", "one"], ["length"]),
            _node("Gather", ["many", "zero"], ["rows"]),
            _node("Concat", ["rows", "length"], ["wanted"], axis=0),
            _node("Expand", ["input_ids", "wanted"], ["sentences"]),
        ]
        constants["zero"] = np.array([0], np.int64)
    else:
        nodes.append(_node("Identity", ["input_ids"], ["sentences"]))
    nodes += [
        _node("GatherElements", ["sentences", "column"], ["next"], axis=1),
        _node("Squeeze", ["next", "minus"], ["next_token"]),
        _node("Gather", ["tokens", "next_token"], ["from_next"]),
        _node("Gather", ["hanzi", "char_ids"], ["from_hanzi"]),
        _node("Add", ["from_next", "from_hanzi"], ["logits"]),
        _node("Softmax", ["logits"], ["free"], axis=1),
        _node("Mul", ["free", "phoneme_mask"], ["probs"]),
    ]
    inputs = [
        *(_value(name, _INT64, ["batch", "length"]) for name in ("input_ids", "token_type_ids", "attention_mask")),
        _value("phoneme_mask", _FLOAT, ["places", "labels"]),
        *(_value(name, _INT64, ["places"]) for name in ("char_ids", "position_ids")),
    ]
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, b"g2pw"),
            *(_field(5, _tensor(name, array)) for name, array in constants.items()),
            *(_field(11, each) for each in inputs),
            _field(12, _value("probs", _FLOAT, ["places", "labels"])),
        ]
    )
    opset = _field(1, b"") + _number(2, 13)
    return _number(1, 8) + _field(7, graph) + _field(8, opset)


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int) -> bytes:
    """One operator; its attributes are integers."""
    body = b"".join(_field(1, name.encode()) for name in inputs)
    body += b"".join(_field(2, name.encode()) for name in outputs)
    body += _field(4, kind.encode())
    for name, value in attributes.items():
        body += _field(5, _field(1, name.encode()) + _number(3, value) + _number(20, 2))
    return body


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    return dims + _number(2, _TYPES[array.dtype]) + _field(8, name.encode()) + _field(9, array.tobytes())


def _value(name: str, kind: int, dims: Sequence[str]) -> bytes:
    shape = b"".join(_field(1, _field(2, dim.encode())) for dim in dims)
    tensor_type = _number(1, kind) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor_type))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

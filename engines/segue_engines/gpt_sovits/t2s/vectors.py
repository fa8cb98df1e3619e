"""Sixteen numbers at a time: the pieces of attention that have to be vector instructions, for numba to call.

Separate because it is the only place that speaks LLVM. Loops over the 32 numbers of a head, written in Python, take
more than twice as long (34 instead of 14 ms a step): the compiler cannot know that they never overlap. Vectors of
sixteen are cut to what the processor has, AVX-512, AVX2 or NEON alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

LANES: Final = 16
HEAD_WIDTH: Final = 2 * LANES
"""Numbers of a head: two vectors."""
TOGETHER: Final = 4
"""Positions whose values are summed before the sum is stored."""

_INT: Final = ir.IntType(32)
_LONG: Final = ir.IntType(64)
_FLOAT: Final = ir.FloatType()
_INTS: Final = ir.VectorType(_INT, LANES)
_SHORT: Final = ir.IntType(16)
_SHORTS: Final = ir.VectorType(_SHORT, LANES)
_FLOATS: Final = ir.VectorType(_FLOAT, LANES)
_QUERY_BYTES: Final = HEAD_WIDTH * 4
_UPPER: Final = 0xFFFF0000
_READ, _IN_ALL_LEVELS, _DATA = 0, 3, 1

_Pair = Callable[[ir.IRBuilder, ir.Value], tuple[ir.Value, ir.Value]]

Address = types.uint64


class Steps(NamedTuple):
    """What attention calls for each position; addresses are numbers, as numba has no vectors of its own.

    Queries and sums of a head are two vectors of float32: for bfloat16 its even numbers and its odd ones, which is how
    they come out of four bytes each; else its first half and its second.

    Attributes
    ----------
    scores
        `(queries, key, scores, ahead)`: the products of the keys of one position with their queries, one a head, side
        by side; rounded up to whole vectors.
    mix
        `(sum, values, weights, next_weight, next_value, ahead)`: add the values of one head at `TOGETHER` positions,
        weighted.
    mix_one
        The same at one position.
    """

    scores: Callable[..., None]
    mix: Callable[..., None]
    mix_one: Callable[..., None]


def steps_of(*, half: bool, heads: int) -> Steps:
    """For keys and values in bfloat16 (`half`), or in float32."""
    pair = _pair_of_halves if half else _pair_of_floats
    head_bytes = HEAD_WIDTH * (2 if half else 4)

    @intrinsic
    def scores(_typing: Any, queries: Any, key: Any, results: Any, ahead: Any) -> Any:
        def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
            queries, key, results, ahead = given
            _prefetch(build, ahead, head_bytes * heads)
            for first in range(0, heads, LANES):
                products = []
                for head in range(first, min(first + LANES, heads)):
                    one, other = pair(build, _plus(build, key, head * head_bytes))
                    asked, also = _pair_of_floats(build, _plus(build, queries, head * _QUERY_BYTES))
                    products.append(_fused(build, other, also, build.fmul(one, asked)))
                _store(build, _sums(build, products), _plus(build, results, first * 4))
            return context.get_dummy_value()

        return types.void(Address, Address, Address, Address), generate

    return Steps(scores, _mix(pair, head_bytes, positions=TOGETHER), _mix(pair, head_bytes, positions=1))


def _mix(pair: _Pair, head_bytes: int, *, positions: int) -> Callable[..., None]:
    @intrinsic
    def mix(_typing: Any, total: Any, values: Any, weights: Any, next_weight: Any, next_value: Any, ahead: Any) -> Any:
        def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
            total, values, weights, next_weight, next_value, ahead = given
            first, second = _pair_of_floats(build, total)
            for _ in range(positions):
                _prefetch(build, ahead, head_bytes)
                weight = _everywhere(build, _load(build, weights, _FLOAT))
                value, also = pair(build, values)
                first, second = _fused(build, weight, value, first), _fused(build, weight, also, second)
                values, ahead = build.add(values, next_value), build.add(ahead, next_value)
                weights = build.add(weights, next_weight)
            _store(build, first, total)
            _store(build, second, _plus(build, total, LANES * 4))
            return context.get_dummy_value()

        return types.void(*[Address] * 6), generate

    made: Callable[..., None] = mix
    return made


@intrinsic
def put_rounded(_typing: Any, numbers: Any, added: Any, result: Any) -> Any:
    """Sixteen float32, plus the one at the second address, rounded to bfloat16: all three are addresses."""

    def generate(context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        numbers, added, result = given
        total = build.fadd(_load(build, numbers, _FLOATS), _everywhere(build, _load(build, added, _FLOAT)))
        short = _rounded(build, total, _INTS, _SHORTS)
        build.store(short, build.inttoptr(result, ir.PointerType(_SHORTS))).align = 2
        return context.get_dummy_value()

    return types.void(Address, Address, Address), generate


@intrinsic
def float_of_bits(_typing: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(_context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        return build.bitcast(given[0], _FLOAT)

    return types.float32(types.uint32), generate


@intrinsic
def half_of_float(_typing: Any, number: Any) -> Any:
    """The 16 bits of the bfloat16 nearest to a float32, the even one of two."""

    def generate(_context: Any, build: ir.IRBuilder, _signature: Any, given: Any) -> Any:
        return _rounded(build, given[0], _INT, _SHORT)

    return types.uint16(types.float32), generate


@intrinsic
def pointer_of(_typing: Any, address: Any, like: Any) -> Any:
    """A pointer to numbers of the type of the second argument, for `numba.carray`."""

    def generate(context: Any, build: ir.IRBuilder, signature: Any, given: Any) -> Any:
        return build.inttoptr(given[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(Address, like), generate


def _rounded(build: ir.IRBuilder, number: ir.Value, wide: ir.Type, short: ir.Type) -> ir.Value:
    """Of one float32 or of a vector, whose whole numbers are `wide` and `short`."""
    lanes = isinstance(wide, ir.VectorType)
    upper, one, half = (ir.Constant(wide, [each] * LANES if lanes else each) for each in (16, 1, 0x7FFF))
    bits = build.bitcast(number, wide)
    even = build.and_(build.lshr(bits, upper), one)
    return build.trunc(build.lshr(build.add(build.add(bits, half), even), upper), short)


def _pair_of_floats(build: ir.IRBuilder, address: ir.Value) -> tuple[ir.Value, ir.Value]:
    return _load(build, address, _FLOATS), _load(build, _plus(build, address, LANES * 4), _FLOATS)


def _pair_of_halves(build: ir.IRBuilder, address: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The even and the odd ones of 32 numbers in bfloat16, which is the upper half of a float32."""
    both = _load(build, address, _INTS)
    even = build.shl(both, ir.Constant(_INTS, [16] * LANES))
    odd = build.and_(both, ir.Constant(_INTS, [_UPPER] * LANES))
    return build.bitcast(even, _FLOATS), build.bitcast(odd, _FLOATS)


def _load(build: ir.IRBuilder, address: ir.Value, what: ir.Type) -> ir.Value:
    loaded = build.load(build.inttoptr(address, ir.PointerType(what)))
    loaded.align = 4
    return loaded


def _plus(build: ir.IRBuilder, address: ir.Value, count: int) -> ir.Value:
    return build.add(address, ir.Constant(_LONG, count))


def _everywhere(build: ir.IRBuilder, number: ir.Value) -> ir.Value:
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    first = build.insert_element(nothing, number, ir.Constant(_INT, 0))
    return build.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))


def _fused(build: ir.IRBuilder, one: ir.Value, other: ir.Value, added: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return build.call(get_or_insert_function(build.module, kind, f"llvm.fma.v{LANES}f32"), [one, other, added])


def _sums(build: ir.IRBuilder, vectors: Sequence[ir.Value]) -> ir.Value:
    """The sum of each of up to sixteen vectors, in its own lane. Halves of two are added side by side, four times."""
    nothing = ir.Constant(_FLOATS, [0.0] * LANES)
    left = [*vectors, *[nothing] * (LANES - len(vectors))]
    even, odd = (ir.Constant(_INTS, list(range(start, 2 * LANES, 2))) for start in (0, 1))
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=True)
        left = [
            build.fadd(build.shuffle_vector(one, other, even), build.shuffle_vector(one, other, odd))
            for one, other in pairs
        ]
    return left[0]


def _store(build: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    build.store(vector, build.inttoptr(address, ir.PointerType(_FLOATS))).align = 4


def _prefetch(build: ir.IRBuilder, address: ir.Value, size_bytes: int) -> None:
    """Ask for memory before it is needed; an address that is nobody's is passed over by the processor."""
    place = build.inttoptr(address, ir.PointerType(_INT))
    kind = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
    prefetch = get_or_insert_function(build.module, kind, "llvm.prefetch.p0")
    how = [ir.Constant(_INT, flag) for flag in (_READ, _IN_ALL_LEVELS, _DATA)]
    for line in range(0, size_bytes, 64):
        build.call(prefetch, [build.inttoptr(_plus(build, address, line), place.type), *how])

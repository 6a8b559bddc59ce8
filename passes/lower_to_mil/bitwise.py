"""Bitwise ops: logic on bools, arithmetic on integers.

    %y = aten.bitwise_and.Scalar(%x) {other=7}     ->     %y = mil.mod(%x, 8)

Core ML has no bitwise op on integers. A mask known here is a few runs of ones, and a run is a
division and a remainder; both round down, as an arithmetic shift does, so negative numbers are
right too. Two computed integers are laid out as bits along one more axis, put together bit by bit,
and summed up again; their signs go apart, as 2^31 is no int32.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.facts import scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Operand
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import pair, same, wrapped
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value
from anec.passes.lower_to_mil.typing import INT32_MIN, argument, result_type
from anec.rewrite import Rule, rewrite

_LOGIC: dict[str, OpDef] = {"and": mil.logical_and, "or": mil.logical_or, "xor": mil.logical_xor}


def _runs(mask: int) -> list[tuple[int, int]]:
    """The runs of ones in a nonnegative mask, as (first bit, length)."""
    runs, bit = [], 0
    while mask >> bit:
        length = 0
        while mask >> (bit + length) & 1:
            length += 1
        if length:
            runs.append((bit, length))
        bit += max(length, 1)
    return runs


def _masked(x: Value, mask: int) -> Value:
    """The bits of a mask, by runs of ones."""
    if mask < 0:
        return x if mask == -1 else mil.sub(x, _masked(x, ~mask))
    total: Value | None = None
    for bit, length in _runs(mask):
        run = mil.floor_div(x, 1 << bit) if bit else x
        run = mil.mod(run, 1 << length)
        run = mil.mul(run, 1 << bit) if bit else run
        total = run if total is None else mil.add(total, run)
    return mil.mul(x, 0) if total is None else total


def _with_mask(kind: str, x: Value, mask: int) -> Value:
    if kind == "and":
        return _masked(x, mask)
    if mask < 0:
        # x | m = ~(~x & ~m) and x ^ m = ~(x ^ ~m): no sum leaves int32.
        if kind == "xor":
            return mil.sub(-1, _with_mask("xor", x, ~mask))
        return mil.add(x, _masked(mil.sub(-1, x), mask))
    shared = _masked(x, mask)
    if kind == "or":
        return mil.add(mil.sub(x, shared), mask)
    return mil.add(mil.sub(x, mil.mul(shared, 2)), mask)


_BITS = 31
# The same on bits that are 0 or 1.
_ON_BITS: dict[str, OpDef] = {"and": mil.mul, "or": mil.maximum, "xor": mil.not_equal}


def _by_bits(kind: str, left: Operand, right: Operand) -> Value:
    """Two computed int32 tensors, bit by bit: 31 bits along a new last axis, and the sign."""
    x, y = as_value(left), as_value(right)
    powers = mil.pow(2, mil.range_1d(end=_BITS, start=0, step=1))
    bits = (mil.mod(mil.floor_div(mil.expand_dims(v, axes=(v.rank,)), powers), 2) for v in (x, y))
    joined = _ON_BITS[kind](*bits)
    if kind == "xor":
        joined = mil.cast(joined, dtype="int32")
    low = mil.reduce_sum(mil.mul(joined, powers), axes=(-1,), keep_dims=False)
    sign = mil.cast(_LOGIC[kind](mil.less(x, 0), mil.less(y, 0)), dtype="int32")
    return mil.add(low, mil.mul(sign, INT32_MIN))


def _bitwise(kind: str) -> Rule:
    overloads = ("Tensor", "Scalar", "Scalar_Tensor")
    roots = [*(f"bitwise_{kind}.{o}" for o in overloads), *(f"__{kind}__.{o}" for o in overloads[:2])]

    @rewrite(each(*roots), name=f"lower_bitwise_{kind}")
    def lower(op: Op) -> Value:
        type_ = result_type(op)
        left, right = pair(op, type_.dtype)
        if type_.dtype is DType.BOOL:
            return _LOGIC[kind](left, right)
        masks = ((left, scalar_of(argument(op, "other"))), (right, scalar_of(argument(op, "self"))))
        for operand, mask in masks:
            if mask is not None and isinstance(operand, Value) and operand.tensor.shape == type_.shape:
                return wrapped(_with_mask(kind, operand, int(mask)), op)
        return wrapped(_by_bits(kind, left, right), op)

    return lower


@rewrite(each("bitwise_not"))
def bitwise_not(op: Op) -> Value:
    """-1 - x, in two's complement."""
    if result_type(op).dtype is DType.BOOL:
        return mil.logical_not(same(op))
    return wrapped(mil.sub(-1, same(op)), op)


def _shift(name: str, target: OpDef, *roots: str) -> Rule:
    @rewrite(each(*roots), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        """A shift is a product with, or a quotient by, a power of two."""
        dtype = result_type(op).dtype
        left, right = pair(op, dtype)
        if isinstance(right, Literal):
            assert isinstance(right.value, int)
            return wrapped(target(left, 1 << right.value), op)
        return wrapped(target(left, mil.pow(Literal(2), as_value(right))), op)

    return lower


RULES: list[Rule] = [
    *map(_bitwise, _LOGIC),
    bitwise_not,
    _shift(
        "shift_left",
        mil.mul,
        "bitwise_left_shift.Tensor",
        "bitwise_left_shift.Tensor_Scalar",
        "bitwise_left_shift.Scalar_Tensor",
        "__lshift__.Tensor",
        "__lshift__.Scalar",
    ),
    _shift(
        "shift_right",
        mil.floor_div,
        "bitwise_right_shift.Tensor",
        "bitwise_right_shift.Tensor_Scalar",
        "bitwise_right_shift.Scalar_Tensor",
        "__rshift__.Tensor",
        "__rshift__.Scalar",
    ),
]

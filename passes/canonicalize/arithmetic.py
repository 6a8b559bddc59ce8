"""Arithmetic that changes nothing, bounds of bounds, results nobody takes, and fills that are constant.

    %1 = aten.relu.default(%x)
    %y = aten.clamp.default(%1) {max=4}     ->     %y = aten.clamp.default(%x) {min=0.0, max=4.0}

What a type promotion or a broadcast would change stays: 0.0 added to whole numbers makes floats.
"""

from __future__ import annotations

import math

from anec.dialects import aten
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.algebra import second
from anec.passes.canonicalize.identities import forms
from anec.passes.common import Number, only_use, rebuild, tensor, uniform
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x = tensor("x")

# The number that leaves the first operand as it is, and whether the second may be kept instead.
_NEUTRAL: dict[str, tuple[Number, bool]] = {
    "add.Tensor": (0, True),
    "add.Scalar": (0, False),
    "sub.Tensor": (0, False),
    "sub.Scalar": (0, False),
    "mul.Tensor": (1, True),
    "mul.Scalar": (1, False),
    "div.Tensor": (1, False),
    "div.Scalar": (1, False),
    "pow.Tensor_Scalar": (1, False),
    "pow.Tensor_Tensor": (1, False),
}


@rewrite(any_of(*(aten.resolve(name)(var("first"), rest) for name in _NEUTRAL)))
def drop_neutral(op: Op) -> Value:
    """Adding 0, multiplying by 1 and the like, where dtype and shape stay.

    %y = aten.mul.Tensor(%x, 1)     ->     %x
    """
    number, either = _NEUTRAL[op.name.partition(".")[2]]
    first, last = op.operand("self"), second(op, "exponent" if op.defn.root == "pow" else "other")
    pairs = [(first, last)]
    if either and ("alpha" not in op.defn.by_name or op.attr("alpha") == 1):
        pairs.append((last, first))
    for kept, other in pairs:
        found = uniform(other)
        if isinstance(kept, Value) and kept.type == op.result.type and found == number and found is not None:
            return kept
    return reject("no operand is neutral, or the type changes")


@rewrite(
    any_of(
        aten.neg.default(aten.neg.default(x)),
        aten.bitwise_not.default(aten.bitwise_not.default(x)),
        aten.logical_not.default(aten.logical_not.default(x)),
    )
)
def drop_double_negation(op: Op, x: Value) -> Value:
    """Twice negated is the operand; logical_not of what is no bool makes it one.

    %1 = aten.neg.default(%x)
    %y = aten.neg.default(%1)     ->     %x
    """
    return x if x.type == op.result.type else reject("the operand is not bool")


_BOUNDS = "relu.default relu6.default clamp.default clamp_min.default clamp_max.default hardtanh.default"
_NONNEGATIVE = (
    "relu.default relu6.default abs.default sigmoid.default exp.default sqrt.default _softmax.default softmax.int"
)


def _interval(op: Op) -> tuple[float, float]:
    """The interval an op bounds its operand to."""
    if op.defn.root in ("relu", "relu6"):
        return 0.0, math.inf if op.defn.root == "relu" else 6.0
    names = ("min_val", "max_val") if op.defn.root == "hardtanh" else ("min", "max")
    low, high = (op.attr(name) if name in op.defn.by_name else None for name in names)
    return _end(low, -math.inf), _end(high, math.inf)


def _end(value: Attr, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, (int, float)) or math.isnan(value):
        reject("a bound is not a number")
    return float(value)


@rewrite(any_of(*(outer for inner in forms(_BOUNDS, x) for outer in forms(_BOUNDS, inner))))
def merge_clamps(op: Op, x: Value) -> Value:
    """Bounding twice is bounding once.

    %1 = aten.relu.default(%x)
    %y = aten.clamp_max.default(%1) {max=4.0}     ->     %y = aten.clamp.default(%x) {min=0.0, max=4.0}
    """
    middle = op.value("self")
    assert middle.op is not None
    if not x.tensor.dtype.is_float or not x.type == middle.type == op.result.type:
        reject("the dtype changes")
    if not only_use(middle):
        reject("the inner result has other users")
    first, last = _interval(middle.op), _interval(op)
    if first[0] > first[1] or last[0] > last[1]:
        reject("an interval is empty")
    low, high = (min(max(end, last[0]), last[1]) for end in first)
    if (low, high) == (0.0, math.inf):
        return aten.relu.default(x)
    if not low < high:
        reject("what is left is a single number")
    bounds = {"min": low if low > -math.inf else None, "max": high if high < math.inf else None}
    return aten.clamp.default(x, **{name: bound for name, bound in bounds.items() if bound is not None})


@rewrite(any_of(*(aten.relu.default(inner) for inner in forms(_NONNEGATIVE, x))))
def drop_relu(op: Op) -> Value:
    """A relu of what is never negative.

    %1 = aten.sigmoid.default(%x)
    %y = aten.relu.default(%1)     ->     %y = aten.sigmoid.default(%x)
    """
    return op.value("self")


_FILLS: dict[str, Number | None] = {
    "zeros_like.default": 0,
    "new_zeros.default": 0,
    "ones_like.default": 1,
    "new_ones.default": 1,
    "full_like.default": None,
    "new_full.default": None,
}


@rewrite(any_of(*(aten.resolve(name)(x, rest) for name in _FILLS)))
def fill_alone(op: Op) -> Value:
    """A fill that takes only the shape of its operand is constant.

    %x: f32[2,3]
    %y = aten.zeros_like.default(%x)     ->     %y = aten.full.default() {size=[2, 3], fill_value=0, dtype=f32}
    """
    type_ = op.result.tensor
    if not type_.is_static:
        reject("the shape is symbolic")
    number = _FILLS[op.name.partition(".")[2]]
    value = op.attr("fill_value") if number is None else number
    return aten.full.default(size=type_.static_shape, fill_value=value, dtype=type_.dtype)


def _extremes() -> list[Pattern]:
    return forms("max.dim min.dim", x)


@rewrite(any_of(*_extremes()))
def drop_indices(op: Op, x: Value) -> list[Value]:
    """The largest values without where they are.

    %y, %1 = aten.max.dim(%x) {dim=1}     ->     %y = aten.amax.default(%x) {dim=[1]}
    """
    indices = op.results[1]
    if indices.uses or indices.is_output:
        reject("the indices are used")
    extreme = aten.amax.default if op.defn.root == "max" else aten.amin.default
    return [extreme(x, (op.attr("dim"),), keepdim=op.attr("keepdim"))]


@rewrite(any_of(*forms(" ".join(f"{name}.Scalar" for name in "eq ne lt le gt ge".split()), x)))
def wrap_compared(op: Op, x: Value) -> Value:
    """What an integer tensor is compared with takes its dtype, in torch; wider dtypes later on would not tell.

    %x: u8[2,8]
    %y = aten.eq.Scalar(%x) {other=-1}     ->     %y = aten.eq.Scalar(%x) {other=255}
    """
    other = op.attr("other")
    if not x.tensor.dtype.is_integer or isinstance(other, bool) or not isinstance(other, int):
        reject("no integers are compared")
    wrapped = x.tensor.dtype.wrapped(other)
    return rebuild(op, other=wrapped) if wrapped != other else reject("the number is in range")


RULES: list[Rule] = [
    drop_neutral,
    wrap_compared,
    drop_double_negation,
    drop_relu,
    merge_clamps,
    fill_alone,
    drop_indices,
]

"""Comparisons, logic, and choices by a condition.

    %y = aten.masked_fill.Scalar(%x, %mask) {value=-1e9}     %mask: bool[2,8]
        ->
    %y = mil.select(%mask, -1e9, %x)

MIL compares numbers only: bools are compared by logic. What two tensors are compared in is torch's
promoted dtype, for the result (bool) does not tell it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Operand
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import pair
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import BOOL_CARRIER, as_value, choose, filled_like, flat
from anec.passes.lower_to_mil.typing import argument, cast, dtype_of, promoted, result_type, static, value
from anec.rewrite import Rule, reject, rewrite

_Logic = Callable[[Operand, Operand], Value]

# op: its aliases, MIL's op, and the same on bools.
_COMPARISONS: dict[str, tuple[str, OpDef, _Logic]] = {
    "eq": ("", mil.equal, lambda a, b: mil.logical_not(mil.logical_xor(a, b))),
    "ne": ("not_equal", mil.not_equal, lambda a, b: mil.logical_xor(a, b)),
    "lt": ("less", mil.less, lambda a, b: mil.logical_and(_not(a), b)),
    "le": ("less_equal", mil.less_equal, lambda a, b: mil.logical_or(_not(a), b)),
    "gt": ("greater", mil.greater, lambda a, b: mil.logical_and(a, _not(b))),
    "ge": ("greater_equal", mil.greater_equal, lambda a, b: mil.logical_or(a, _not(b))),
}


def _not(operand: Operand) -> Operand:
    return Literal(not operand.value) if isinstance(operand, Literal) else mil.logical_not(operand)


def _comparison(name: str, alias: str, target: OpDef, logic: _Logic) -> Rule:
    roots = [f"{packet}.{overload}" for packet in (name, alias) if packet for overload in ("Tensor", "Scalar")]

    @rewrite(each(*roots), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        left, right = argument(op, "self"), argument(op, "other")
        if _is_whole(right) and not dtype_is_float(left):
            right = Literal(int(right.value))  # type: ignore[union-attr, arg-type]  # _is_whole says so
        dtype = promoted(left, right)
        left, right = cast(left, dtype), cast(right, dtype)
        if dtype is not DType.BOOL:
            return target(left, right)
        if isinstance(right, Literal) and name in ("eq", "ne"):
            return as_value(left) if right.value == (name == "eq") else mil.logical_not(left)
        return logic(left, right)

    return lower


def dtype_is_float(operand: Operand) -> bool:
    """True for a tensor of floats."""
    dtype = dtype_of(operand)
    return dtype is not None and dtype.is_float


def _is_whole(operand: Operand) -> bool:
    """A float number that an integer tensor can be compared with as an integer."""
    return isinstance(operand, Literal) and isinstance(operand.value, float) and operand.value.is_integer()


_LOGIC = {"logical_and": mil.logical_and, "logical_or": mil.logical_or, "logical_xor": mil.logical_xor}


def _logical(name: str, target: OpDef) -> Rule:
    @rewrite(each(name), name=f"lower_{name}")
    def lower(op: Op) -> Value:
        return target(*pair(op, DType.BOOL))

    return lower


@rewrite(each("logical_not"))
def logical_not(op: Op) -> Value:
    """Of a number: is it 0?"""
    x = as_value(op.operand("self"))
    if dtype_of(x) is DType.BOOL:
        return mil.logical_not(x)
    x = as_value(cast(x, promoted(x)))
    return mil.equal(x, 0.0 if x.tensor.dtype.is_float else 0)


@rewrite(each("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar"))
def where(op: Op) -> Value:
    """One select; the number of elements of the condition may decide the shape."""
    return choose(op.operand("condition"), argument(op, "self"), argument(op, "other"), result_type(op))


@rewrite(each("masked_fill.Scalar", "masked_fill.Tensor"))
def masked_fill(op: Op) -> Value:
    """One select, whatever the mask is broadcast over."""
    return choose(op.operand("mask"), argument(op, "value"), op.operand("self"), result_type(op))


def _on_float(build: Callable[[Value], Value], of_integers: bool) -> Callable[[Op], Value]:
    def lower(op: Op) -> Value:
        x = as_value(op.operand("self"))
        dtype = promoted(x)
        if not dtype.is_float:
            return filled_like(x, of_integers, DType.BOOL)
        return build(value(x, dtype))

    return lower


# op: what it asks of a float, and its answer for every integer.
_CLASSES: dict[str, tuple[Callable[[Value], Value], bool]] = {
    "isnan": (lambda x: mil.not_equal(x, x), False),
    "isinf": (lambda x: mil.equal(mil.abs(x), math.inf), False),
    "isposinf": (lambda x: mil.equal(x, math.inf), False),
    "isneginf": (lambda x: mil.equal(x, -math.inf), False),
    "isfinite": (lambda x: mil.less(mil.abs(x), math.inf), True),
}


@rewrite(each("isin.Tensor_Tensor", "isin.Tensor_Scalar", "isin.Scalar_Tensor"))
def isin(op: Op) -> Value:
    """Compare each element with each candidate, and ask whether any was equal."""
    elements = argument(op, "elements" if "elements" in op.defn.by_name else "element")
    name = "test_elements" if "test_elements" in op.defn.by_name else "test_element"
    candidates = argument(op, name)
    dtype = promoted(elements, candidates)
    dtype = BOOL_CARRIER if dtype is DType.BOOL else dtype
    left, right = cast(elements, dtype), cast(candidates, dtype)
    invert = bool(op.attr("invert"))
    if isinstance(right, Literal):
        return (mil.not_equal if invert else mil.equal)(left, right)
    if 0 in static(as_value(right).tensor):
        reject("there are no candidates")
    if isinstance(left, Value):
        left = mil.expand_dims(left, axes=(left.rank,))
    equal = mil.cast(mil.equal(left, flat(as_value(right))), dtype="fp32")
    most = mil.reduce_max(equal, axes=(-1,))
    return mil.equal(most, 0.0) if invert else mil.cast(most, dtype="bool")


def _table() -> list[Rule]:
    found = [_comparison(name, *row) for name, row in _COMPARISONS.items()]
    found += [_logical(name, target) for name, target in _LOGIC.items()]
    for name, (build, of_integers) in _CLASSES.items():
        found.append(rewrite(each(name), name=f"lower_{name}")(_on_float(build, of_integers)))
    return found


RULES: list[Rule] = [*_table(), logical_not, where, masked_fill, isin]

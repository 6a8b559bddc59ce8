"""Elementwise ops that compute nothing, and chains of them with constants.

    %1 = mil.mul(%x, 2.0)
    %2 = mil.mul(%1, 3.0)     ->     %y = mil.mul(%x, 6.0)
    %y = mil.add(%2, 0.0)

Numbers are joined only while float16 holds the result as well as its parts.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attr_types import HALF_MAX
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Operand
from anec.ir.types import DType
from anec.passes.common import Number, broadcast, dims, known, only_use, scalar, tensor, uniform, varying
from anec.rewrite import Rule, any_of, reject, rewrite, var

x, a, b = tensor("x"), var("a"), var("b")
inner = varying("x")

# The number that leaves the other operand as it is: as the second operand, and as the first.
_NEUTRAL: dict[str, tuple[Number | None, Number | None]] = {
    "add": (0, 0),
    "sub": (0, None),
    "mul": (1, 1),
    "real_div": (1, None),
    "floor_div": (1, None),
    "pow": (1, None),
    "logical_and": (True, True),
    "logical_or": (False, False),
    "logical_xor": (False, False),
}
_HALF = (2.0**-14, HALF_MAX)
_INT32 = 2**31


@rewrite(mil.identity(x))
def drop_identity(x: Value) -> Value:
    """An identity is its operand.

    %y = mil.identity(%x)     ->     %x
    """
    return x


@rewrite(any_of(*(mil.resolve(name)(a, b) for name in _NEUTRAL)))
def drop_neutral(op: Op, a: Operand, b: Operand) -> Value:
    """Adding 0, multiplying by 1 and the like.

    %y = mil.add(%x, 0.0)     ->     %x
    """
    second, first = _NEUTRAL[op.defn.root]
    for kept, other, number in ((a, b, second), (b, a, first)):
        if not isinstance(kept, Value) or number is None or kept.type != op.result.type:
            continue
        if op.defn.root == "floor_div" and kept.tensor.dtype.is_float:
            continue
        found = uniform(other)
        if found is not None and found == number and isinstance(found, bool) == isinstance(number, bool):
            return kept
    return reject("no operand is neutral")


@rewrite(mil.logical_not(mil.logical_not(x)))
def drop_double_not(op: Op, x: Value) -> Value:
    """Twice not is nothing.

    %x: bool[2,8]
    %1 = mil.logical_not(%x)
    %y = mil.logical_not(%1)     ->     %x
    """
    return x if x.type == op.result.type else reject("the operand is not bool")


@rewrite(any_of(*(outer(step(inner, a), b) for outer in (mil.mul, mil.real_div) for step in (mil.mul, mil.real_div))))
def merge_scales(op: Op, x: Value, a: Operand, b: Operand) -> Value:
    """Two constant factors become one.

    %1 = mil.mul(%x, 2.0)
    %y = mil.real_div(%1, 4.0)     ->     %y = mil.mul(%x, 0.5)
    """
    step = _step(op, x, a, b)
    divides, divided = op.name == "mil.real_div", step.name == "mil.real_div"
    if (divides or divided) and not x.tensor.dtype.is_float:
        reject("a division of whole numbers rounds")
    first, second = scalar(a), scalar(b)
    if first is not None and second is not None:
        if (divided and first == 0) or (divides and second == 0):
            reject("a division by zero")
        factor = (1 / first if divided else first) * (1 / second if divides else second)
        _check_number(factor, x.tensor.dtype, (first, second))
        return mil.mul(x, factor)
    if divided and divides:
        return mil.real_div(x, _make(mil.mul, a, b))
    if divided:
        return mil.mul(x, _make(mil.real_div, b, a))
    return mil.mul(x, _make(mil.real_div if divides else mil.mul, a, b))


_ADDS = (mil.add(inner, a), mil.sub(inner, a), mil.sub(a, inner))


@rewrite(any_of(*(form for step in _ADDS for form in (mil.add(step, b), mil.sub(step, b), mil.sub(b, step)))))
def merge_offsets(op: Op, x: Value, a: Operand, b: Operand) -> Value:
    """Two constant offsets become one, whichever way round they are subtracted.

    %1 = mil.sub(3.0, %x)
    %y = mil.sub(1.0, %1)     ->     %y = mil.add(%x, -2.0)
    """
    step = _step(op, x, a, b)
    # The inner op is s1 x + p1 a, the outer one s2 (..) + p2 b.
    s1, p1 = _signs(step, x)
    s2, p2 = _signs(op, step.result)
    sign, a_sign, b_sign = s1 * s2, s2 * p1, p2
    first, second = scalar(a), scalar(b)
    if first is not None and second is not None:
        offset = a_sign * first + b_sign * second
        _check_number(offset, x.tensor.dtype, (first, second))
        return mil.add(x, offset) if sign > 0 else mil.sub(offset, x)
    if a_sign > 0 and b_sign > 0:
        total = _make(mil.add, a, b)
    elif a_sign > 0:
        total = _make(mil.sub, a, b)
    elif b_sign > 0:
        total = _make(mil.sub, b, a)
    else:
        return mil.sub(x, _make(mil.add, a, b))
    return mil.add(x, total) if sign > 0 else mil.sub(total, x)


def _signs(op: Op, varied: Value) -> tuple[int, int]:
    """The signs an add or sub gives its varying operand and its constant."""
    if op.name == "mil.add":
        return 1, 1
    return (1, -1) if op.operand("x") is varied else (-1, 1)


def _step(op: Op, x: Value, a: Operand, b: Operand) -> Op:
    """The inner op of a chain, when the chain may be joined.

    Raises:
        Reject: a constant is not one, changes the shape, or the inner result has other users.
    """
    if not known(a) or not known(b):
        reject("the other operand is not constant")
    step = next(value.op for value in op.inputs if value.op is not None and any(v is x for v in value.op.inputs))
    if not only_use(step.result):
        reject("the inner result has other users")
    if x.type != op.result.type:
        reject("a constant changes the shape")
    if scalar(a) is None or scalar(b) is None:
        merged, sizes = broadcast(dims(a), dims(b)), (_size(dims(a)), _size(dims(b)))
        if merged is None or _size(merged) > max(sizes):
            reject("the joined constant would be larger than either")
        if not isinstance(a, Value) and not isinstance(b, Value):
            reject("two lists of literals")
    return step


def _size(shape: tuple[object, ...]) -> int:
    return math.prod(dim for dim in shape if isinstance(dim, int))


def _make(defn: OpDef, left: Operand, right: Operand) -> Value:
    return defn(left, right)


def _check_number(number: Number, dtype: DType, parts: tuple[Number, Number]) -> None:
    """Refuse a joined number that leaves the range float16 computes in, or int32."""
    if not dtype.is_float:
        if not -_INT32 <= number < _INT32:
            reject(f"{number} does not fit int32")
        return
    low, high = _HALF
    if not math.isfinite(number):
        reject("the joined number is not finite")
    if number and not low <= abs(number) <= high and all(not p or low <= abs(p) <= high for p in parts):
        reject(f"{number:g} is beyond what float16 holds, its parts are not")


@rewrite(mil.select(var("cond"), a, b))
def choose_branch(op: Op, cond: Operand, a: Operand, b: Operand) -> Value:
    """A selection whose condition is the same everywhere, or between equals.

    %y = mil.select(true, %a, %b)     ->     %a
    """
    found = uniform(cond)
    if found is None and a is not b:
        reject("the condition is not constant")
    chosen = a if found or a is b else b
    if not isinstance(chosen, Value) or chosen.type != op.result.type:
        reject("the branch has another type than the result")
    return chosen


RULES: list[Rule] = [drop_identity, drop_neutral, drop_double_not, merge_scales, merge_offsets, choose_branch]

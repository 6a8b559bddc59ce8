"""Comparisons and logic between floats as arithmetic with 0 and 1.

    %x: f32[1,8,1,32], %z: f32[1,8,1,32]
    %1 = mil.greater(%x, 0.5)
    %2 = mil.less(%z, 2.0)
    %3 = mil.logical_and(%1, %2)
    %y = mil.cast(%3) {dtype="fp32"}
        ->
    %1 = mil.sub(%x, 0.5)
    %2 = mil.sign(%1)
    %3 = mil.relu(%2)
    %4 = mil.sub(2.0, %z)
    %5 = mil.sign(%4)
    %6 = mil.relu(%5)
    %y = mil.mul(%3, %6)

bools stay on the CPU, and with them the ops that make and use them (rules A01i, B21 and B31). An island of bools is
rewritten as a whole or not at all: everything that makes one has to be a comparison of floats, everything that uses one
a cast to floats or a choice between finite numbers, where 0 times the number not chosen is 0.

Left alone are comparisons with NaN in mind, a value with itself (rule B30), and float32 between float16: those casts
are there for accuracy.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.ane_legalize.finite import is_finite
from anec.passes.common import known, scalar, tensor, uniform, varying
from anec.passes.lower_to_mil.typing import MIL_NAMES
from anec.pipeline.base import Context
from anec.rewrite import Rule, any_of, constant, reject, rest, rewrite, var

# Ops of one island.
_MOST = 64
_COMPARISONS = frozenset(f"mil.{name}" for name in "greater greater_equal less less_equal equal not_equal".split())
_LOGIC = frozenset(f"mil.logical_{name}" for name in "and or xor not".split())
_MOVES = frozenset(
    f"mil.{name}" for name in "reshape transpose expand_dims squeeze slice_by_index slice_by_size".split()
)
# The least float32; to-fp16 makes -40000 of it, where masks end.
_LEAST = -DType.F32.largest

condition, a, b = tensor("condition"), var("a"), var("b")


@rewrite(mil.cast(condition, rest))
def numbers_of_condition(op: Op, ctx: Context, condition: Value) -> Value:
    """A condition as 0 and 1.

    %1 = mil.greater_equal(%x, 0.5)
    %y = mil.cast(%1) {dtype="fp32"}     ->     %1 = mil.sub(0.5, %x)
                                                %2 = mil.sign(%1)
                                                %3 = mil.relu(%2)
                                                %y = mil.sub(1.0, %3)
    """
    dtype = op.result.tensor.dtype
    if not dtype.is_float:
        reject(f"it becomes {dtype}")
    _check_island(condition, ctx)
    return _numbers(condition, dtype)


@rewrite(mil.select(condition, a, b))
def choice(op: Op, ctx: Context, condition: Value, a: Operand, b: Operand) -> Value:
    """A choice between finite numbers: each times 1 where it is chosen, and times 0 elsewhere.

    %z: f32[2,8]
    %1 = mil.less(%x, 0.5)
    %2 = mil.tanh(%z)
    %y = mil.select(%1, %2, 0.0)
        ->
    %1 = mil.tanh(%z)
    %2 = mil.sub(0.5, %x)
    %3 = mil.sign(%2)
    %4 = mil.relu(%3)
    %y = mil.mul(%1, %4)
    """
    dtype = op.result.tensor.dtype
    if not dtype.is_float:
        reject(f"it chooses between {dtype}")
    _check_island(condition, ctx)
    truth = _numbers(condition, dtype)
    chosen = [mil.mul(a, truth)] if uniform(a) != 0 else []
    if uniform(b) != 0:
        chosen.append(mil.mul(b, mil.sub(1.0, truth)))
    if not chosen:
        reject("it chooses between 0 and 0")
    found = chosen[0] if len(chosen) == 1 else mil.add(*chosen)
    return found if found.type == op.result.type else reject("the condition changes the shape")


def _check_island(condition: Value, ctx: Context) -> None:
    """Decline unless every op that makes or uses a bool of this island has a form with numbers.

    Raises:
        Reject: naming the op that has none.
    """
    if condition.tensor.dtype is not DType.BOOL or known(condition):
        reject(f"%{condition.name} is no computed condition")
    seen: set[Value] = set()
    stack = [condition]
    while stack:
        at = stack.pop()
        if at in seen or known(at):
            continue
        seen.add(at)
        if len(seen) > _MOST:
            reject(f"more than {_MOST} conditions depend on each other")
        if at.op is None or at.is_output or not _is_made(at.op, ctx):
            reject(f"%{at.name} is made by {at.op.name if at.op else 'the caller'}, which has no form with numbers")
        for user in at.users:
            if not _is_used(user, at, ctx):
                reject(f"{user.name} has no form with numbers")
        near = [*at.op.inputs, *(result for user in at.users for result in user.results)]
        stack += [value for value in near if value.tensor.dtype is DType.BOOL]


def _is_made(op: Op, ctx: Context) -> bool:
    """Whether what makes a bool is arithmetic on floats, or works on bools as it does on numbers."""
    if op.name in _LOGIC or op.name in _MOVES:
        return True
    if op.name == "mil.cast":
        return op.value("x").tensor.dtype.is_float
    if op.name not in _COMPARISONS:
        return False
    left, right = op.operand("x"), op.operand("y")
    if left is right or not all(isinstance(o, Literal) or o.tensor.dtype.is_float for o in (left, right) if o):
        return False
    # The difference of two equal infinities is no number.
    return _limit(op) is not None or any(is_finite(operand, ctx.facts) for operand in (left, right))


def _is_used(op: Op, condition: Value, ctx: Context) -> bool:
    """Whether what uses a bool can use 0 and 1 instead."""
    if op.name in _LOGIC or op.name in _MOVES:
        return True
    if op.name == "mil.cast":
        return op.result.tensor.dtype.is_float
    return (
        op.name == "mil.select"
        and op.operand("cond") is condition
        and op.result.tensor.dtype.is_float
        and all(is_finite(op.operand(name), ctx.facts) for name in ("a", "b"))
    )


def _limit(op: Op) -> Value | None:
    """What ``x > -inf`` asks about: x of (x > -inf) and (-inf < x)."""
    sides = ("x", "y") if op.name == "mil.greater" else ("y", "x") if op.name == "mil.less" else None
    if sides is None or scalar(op.operand(sides[1])) != -math.inf:
        return None
    found = op.operand(sides[0])
    return found if isinstance(found, Value) else None


def _numbers(condition: Value, dtype: DType) -> Value:
    """A condition as 0 and 1 of ``dtype``; equal ones that several ask for are joined by ``cse``."""
    op = condition.op
    if op is None or known(condition):
        return mil.cast(condition, dtype=MIL_NAMES[dtype])
    if op.name == "mil.cast":
        return mil.abs(mil.sign(_as(op.value("x"), dtype)))
    if op.name in _COMPARISONS:
        return _as(_compared(op), dtype)
    if op.name in _MOVES:
        arguments = {name: operand for name, operand in op.arguments().items() if operand is not None}
        moved = op.defn.build((), {**arguments, **op.attrs, "x": _numbers(op.value("x"), dtype)})
        return moved.result
    left = _numbers(op.value("x"), dtype)
    if op.name == "mil.logical_not":
        return mil.sub(1.0, left)
    right = _numbers(op.value("y"), dtype)
    if op.name == "mil.logical_and":
        return mil.mul(left, right)
    return mil.maximum(left, right) if op.name == "mil.logical_or" else mil.abs(mil.sub(left, right))


def _as(x: Value, dtype: DType) -> Value:
    return x if x.tensor.dtype is dtype else mil.cast(x, dtype=MIL_NAMES[dtype])


def _compared(op: Op) -> Value:
    """A comparison as 0 and 1: what the sign of the difference says."""
    x, y = op.operand("x"), op.operand("y")
    limit = _limit(op)
    if limit is not None:
        # Only minus infinity is below the least number.
        return mil.sub(1.0, _positive(Literal(_LEAST), limit))
    if op.name == "mil.greater":
        return _positive(x, y)
    if op.name == "mil.less":
        return _positive(y, x)
    if op.name == "mil.greater_equal":
        return mil.sub(1.0, _positive(y, x))
    if op.name == "mil.less_equal":
        return mil.sub(1.0, _positive(x, y))
    apart = mil.abs(mil.sign(mil.sub(x, y)))
    return apart if op.name == "mil.not_equal" else mil.sub(1.0, apart)


def _positive(x: Operand, y: Operand) -> Value:
    """1 where ``x`` is larger than ``y``, 0 elsewhere."""
    return mil.relu(mil.sign(mil.sub(x, y)))


_scaled = var("scaled")
_curve = mil.softplus(_scaled)
_curves = any_of(_curve, mil.mul(_curve, constant("factor")))


@rewrite(mil.select(mil.greater(_scaled, constant("threshold")), varying("x"), _curves))
def smooth_softplus(op: Op, scaled: Value, x: Value, factor: Operand) -> Value:
    """A softplus that is linear beyond a threshold, which keeps its exponential from overflowing, never overflows.

    %1 = mil.greater(%x, 20.0)
    %2 = mil.softplus(%x)
    %y = mil.select(%1, %x, %2)     ->     %1 = mil.abs(%x)
                                           %2 = mil.mul(%1, -1.0)
                                           %3 = mil.softplus(%2)
                                           %4 = mil.relu(%x)
                                           %y = mil.add(%4, %3)

    They differ by log(1 + exp(-threshold)), 2e-9 at torch's 20.
    """
    condition = op.value("cond").op
    assert condition is not None
    least, slope = scalar(condition.operand("y")), 1.0 if factor is None else scalar(factor)
    if least is None or least <= 0 or math.log1p(math.exp(-least)) > 1e-7 * least:
        reject("the threshold is not known, or too near")
    if slope is None or slope <= 0:
        reject("the slope is not known, or falls")
    if not (x is scaled and slope == 1) and not _is_product(scaled, x, slope):
        reject("the branches are of different slopes")
    bend = mil.softplus(mil.mul(mil.abs(scaled), -1.0))
    return mil.add(mil.relu(x), bend if slope == 1 else mil.mul(bend, slope))


def _is_product(scaled: Value, x: Value, slope: float) -> bool:
    """Whether ``scaled`` is ``x`` divided by ``slope``."""
    op = scaled.op
    if op is None or op.name != "mil.mul" or x not in op.operands:
        return False
    factor = scalar(op.operand("y") if op.operand("x") is x else op.operand("x"))
    return factor is not None and abs(factor * slope - 1) < 1e-6


RULES: list[Rule] = [smooth_softplus, numbers_of_condition, choice]

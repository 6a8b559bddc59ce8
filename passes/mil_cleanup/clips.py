"""Ops that bound their operand from below or above: relu, relu6, clip, maximum and minimum.

    %1 = mil.relu(%x)
    %y = mil.minimum(%1, 20.0)     ->     %y = mil.clip(%x) {alpha=0.0, beta=20.0}

Each bounds its operand to an interval, and intervals compose.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.common import only_use, scalar, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x = tensor("x")
Interval = tuple[float, float]


def _bounds(inner: Pattern, bound: str) -> list[Pattern]:
    """Every op that bounds ``inner``; the bound of maximum and minimum is captured as ``bound``."""
    return [
        mil.relu(inner),
        mil.relu6(inner),
        mil.clip(inner, rest),
        mil.maximum(inner, var(bound)),
        mil.minimum(inner, var(bound)),
    ]


def interval(op: Op, bounded: Value) -> Interval:
    """The interval an op bounds its operand to.

    Raises:
        Reject: a bound is not a number.
    """
    if op.name == "mil.relu":
        return 0.0, math.inf
    if op.name == "mil.relu6":
        return 0.0, 6.0
    if op.name == "mil.clip":
        low, high = op.attr("alpha"), op.attr("beta")
        assert isinstance(low, (int, float))
        assert isinstance(high, (int, float))
        return float(low), float(high)
    number = scalar(op.operand("y") if op.operand("x") is bounded else op.operand("x"))
    if number is None or math.isnan(number):
        reject("the bound is not a number")
    return (float(number), math.inf) if op.name == "mil.maximum" else (-math.inf, float(number))


def form(low: float, high: float) -> str:
    """The op that says an interval best."""
    named = {(-math.inf, math.inf): "identity", (0.0, math.inf): "relu", (0.0, 6.0): "relu6"}
    if (low, high) in named:
        return named[low, high]
    if high == math.inf:
        return "maximum"
    return "minimum" if low == -math.inf else "clip"


def bound(x: Value, low: float, high: float) -> Value:
    """``x`` bounded to the interval by one op.

    Raises:
        Reject: no op does.
    """
    best = form(low, high)
    if best == "identity":
        return x
    if best == "maximum":
        return mil.maximum(x, low)
    if best == "minimum":
        return mil.minimum(x, high)
    if best != "clip":
        return mil.resolve(best)(x)
    if not low < high:
        reject("the interval is a single number, which clip does not take from iOS17 on")
    return mil.clip(x, alpha=low, beta=high)


@rewrite(any_of(*_bounds(x, "bound")))
def tidy_bound(op: Op, x: Value) -> Value:
    """The op that says an interval best.

    %y = mil.maximum(%x, 0.0)     ->     %y = mil.relu(%x)
    """
    if not x.tensor.dtype.is_float or x.type != op.result.type:
        reject("whole numbers have no relu")
    low, high = interval(op, x)
    if form(low, high) == op.defn.root:
        reject("there is no better form")
    return bound(x, low, high)


@rewrite(any_of(*(outer for inner in _bounds(x, "first") for outer in _bounds(inner.named("bounded"), "second"))))
def merge_bounds(op: Op, x: Value, bounded: Value) -> Value:
    """Bounding twice is bounding once.

    %1 = mil.relu(%x)
    %y = mil.clip(%1) {alpha=-1.0, beta=4.0}     ->     %y = mil.clip(%x) {alpha=0.0, beta=4.0}
    """
    assert bounded.op is not None
    if not x.tensor.dtype.is_float or not x.type == bounded.type == op.result.type:
        reject("whole numbers have no clip")
    if not only_use(bounded):
        reject("the inner result has other users")
    first, second = interval(bounded.op, x), interval(op, bounded)
    if first[0] > first[1] or second[0] > second[1]:
        reject("an interval is empty")
    low, high = (min(max(end, second[0]), second[1]) for end in first)
    return bound(x, low, high)


_NONNEGATIVE = ("relu", "relu6", "abs", "square", "sqrt", "exp", "exp2", "sigmoid", "softmax", "softplus")


@rewrite(mil.relu(any_of(*(mil.resolve(name)(x, rest) for name in _NONNEGATIVE))))
def drop_relu(op: Op) -> Value:
    """A relu of what is never negative.

    %1 = mil.sigmoid(%x)
    %y = mil.relu(%1)     ->     %y = mil.sigmoid(%x)
    """
    return op.value("x")


RULES: list[Rule] = [drop_relu, merge_bounds, tidy_bound]

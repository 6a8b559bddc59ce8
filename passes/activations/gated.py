"""Activations that are a value times a curve of it: GELU, SiLU, Mish, hard swish, softsign.

    %1 = aten.div.Tensor(%x, 1.4142135623730951)
    %2 = aten.erf.default(%1)
    %3 = aten.add.Tensor(%2, 1.0)
    %4 = aten.mul.Tensor(%x, 0.5)
    %y = aten.mul.Tensor(%4, %3)                     ->     %y = nn.gelu(%x) {...}

    %1 = aten.sigmoid.default(%x)
    %y = aten.mul.Tensor(%x, %1)               ->     %y = nn.silu(%x)

    %1 = aten.add.Tensor(%x, 3)
    %2 = aten.clamp.default(%1) {min=0, max=6}
    %3 = aten.mul.Tensor(%x, %2)
    %y = aten.div.Tensor(%3, 6)                ->     %y = nn.hard_swish(%x)

Numbers may stand anywhere in the product; each is compared within 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.passes.activations.pieces import bounded
from anec.passes.algebra import Factor, close, line, lines, maker, polynomial, product, same
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_PRODUCTS = any_of(aten.mul.Tensor(rest), aten.div.Tensor(rest))
_TANH_SLOPE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715
# How many values in front of a tanh are tried for the x of its argument.
_CANDIDATES = 16


def _curves(op: Op) -> Iterator[Factor]:
    """The factors that may be the curve."""
    if not op.result.tensor.dtype.is_float or op.is_constant:
        reject("it is no product of floats that vary")
    yield from (factor for factor in product(op.result).factors if factor.exponent in (1.0, -1.0))


def _beside(op: Op, x: Value, curve: Factor) -> float | None:
    """The number c where ``op`` is c * x * curve; None when it is not."""
    parts = product(op.result, lambda value: value is curve.value or same(value, x))
    others = parts.without(next((f for f in parts.factors if f == curve), curve))
    if len(parts.factors) != 2 or len(others) != 1 or x.type != op.result.type:
        return None
    return parts.coefficient if others[0].exponent == 1 and same(others[0].value, x) else None


def _named(value: Value, *names: str) -> Op | None:
    """The op that computes ``value`` if it is one of ``names``."""
    op = maker(value)
    return op if op is not None and op.name in names else None


@rewrite(_PRODUCTS)
def gelu(op: Op) -> Value:
    """By erf, x / 2 * (1 + erf(x / sqrt(2))), or by tanh(sqrt(2 / pi) * (x + 0.044715 x^3)).

    %1 = aten.mul.Tensor(%x, 0.7071067811865476)
    %2 = aten.erf.default(%1)
    %3 = aten.mul.Tensor(%2, 0.5)
    %4 = aten.add.Tensor(%3, 0.5)
    %y = aten.mul.Tensor(%x, %4)                     ->     %y = nn.gelu(%x) {approximate="none"}
    """
    for factor in _curves(op):
        read = line(factor.value)
        curve = _named(read.base, "aten.erf.default", "aten.tanh.default")
        if curve is None or factor.exponent != 1:
            continue
        for x in _arguments(curve):
            found = _beside(op, x, factor)
            if found is not None and close(found * read.slope, 0.5) and close(found * read.offset, 0.5):
                return nn.gelu(x, approximate="none" if curve.defn.root == "erf" else "tanh")
        reject(f"it is not x / 2 * (1 + {curve.defn.root}) with the argument of GELU", followed=2)
    return reject("there is no 1 + erf or tanh in the product")


def _arguments(curve: Op) -> Iterator[Value]:
    """The values whose GELU would have this curve."""
    if curve.defn.root == "erf":
        yield from (at.base for at in lines(curve.value("self")) if close(at.slope, math.sqrt(0.5)) and not at.offset)
        return
    seen: list[Value] = []
    queue = [curve.value("self")]
    while queue and len(seen) < _CANDIDATES:
        at = queue.pop(0)
        if at in seen:
            continue
        seen.append(at)
        queue.extend(at.op.inputs if at.op is not None else ())
        found = polynomial(curve.value("self"), at)
        if found is None or found.keys() != {1, 3}:
            continue
        if close(found[1], _TANH_SLOPE) and close(found[3], _TANH_SLOPE * _TANH_CUBE):
            yield at


@rewrite(_PRODUCTS)
def silu(op: Op) -> Value:
    """SiLU, x * sigmoid(x) or x / (1 + exp(-x)), and the sigmoid form of GELU.

    %1 = aten.mul.Tensor(%x, 1.702)
    %2 = aten.sigmoid.default(%1)
    %y = aten.mul.Tensor(%x, %2)               ->     %y = nn.gelu(%x) {approximate="sigmoid"}
    """
    for factor in _curves(op):
        argument, sign = _logistic(factor)
        if argument is None:
            continue
        for at in lines(argument):
            wanted = next((slope for slope in (1.0, 1.702) if close(sign * at.slope, slope)), None)
            if wanted is None or at.offset or not close(_beside(op, at.base, factor), 1.0):
                continue
            return nn.silu(at.base) if wanted == 1.0 else nn.gelu(at.base, approximate="sigmoid")
        reject("it is not x * sigmoid(x), nor x * sigmoid(1.702 x)", followed=1)
    return reject("there is no sigmoid in the product")


def _logistic(factor: Factor) -> tuple[Value | None, float]:
    """The value and its sign of which ``factor`` is the sigmoid."""
    curve = _named(factor.value, "aten.sigmoid.default")
    if curve is not None and factor.exponent == 1:
        return curve.value("self"), 1.0
    read = line(factor.value)
    curve = _named(read.base, "aten.exp.default")
    if curve is not None and factor.exponent == -1 and (read.slope, read.offset) == (1.0, 1.0):
        return curve.value("self"), -1.0
    return None, 1.0


@rewrite(_PRODUCTS)
def hard_swish(op: Op) -> Value:
    """The product x * relu6(x + 3) / 6, or x * hard_sigmoid(x).

    %1 = nn.hard_sigmoid(%x) {alpha=0.16666666666666666, beta=0.5}
    %y = aten.mul.Tensor(%x, %1)                                       ->     %y = nn.hard_swish(%x)
    """
    for factor in _curves(op):
        kept = bounded(factor.value) if factor.exponent == 1 else None
        inner = _named(factor.value, "nn.hard_sigmoid")
        if inner is not None and factor.exponent == 1:
            alpha, beta = (inner.attr(name) for name in ("alpha", "beta"))
            assert isinstance(alpha, float)
            assert isinstance(beta, float)
            candidates = [(inner.value("x"), alpha, beta, 1.0)]
        elif kept is not None and kept[1] == 0:
            candidates = [(at.base, at.slope, at.offset, kept[2]) for at in lines(kept[0])]
        else:
            continue
        for x, alpha, beta, high in candidates:
            scale = _beside(op, x, factor)
            if scale is not None and all(map(close, (scale * high, scale * alpha, scale * beta), (1, 1 / 6, 0.5))):
                return nn.hard_swish(x)
        reject("it is not x * relu6(x + 3) / 6", followed=1)
    return reject("there is no bounded line in the product")


@rewrite(_PRODUCTS)
def mish(op: Op) -> Value:
    """The product x * tanh(softplus(x)).

    %1 = nn.softplus(%x)
    %2 = aten.tanh.default(%1)
    %y = aten.mul.Tensor(%x, %2)               ->     %y = nn.mish(%x)
    """
    for factor in _curves(op):
        curve = _named(factor.value, "aten.tanh.default")
        inner = None if curve is None else _named(curve.value("self"), "nn.softplus")
        if inner is None or factor.exponent != 1:
            continue
        threshold = inner.attr("threshold")
        if inner.attr("beta") != 1 or not isinstance(threshold, (int, float)) or threshold < 20:
            reject("the softplus has a beta, or becomes a line too early", followed=2)
        if not close(_beside(op, inner.value("x"), factor), 1.0):
            reject("it is not x * tanh(softplus(x))", followed=2)
        return nn.mish(inner.value("x"))
    return reject("there is no tanh of a softplus in the product")


@rewrite(_PRODUCTS)
def softsign(op: Op) -> Value:
    """The quotient x / (1 + |x|).

    %1 = aten.abs.default(%x)
    %2 = aten.add.Tensor(%1, 1)
    %y = aten.div.Tensor(%x, %2)               ->     %y = nn.softsign(%x)
    """
    for factor in _curves(op):
        read = line(factor.value)
        size = _named(read.base, "aten.abs.default")
        if size is None or factor.exponent != -1:
            continue
        if (read.slope, read.offset) != (1.0, 1.0) or not close(_beside(op, size.value("self"), factor), 1.0):
            reject("it is not x / (1 + |x|)", followed=2)
        return nn.softsign(size.value("self"))
    return reject("nothing is divided by 1 + |x|")


RULES: list[Rule] = [gelu, silu, hard_swish, mish, softsign]

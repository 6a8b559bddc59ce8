"""Sums that overflow although a mean does not, variances by squares, and remainders.

    %1 = mil.reduce_sum(%x) {axes=[1]}
    %y = mil.real_div(%1, 8.0)                             ->     %y = mil.reduce_mean(%x) {axes=[1], keep_dims=false}

    %1 = mil.square(%x)
    %2 = mil.reduce_mean(%1) {axes=[1]}
    %3 = mil.reduce_mean(%x) {axes=[1]}
    %4 = mil.square(%3)
    %y = mil.sub(%2, %4)
        ->
    %1 = mil.reduce_mean(%x) {axes=[1], keep_dims=true}
    %2 = mil.sub(%x, %1)
    %3 = mil.square(%2)
    %y = mil.reduce_mean(%3) {axes=[1], keep_dims=false}

In float16 the difference of two squares has no digits left where the mean is large beside the deviation.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.algebra import close, number
from anec.passes.common import varying
from anec.pipeline.base import Context
from anec.rewrite import Rule, any_of, constant, reject, rewrite, var

x, axes, keep = varying("x"), var("axes"), var("keep")
Axes = tuple[int, ...] | None
# A factor beside a mean that float16 holds with all its digits.
_SMALL, _LARGE = 2.0**-14, 2.0**15

_sum = mil.reduce_sum(x, axes=axes, keep_dims=keep)


@rewrite(any_of(mil.mul(_sum, constant("factor")), mil.real_div(_sum, constant("factor"))))
def mean(op: Op, x: Value, axes: Axes, keep: bool, factor: Value) -> Value:
    """A sum that is divided is a mean, which is never larger than its terms.

    %x: f32[2,8]
    %1 = mil.reduce_sum(%x) {axes=[1]}
    %y = mil.mul(%1, 0.25)                                 ->     %1 = mil.reduce_mean(%x) {axes=[1], keep_dims=false}
                                                                  %y = mil.mul(%1, 2.0)
    """
    known, terms = number(factor), count(x, axes)
    if not known or terms is None or not x.tensor.dtype.is_float:
        reject("the factor or the number of terms is not known")
    share = known if op.defn.root == "mul" else 1 / known
    if abs(share) > 0.5 or not _SMALL <= abs(share) * terms <= _LARGE:
        reject(f"{terms} terms times {share:g} is no mean")
    found = mil.reduce_mean(x, axes=axes, keep_dims=keep)
    if found.type != op.result.type:
        reject("the factor is broadcast")
    return found if close(share * terms, 1.0) else mil.mul(found, share * terms)


def times(value: Value, factor: float) -> Value:
    """``value`` multiplied by a number that is not 1."""
    return value if factor == 1 else mil.mul(value, factor)


def positive(axes: Axes, rank: int) -> tuple[int, ...]:
    """The axes of a reduction counted from the front; None is all."""
    return tuple(axis % rank for axis in (range(rank) if axes is None else axes))


def count(x: Value, axes: Axes) -> int | None:
    """The number of terms; None where a size is symbolic."""
    sizes = [x.tensor.shape[axis] for axis in positive(axes, x.rank)]
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def square_of(inner: Pattern) -> Pattern:
    """The square, however it is written."""
    return any_of(mil.square(inner), mil.mul(inner, inner), mil.pow(inner, 2.0))


@rewrite(
    mil.sub(
        mil.reduce_mean(square_of(x), axes=axes, keep_dims=keep),
        square_of(mil.reduce_mean(x, axes=axes, keep_dims=keep)),
    )
)
def variance(x: Value, axes: Axes, keep: bool) -> Value:
    """E[x^2] - E[x]^2 is the mean of (x - E[x])^2, which cancels no digits.

    %1 = mil.mul(%x, %x)
    %2 = mil.reduce_mean(%1) {axes=[1], keep_dims=true}
    %3 = mil.reduce_mean(%x) {axes=[1], keep_dims=true}
    %4 = mil.mul(%3, %3)
    %y = mil.sub(%2, %4)
        ->
    %1 = mil.reduce_mean(%x) {axes=[1], keep_dims=true}
    %2 = mil.sub(%x, %1)
    %3 = mil.square(%2)
    %y = mil.reduce_mean(%3) {axes=[1], keep_dims=true}
    """
    over = positive(axes, x.rank)
    centred = mil.sub(x, mil.reduce_mean(x, axes=over, keep_dims=True))
    return mil.reduce_mean(mil.square(centred), axes=over, keep_dims=keep)


@rewrite(mil.mod(x, constant("size")))
def remainder(op: Op, x: Value, size: Value, ctx: Context) -> Value:
    """A float modulo a power of two is what its floor leaves.

    Core ML's mod of floats is wrong on some devices: it was measured. By a power of two this is exact.

    %y = mil.mod(%x, 1.0)                                  ->     %1 = mil.floor(%x)
                                                                  %y = mil.sub(%x, %1)
    """
    known = number(size)
    if known is None or known <= 0 or not x.tensor.dtype.is_float or x.type != op.result.type:
        reject("it is no remainder of floats by a positive number")
    if math.frexp(known)[0] != 0.5:
        ctx.note(f"fp16-safe: mod of floats by {known:g} may be wrong on some devices {op.origin.place}".rstrip())
        reject("a quotient by what is no power of two is rounded")
    if known == 1:
        return mil.sub(x, mil.floor(x))
    return mil.sub(x, mil.mul(mil.floor(mil.mul(x, 1 / known)), known))


RULES: list[Rule] = [mean, variance, remainder]

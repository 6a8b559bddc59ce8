"""Arithmetic that the hardware does not have, as arithmetic that it has (rule B21).

    %x: f32[1,8,1,32]
    %y = mil.cumsum(%x) {axis=1}
        ->
    %1 = mil.fill([8, 8]) {value=1.0}
    %2 = mil.band_part(%1) {lower=-1, upper=0}
    %3 = mil.expand_dims(%2) {axes=[2, 3]}
    %y = mil.conv(%x, %3)

A running sum is a product with a triangle of ones: it adds in a wide format and rounds once, where adding one after the
other in float16 rounds each time. Remainders are what ``fp16-safe`` rewrites; sin and cos on M1 and M2, where there are
none, stay: in float16 no reduction of their angle is exact enough.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.passes.ane_legalize.products import along, check_finite, check_product
from anec.passes.common import varying
from anec.passes.lower_to_mil.movement import reshaped
from anec.passes.lower_to_mil.shared import filled
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    from anec.passes.ane_legalize import AneLegalize

# Axes that are multiplied up in halves: eight of them, with three ops each.
_LONGEST_PRODUCT = 256

x = varying("x")


@rewrite(mil.cumsum(x, rest))
def cumsum(op: Op, ctx: Context, opts: AneLegalize, x: Value) -> Value:
    """A running sum is a product with a triangle; without the number itself, one without its diagonal.

    %x: f32[2,8]
    %y = mil.cumsum(%x) {axis=1, exclusive=true, reverse=true}
        ->     %1 = mil.fill([8, 8]) {value=1.0}
               %2 = mil.band_part(%1) {lower=-1, upper=0}
               %3 = mil.sub(%1, %2)
               %y = mil.linear(%x, %3)
    """
    axis = op.attr("axis")
    assert isinstance(axis, int)
    axis %= x.rank
    size = _size(x, axis)
    check_product(x, axis, size, opts.limits, ctx.facts)
    ones = mil.fill(shape=(size, size), value=1.0)
    # Row i says which numbers are added up at place i: those up to it, or from it on.
    behind, ahead = (-1, 0), (0, -1)
    lower, upper = ahead if bool(op.attr("reverse")) != bool(op.attr("exclusive")) else behind
    triangle: Value = mil.band_part(ones, lower=lower, upper=upper)
    return along(x, axis, mil.sub(ones, triangle) if op.attr("exclusive") else triangle)


@rewrite(mil.reduce_prod(x, rest))
def reduce_prod(op: Op, x: Value) -> Value:
    """A product over axes of up to 256 is one of halves, then of their halves.

    %x: f32[2,3]
    %y = mil.reduce_prod(%x) {axes=[1], keep_dims=true}
        ->     %1, %2, %3 = mil.split(%x) {split_sizes=[1, 1, 1], axis=1}
               %4 = mil.mul(%1, %2)
               %y = mil.mul(%4, %3)
    """
    found = x
    axes = _axes(op.attr("axes"), x.rank)
    if not x.tensor.is_static:
        reject("sizes are symbolic")
    if any(_size(x, axis) > _LONGEST_PRODUCT for axis in axes):
        reject(f"an axis is longer than {_LONGEST_PRODUCT}")
    if not op.results[0].rank:
        reject("the result is a scalar")
    for axis in axes:
        single: list[Value] = []
        while (size := found.shape[axis]) > 1:
            half = size // 2
            parts = mil.split.many(found, split_sizes=(half, half, *(1,) * (size % 2)), axis=axis)
            found = mil.mul(parts[0], parts[1])
            single += parts[2:]
        for part in single:
            found = mil.mul(found, part)
    return reshaped(found, op.results[0].shape)


@rewrite(mil.band_part(x, rest))
def band_part(op: Op, ctx: Context, x: Value) -> Value:
    """What lies beside the band is multiplied by 0; exact for finite numbers, so a mask stays.

    %x: f32[4,4]
    %y = mil.band_part(%x) {lower=0, upper=-1}
        ->     %1 = mil.fill([4, 4]) {value=1.0}
               %2 = mil.band_part(%1) {lower=0, upper=-1}
               %y = mil.mul(%x, %2)
    """
    shape = tuple(_size(x, axis) for axis in (x.rank - 2, x.rank - 1))
    check_finite(x, ctx.facts)
    band = mil.band_part(filled(shape, 1.0, x.tensor.dtype), lower=op.attr("lower"), upper=op.attr("upper"))
    return mil.mul(x, band)


@rewrite(mil.acos(x))
def acos(x: Value) -> Value:
    """Twice the angle whose tangent is the root of (1 - x) / (1 + x).

    %y = mil.acos(%x)     ->     %1 = mil.sub(1.0, %x)
                                 %2 = mil.add(%x, 1.0)
                                 %3 = mil.real_div(%1, %2)
                                 %4 = mil.sqrt(%3)
                                 %5 = mil.atan(%4)
                                 %y = mil.mul(%5, 2.0)
    """
    return mil.mul(mil.atan(mil.sqrt(mil.real_div(mil.sub(1.0, x), mil.add(x, 1.0)))), 2.0)


@rewrite(mil.asin(x))
def asin(x: Value) -> Value:
    """The angle whose tangent is x over the root of (1 - x) (1 + x).

    %y = mil.asin(%x)     ->     %1 = mil.sub(1.0, %x)
                                 %2 = mil.add(%x, 1.0)
                                 %3 = mil.mul(%1, %2)
                                 %4 = mil.sqrt(%3)
                                 %5 = mil.real_div(%x, %4)
                                 %y = mil.atan(%5)
    """
    return mil.atan(mil.real_div(x, mil.sqrt(mil.mul(mil.sub(1.0, x), mil.add(x, 1.0)))))


@rewrite(mil.cosh(x))
def cosh(x: Value) -> Value:
    """Two exponentials, each with its half inside, so that they reach as far as the result.

    %y = mil.cosh(%x)     ->     %1 = mil.add(%x, -0.693147)
                                 %2 = mil.exp(%1)
                                 %3 = mil.sub(-0.693147, %x)
                                 %4 = mil.exp(%3)
                                 %y = mil.add(%2, %4)
    """
    half = -math.log(2)
    return mil.add(mil.exp(mil.add(x, half)), mil.exp(mil.sub(half, x)))


@rewrite(mil.tan(x))
def tan(opts: AneLegalize, x: Value) -> Value:
    """Sine over cosine, where there are those (rule B13).

    ; pass: ane-legalize{generation=M3}
    %y = mil.tan(%x)     ->     %1 = mil.sin(%x)
                                %2 = mil.cos(%x)
                                %y = mil.real_div(%1, %2)
    """
    if not opts.limits.has_trigonometry:
        reject(f"{opts.limits.generation} has no sin and cos")
    return mil.real_div(mil.sin(x), mil.cos(x))


def _size(x: Value, axis: int) -> int:
    size = x.tensor.shape[axis]
    if not isinstance(size, int) or not x.tensor.dtype.is_float:
        reject(f"%{x.name} is {x.tensor}")
    return size


def _axes(given: Attr, rank: int) -> tuple[int, ...]:
    """The axes of a reduction from the front; None is all."""
    axes = given if isinstance(given, tuple) else range(rank)
    return tuple(axis % rank for axis in axes if isinstance(axis, int))


RULES: list[Rule] = [cumsum, reduce_prod, band_part, acos, asin, cosh, tan]

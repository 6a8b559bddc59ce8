"""A conv of a conv with nothing between them is one conv where that is less work; a linear of a linear too.

    %x: f32[1,4,8,8], %w: f32[32,4,3,3] weight, %v: f32[4,32,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.conv(%1, %v)
        ->
    %1 = mil.reshape(%v, [4, 32])
    %2 = mil.reshape(%w, [32, 36])
    %3 = mil.matmul(%1, %2)
    %4 = mil.reshape(%3, [4, 4, 3, 3])
    %y = mil.conv(%x, %4)

A bottleneck is two small matrices instead of a large one, and stays.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import rebuild, varying
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.weighted import Weighted, weighted, weights_of
from anec.rewrite import Rule, reject, rest, rewrite

x = varying("x")


def _pair(op: Op) -> tuple[Weighted, Weighted]:
    """The two ops of a chain, outer first, each the only user of its weight."""
    outer, inner = weights_of(op), weighted(op.value("x"))
    for each in (outer, inner):
        each.own_weight()
    return outer, inner


def _check_size(merged: int, outer: Weighted, inner: Weighted) -> None:
    """Refuse one weight of ``merged`` elements that is larger than the two, or is applied more often."""
    if merged >= outer.weight.tensor.size + inner.weight.tensor.size:
        reject("one weight would be larger than the two")
    counts = [math.prod(dim for dim in each.result.tensor.shape[2:] if isinstance(dim, int)) for each in (outer, inner)]
    if outer.op.name == "mil.conv" and merged * counts[0] >= sum(
        each.weight.tensor.size * count for each, count in zip((outer, inner), counts, strict=True)
    ):
        reject("one conv would be more work than the two")


def _column(vector: Value) -> Value:
    return mil.reshape(vector, (vector.shape[0], 1))


def _moved_bias(matrix: Value, outer: Weighted, inner: Weighted) -> Value | None:
    """The bias of both ops: the inner one seen through ``matrix``, [channels, inner channels]."""
    if inner.bias is None:
        return outer.bias
    through: Value = mil.reshape(mil.matmul(matrix, _column(inner.bias)), (outer.channels,))
    return through if outer.bias is None else mil.add(outer.bias, through)


def linear_product(outer: Weighted, inner: Weighted) -> tuple[Value, Value | None]:
    """The weight and bias of a linear of a linear."""
    return mil.matmul(outer.weight, inner.weight), _moved_bias(outer.weight, outer, inner)


@rewrite(mil.linear(mil.linear(x, rest), rest))
def join_linear_chain(op: Op, x: Value) -> Value:
    """A linear of a linear is one, with the product of the matrices.

    %w: f32[16,8] weight, %v: f32[4,16] weight
    %1 = mil.linear(%x, %w)
    %y = mil.linear(%1, %v)
        ->
    %1 = mil.matmul(%v, %w)
    %y = mil.linear(%x, %1)
    """
    outer, inner = _pair(op)
    _check_size(outer.weight.shape[0] * inner.weight.shape[1], outer, inner)
    weight, bias = linear_product(outer, inner)
    return outer.rebuilt(x=x, weight=weight, bias=bias)


@rewrite(mil.conv(mil.conv(x, rest), rest))
def join_conv_chain(op: Op, x: Value) -> Value:
    """A conv of a conv is one if either has a window of one element.

    %x: f32[1,4,6,6], %w: f32[8,4,3,3] weight, %v: f32[4,8,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.conv(%1, %v)
        ->
    %1 = mil.reshape(%v, [4, 8])
    %2 = mil.reshape(%w, [8, 36])
    %3 = mil.matmul(%1, %2)
    %4 = mil.reshape(%3, [4, 4, 3, 3])
    %y = mil.conv(%x, %4)
    """
    outer, inner = _pair(op)
    if outer.groups != 1 or inner.groups != 1:
        reject("a conv has groups")
    rows, middle, *kernel = outer.weight.shape
    _, columns, *inner_kernel = inner.weight.shape
    if outer.is_pointwise:
        _check_size(rows * inner.weight.tensor.size // middle, outer, inner)
        steps = tuple(a * b for a, b in zip(outer.strides, inner.strides, strict=True))
        changes = {} if steps == inner.strides else {"strides": steps}
        if changes:
            # Rejects "same", which pads otherwise for other strides.
            own_pads(inner.op, x.rank)
        matrix = mil.reshape(outer.weight, (rows, middle))
        product = mil.matmul(matrix, mil.reshape(inner.weight, (middle, columns * math.prod(inner_kernel))))
        weight = mil.reshape(product, (rows, columns, *inner_kernel))
        bias = _moved_bias(matrix, outer, inner)
        return rebuild(inner.op, x=x, weight=weight, **({} if bias is None else {"bias": bias}), **changes)
    if not inner.is_pointwise or any(step != 1 for step in inner.strides):
        reject("neither window is of one element")
    if inner.bias is not None and any(own_pads(outer.op, x.rank)):
        reject("the padding would have the inner bias too")
    _check_size(outer.weight.tensor.size // middle * columns, outer, inner)
    flat = mil.reshape(outer.weight, (rows, middle, math.prod(kernel)))
    matrix = mil.transpose(mil.reshape(inner.weight, (middle, columns)), perm=(1, 0))
    weight = mil.reshape(mil.matmul(matrix, flat), (rows, columns, *kernel))
    totals = mil.reduce_sum(flat, axes=(2,), keep_dims=False)
    return outer.rebuilt(x=x, weight=weight, bias=_moved_bias(totals, outer, inner))


RULES: list[Rule] = [join_linear_chain, join_conv_chain]

"""Tiles that repeat nothing, tiles of tiles, tiles that the op behind them broadcasts; idle reductions.

    %1 = mil.tile(%x, [1, 4])     %x: f32[8,1], %z: f32[8,4]
    %y = mil.add(%1, %z)
        ->
    %y = mil.add(%x, %z)

A tile is a copy; where the consumer broadcasts, nothing has to be copied.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.common import broadcast, dims, ints, rebuild, tensor
from anec.passes.mil_cleanup.reshapes import reshape_to
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x = tensor("x")

_BINARY = (
    "add sub mul real_div floor_div mod pow maximum minimum equal not_equal greater greater_equal less less_equal "
    "logical_and logical_or logical_xor"
).split()


@rewrite(mil.tile(x, rest))
def drop_tile(op: Op, x: Value) -> Value:
    """A tile that repeats once.

    %y = mil.tile(%x, [1, 1])     ->     %x
    """
    return x if x.type == op.result.type else reject("it repeats")


@rewrite(mil.tile(mil.tile(x, var("first")), rest))
def merge_tiles(op: Op, x: Value) -> Value:
    """A tile of a tile is one tile.

    %1 = mil.tile(%x, [1, 2])
    %y = mil.tile(%1, [3, 2])     ->     %y = mil.tile(%x, [3, 4])
    """
    inner = op.value("x").op
    assert inner is not None
    first, second = ints(inner.operand("reps")), ints(op.operand("reps"))
    if first is None or second is None:
        reject("the counts are not known")
    return mil.tile(x, tuple(a * b for a, b in zip(first, second, strict=True)))


def _consumers() -> list[Pattern]:
    tiled, other, third = mil.tile(x, rest), var("other"), var("third")
    forms = [form for name in _BINARY for op in [mil.resolve(name)] for form in (op(tiled, other), op(other, tiled))]
    selects = [mil.select(tiled, other, third), mil.select(other, tiled, third), mil.select(other, third, tiled)]
    return forms + selects


@rewrite(any_of(*_consumers()))
def drop_broadcast(op: Op, x: Value) -> Value:
    """An elementwise op broadcasts axes of size 1 by itself.

    %x: f32[8,1], %z: f32[8,4]
    %1 = mil.tile(%x, [1, 4])
    %y = mil.add(%1, %z)
        ->
    %y = mil.add(%x, %z)

    The condition of a select has no say in the shape of its result (coremltools, ``select.type_inference``).
    """
    for name, operand in op.arguments().items():
        if not isinstance(operand, Value) or operand.op is None or operand.op.name != "mil.tile":
            continue
        if operand.op.operand("x") is not x:
            continue
        if any(own not in (1, size) for own, size in zip(x.tensor.shape, operand.tensor.shape, strict=True)):
            continue
        shapes = {n: dims(o) for n, o in op.arguments().items() if not isinstance(o, list)} | {name: x.tensor.shape}
        shapes.pop("cond", None)
        if broadcast(*shapes.values()) == op.result.tensor.shape:
            return rebuild(op, **{name: x})
    return reject("the tile decides the shape of the result")


@rewrite(any_of(*(mil.resolve(f"reduce_{name}")(x, rest) for name in ("sum", "mean", "max", "min", "prod"))))
def drop_reduction(op: Op, x: Value) -> Value:
    """Reducing axes of size 1 computes nothing.

    %x: f32[8,1]
    %y = mil.reduce_mean(%x) {axes=[1], keep_dims=false}     ->     %y = mil.squeeze(%x) {axes=[1]}
    """
    axes = op.attr("axes")
    reduced = [axis % x.rank for axis in axes if isinstance(axis, int)] if isinstance(axes, tuple) else range(x.rank)
    if any(x.tensor.shape[axis] != 1 for axis in reduced):
        reject("a reduced axis is longer than 1")
    return reshape_to(x, op.result.tensor.shape)


RULES: list[Rule] = [drop_tile, merge_tiles, drop_broadcast, drop_reduction]

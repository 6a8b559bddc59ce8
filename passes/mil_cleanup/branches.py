"""Convs of one operand that are added, or subtracted, are one conv; linears too.

    %x: f32[1,4,8,8], %w: f32[4,4,3,3] weight, %v: f32[4,4,1,1] weight
    %1 = mil.conv(%x, %w) {pad_type="custom", pad=[1, 1, 1, 1]}
    %2 = mil.conv(%x, %v) {pad_type="valid"}
    %y = mil.add(%1, %2)
        ->
    %1 = mil.pad(%v, [0, 0, 0, 0, 1, 1, 1, 1])
    %2 = mil.add(%w, %1)
    %y = mil.conv(%x, %2) {pad_type="custom", pad=[1, 1, 1, 1]}

RepVGG, MobileOne and FastViT are trained with such branches, LoRA with a product of two small matrices
beside each large one. The operand itself, also through a batch norm, is the branch of a conv of one tap.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.ir.types import DType
from anec.passes.common import only_use, varying
from anec.passes.mil_cleanup.affine import normalization
from anec.passes.mil_cleanup.chains import linear_product
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.weighted import Weighted, weighted
from anec.rewrite import Rule, any_of, reject, rest, rewrite

x = varying("x")
Taps = tuple[range, ...]


def _sums(first: Pattern, second: Pattern, *, ordered: bool = True) -> list[Pattern]:
    """The sum of two branches and their differences."""
    forms: list[Pattern] = [mil.add(first, second), mil.sub(first, second)]
    return forms if ordered else [*forms, mil.sub(second, first)]


def _signed(op: Op, second: Value) -> Value:
    """``second`` as it is to be added."""
    return mil.mul(second, -1.0) if op.name == "mil.sub" else second


def _joined_bias(op: Op, first: Value | None, second: Value | None) -> Value | None:
    """The sum or difference of two biases, either of which may be missing."""
    if second is None:
        return first
    if first is None:
        return _signed(op, second)
    joined: Value = op.defn(first, second)
    return joined


def _same_shape(op: Op, *values: Value) -> None:
    if any(value.type != op.result.type for value in values):
        reject("a branch is broadcast")


def taps(op: Op, rank: int, kernel: Sequence[int]) -> Taps:
    """Where the window of a conv lies along each axis, as seen from where its step begins.

    Raises:
        Reject: the padding depends on the size.
    """
    pads, steps = own_pads(op, rank), op.attr("dilations")
    steps = steps if isinstance(steps, tuple) else (1,) * len(kernel)
    return tuple(
        range(-pads[2 * i], -pads[2 * i] + size * step, step)
        for i, (size, step) in enumerate(zip(kernel, steps, strict=True))
        if isinstance(step, int)
    )


def _room(inside: Taps, around: Taps) -> tuple[int, ...] | None:
    """How many taps of ``around`` lie in front of and behind those of ``inside``; None when it lacks some."""
    amounts: list[int] = []
    for few, many in zip(inside, around, strict=True):
        places = [many.index(tap) if tap in many else -1 for tap in few]
        if places[0] < 0 or places != list(range(places[0], places[0] + len(few))):
            return None
        amounts += [places[0], len(many) - len(few) - places[0]]
    return tuple(amounts)


def _placed(weight: Value, room: tuple[int, ...]) -> Value:
    """``weight`` with as many zeros around it."""
    return mil.pad(weight, (0, 0, 0, 0, *room)) if any(room) else weight


def _conv(name: str) -> Pattern:
    return mil.conv(x, rest).named(name)


@rewrite(any_of(*_sums(_conv("first"), _conv("second"))))
def join_convs(op: Op, first: Value, second: Value, x: Value) -> Value:
    """Two convs of one operand, the taps of one among those of the other, are one conv.

    %x: f32[1,4,6,6], %w: f32[8,4,3,3] weight, %v: f32[8,4,3,3] weight
    %1 = mil.conv(%x, %w) {pad_type="valid"}
    %2 = mil.conv(%x, %v) {pad_type="valid"}
    %y = mil.add(%1, %2)
        ->
    %1 = mil.add(%w, %v)
    %y = mil.conv(%x, %1)
    """
    one, two = weighted(first), weighted(second)
    _same_shape(op, first, second)
    for branch in (one, two):
        branch.own_weight()
    kernels = [branch.weight.shape[2:] for branch in (one, two)]
    if one.groups != two.groups or one.strides != two.strides:
        reject("the groups or strides differ")
    windows = [taps(branch.op, x.rank, kernel) for branch, kernel in zip((one, two), kernels, strict=True)]
    room, other = _room(windows[1], windows[0]), _room(windows[0], windows[1])
    if room is None and other is None:
        reject("neither conv has all the taps of the other")
    bias = _joined_bias(op, one.bias, two.bias)
    if room is not None:
        return one.rebuilt(weight=op.defn(one.weight, _placed(two.weight, room)), bias=bias)
    assert other is not None
    return two.rebuilt(weight=op.defn(_placed(one.weight, other), two.weight), bias=bias)


_through = mil.batch_norm(x, rest).named("normalized")


@rewrite(any_of(*_sums(_conv("conv"), _through, ordered=False), *_sums(_conv("conv"), x, ordered=False)))
def join_identity(op: Op, x: Value, conv: Value, normalized: Value | None) -> Value:
    """The operand of a conv, or its batch norm, added to the conv is one more tap of it.

    %x: f32[1,3,6,6], %w: f32[3,3,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.add(%1, %x)
        ->
    %1 = mil.range_1d(3, 0, 1)
    %2 = mil.mod(%1, 3)
    %3 = mil.one_hot(%2, 3) {on_value=1.0, off_value=0.0}
    %4 = mil.reshape(%3, [3, 3, 1, 1])
    %5 = mil.add(%w, %4)
    %y = mil.conv(%x, %5)
    """
    target = weighted(conv)
    _same_shape(op, conv, x)
    target.own_weight()
    if normalized is not None and not only_use(normalized):
        reject("the batch norm has other users")
    rows, columns, *kernel = target.weight.shape
    if any(step != 1 for step in target.strides) or rows != columns * target.groups:
        reject("the conv changes sizes")
    room = _room((range(1),) * len(kernel), taps(target.op, x.rank, kernel))
    if room is None:
        reject("the conv has no tap at the element itself")
    scale, shift = (None, None) if normalized is None else _affine(normalized, target)
    one_each: Value = mil.one_hot(mil.mod(mil.range_1d(rows, 0, 1), columns), columns, on_value=1.0, off_value=0.0)
    if target.weight.tensor.dtype is DType.F16:
        one_each = mil.cast(one_each, dtype="fp16")
    tap: Value = mil.reshape(one_each, (rows, columns, *(1,) * len(kernel)))
    if scale is not None:
        tap = mil.mul(tap, mil.reshape(scale, (rows, *(1,) * (len(kernel) + 1))))
    placed = _placed(tap, room)
    if op.operand("x") is conv:
        return target.rebuilt(weight=op.defn(target.weight, placed), bias=_joined_bias(op, target.bias, shift))
    bias = target.bias if op.name == "mil.add" or target.bias is None else mil.mul(target.bias, -1.0)
    bias = bias if shift is None else shift if bias is None else mil.add(bias, shift)
    return target.rebuilt(weight=op.defn(placed, target.weight), bias=bias)


def _affine(normalized: Value, target: Weighted) -> tuple[Value, Value]:
    assert normalized.op is not None
    return normalization(normalized.op, target.weight.tensor.dtype)


_linear = mil.linear(x, rest).named("first")
_product = mil.linear(mil.linear(x, rest).named("inner"), rest).named("second")


@rewrite(any_of(*_sums(_linear, mil.linear(x, rest).named("second")), *_sums(_linear, _product, ordered=False)))
def join_linears(op: Op, first: Value, second: Value, inner: Value | None) -> Value:
    """Two linears of one operand are one; so are one and a linear of a linear, as LoRA has them.

    %w: f32[4,8] weight, %v: f32[4,8] weight
    %1 = mil.linear(%x, %w)
    %2 = mil.linear(%x, %v)
    %y = mil.add(%1, %2)
        ->
    %1 = mil.add(%w, %v)
    %y = mil.linear(%x, %1)
    """
    one, two = weighted(first), weighted(second)
    _same_shape(op, first, second)
    for branch in (one, two):
        branch.own_weight()
    weight, bias = two.weight, two.bias
    if inner is not None:
        within = weighted(inner)
        within.own_weight()
        weight, bias = linear_product(two, within)
    if op.operand("x") is first:
        return one.rebuilt(weight=op.defn(one.weight, weight), bias=_joined_bias(op, one.bias, bias))
    return one.rebuilt(weight=op.defn(weight, one.weight), bias=_joined_bias(op, bias, one.bias))


RULES: list[Rule] = [join_convs, join_identity, join_linears]

"""Rows and columns seen as one axis: what treats each place by itself does not mind, and the views meet.

    %x: f32[1,8,1,24], %w: f32[32,8,1,1] weight, %v: f32[32,1,3,3] weight
    %1 = mil.conv(%x, %w)
    %2 = mil.reshape(%1, [1, 32, 4, 6])
    %3 = mil.conv(%2, %v) {groups=32, pad_type="same"}
    %4 = mil.reshape(%3, [1, 32, 1, 24])
    %y = mil.relu(%4)
        ->
    %1 = mil.reshape(%x, [1, 8, 4, 6])
    %2 = mil.conv(%1, %w)
    %3 = mil.conv(%2, %v) {groups=32, pad_type="same"}
    %4 = mil.relu(%3)
    %y = mil.reshape(%4, [1, 32, 1, 24])

A transformer with convs in its blocks (SegFormer, PVT) sees its tokens as an image for each of them. A
view moves behind what makes no more elements than it takes, and in front of convs that make more together.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.common import dims, known, only_use, rebuild
from anec.passes.lower_to_mil.permutation import real
from anec.passes.mil_cleanup.weighted import weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

_BY_PLACE = (
    mil.add, mil.sub, mil.mul, mil.real_div, mil.maximum, mil.minimum, mil.relu, mil.relu6, mil.leaky_relu, mil.gelu,
    mil.silu, mil.sigmoid, mil.sigmoid_hard, mil.tanh, mil.clip, mil.exp, mil.sqrt, mil.rsqrt, mil.square, mil.erf,
)  # fmt: skip
# Batch and channels, which a view of space leaves alone, and rows and columns.
_KEPT, _RANK = 2, 4


@rewrite(any_of(*(op(rest) for op in (*_BY_PLACE, mil.conv, mil.layer_norm, mil.softmax))))
def place_before_view(op: Op) -> Value:
    """A view of space behind an op that treats each place by itself.

    %x: f32[1,8,4,6]
    %1 = mil.reshape(%x, [1, 8, 1, 24])
    %y = mil.relu(%1)
        ->
    %1 = mil.relu(%x)
    %y = mil.reshape(%1, [1, 8, 1, 24])
    """
    if op.results[0].rank != _RANK or not op.results[0].tensor.is_static:
        reject("it is no image")
    shape = op.results[0].shape
    views = [value for value in op.inputs if not known(value) and value.tensor.shape[_KEPT:] == shape[_KEPT:]]
    spaces = {space for value in views if (space := _space_behind(value)) is not None}
    if len(spaces) != 1 or not all(map(_space_behind, views)) or not _is_by_place(op):
        reject("what it uses is no view of one image")
    if op.results[0].tensor.size + (op.defn is mil.conv) > max(value.tensor.size for value in views):
        reject("it makes as much as it takes, or more")
    space = spaces.pop()
    given = {name: operand for name, operand in op.arguments().items() if operand is not None and name not in _OWN}
    return mil.reshape(rebuild(op, **{n: _seen(operand, shape[_KEPT:], space) for n, operand in given.items()}), shape)


# What lies along the channels, whatever space is seen as.
_OWN = frozenset({"weight", "bias", "gamma", "beta"})


def _space_behind(value: Value) -> tuple[Dim, ...] | None:
    """The rows and columns that ``value``, used once, is another view of."""
    if value.op is None or value.op.defn is not mil.reshape or not only_use(value) or value.rank != _RANK:
        return None
    source = value.op.value("x").tensor
    same = source.rank == _RANK and source.is_static and source.shape[:_KEPT] == value.tensor.shape[:_KEPT]
    # A row seen as a column copies nothing.
    return source.shape[_KEPT:] if same and real(source.shape) != real(value.tensor.shape) else None


def _seen(given: object, flat: tuple[Dim, ...], space: tuple[Dim, ...]) -> object:
    """An operand over ``space`` instead of over ``flat``."""
    if not isinstance(given, Value):
        if isinstance(given, Literal) and dims(given)[-1:] not in ((), (1,)):
            reject("numbers lie along the last axis")
        return given
    ends = given.tensor.shape[-_KEPT:]
    if all(size == 1 for size in ends):
        return given
    if ends != flat:
        reject("an operand lies along rows or columns")
    source = given.op.value("x") if given.op is not None and _space_behind(given) == space else None
    return source if source is not None else mil.reshape(given, (*given.tensor.shape[:-_KEPT], *space))


def _is_by_place(op: Op) -> bool:
    if op.defn is mil.conv:
        return _is_pointwise(op)
    if op.defn is mil.layer_norm:
        return op.attr("axes") in ((1,), (1 - _RANK,))
    return op.defn is not mil.softmax or op.attr("axis") in (1, 1 - _RANK)


def _is_pointwise(op: Op) -> bool:
    """True for a conv with a window of one element, steps of one, and no padding."""
    conv = weights_of(op)
    return all(step == 1 for step in conv.strides) and conv.is_pointwise


@rewrite(mil.reshape(mil.conv(var("x"), rest).named("made"), rest))
def view_before_conv(op: Op, x: Value, made: Value) -> Value:
    """A view of space in front of a conv of one element that makes more than it takes.

    %x: f32[1,8,1,24], %w: f32[32,8,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.reshape(%1, [1, 32, 4, 6])
        ->
    %1 = mil.reshape(%x, [1, 8, 4, 6])
    %y = mil.conv(%1, %w)
    """
    assert made.op is not None
    shape = op.results[0].tensor.shape
    if not made.tensor.is_static or not len(shape) == made.rank == _RANK or shape[:_KEPT] != made.shape[:_KEPT]:
        reject("it is no view of space")
    seen = (*x.tensor.shape[:_KEPT], *shape[_KEPT:])
    if not _is_viewed(made.op, shape[_KEPT:]) or made.tensor.size < x.tensor.size or _made_of(x, seen) <= x.tensor.size:
        reject("the convs make no more than they take, or have other users")
    return rebuild(made.op, x=mil.reshape(x, seen))


def _is_viewed(op: Op, space: tuple[Dim, ...]) -> bool:
    """Whether ``op`` is a conv of one element whose result is used as one view over ``space`` only."""
    if op.defn is not mil.conv or not only_use(op.results[0]) or op.results[0].rank != _RANK:
        return False
    user = next(iter(op.results[0].users))
    shape = user.results[0].tensor.shape
    is_view = user.defn is mil.reshape and shape == (*op.results[0].tensor.shape[:_KEPT], *space)
    return is_view and _is_pointwise(op)


def _made_of(x: Value, seen: tuple[Dim, ...]) -> float:
    """How many elements convs make of ``x`` that are used as views over one space; any number if ``x`` is too."""
    if any(user.defn is mil.reshape and user.results[0].tensor.shape == seen for user in x.users):
        return math.inf
    return sum(user.results[0].tensor.size for user in dict.fromkeys(x.users) if _is_viewed(user, seen[_KEPT:]))


RULES: list[Rule] = [place_before_view, view_before_conv]

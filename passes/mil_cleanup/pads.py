"""Pads that pad nothing, pads of pads, and pads that the op behind them can do itself.

    %1 = mil.pad(%x, [0, 0, 0, 0, 1, 1, 1, 1])     %x: f32[1,3,8,8], %w: f32[4,3,3,3] weight
    %y = mil.conv(%1, %w) {pad_type="valid"}
        ->
    %y = mil.conv(%x, %w) {pad_type="custom", pad=[1, 1, 1, 1]}

A pool is another matter than a conv: its padding may or may not count, and never wins a maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import ints, only_use, rebuild, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite

x = tensor("x")


def amounts(op: Op, rank: int) -> tuple[int, ...]:
    """The (before, after) pairs of a pad, for all axes.

    Raises:
        Reject: they are not written down.
    """
    given = ints(op.operand("pad"))
    if given is None:
        reject("the amounts are not known")
    return (0,) * (2 * rank - len(given)) + given


def _fill(op: Op) -> float:
    """The constant a pad pads with.

    Raises:
        Reject: it mirrors or repeats instead.
    """
    if op.attr("mode") != "constant":
        reject(f"the pad is of mode {op.attr('mode')}")
    value = op.attr("constant_val")
    assert isinstance(value, (int, float))
    return float(value)


@rewrite(mil.pad(x, rest))
def drop_pad(op: Op, x: Value) -> Value:
    """A pad by nothing.

    %y = mil.pad(%x, [0, 0])     ->     %x
    """
    return x if not any(amounts(op, x.rank)) else reject("it pads")


@rewrite(mil.pad(mil.pad(x, rest), rest))
def merge_pads(op: Op, x: Value) -> Value:
    """A pad of a pad with the same constant is one pad.

    %1 = mil.pad(%x, [1, 1])
    %y = mil.pad(%1, [0, 2])     ->     %y = mil.pad(%x, [1, 3])
    """
    inner = op.value("x").op
    assert inner is not None
    if _fill(inner) != _fill(op):
        reject("the constants differ")
    if not only_use(inner.result):
        reject("the inner pad has other users")
    pairs = (amounts(inner, x.rank), amounts(op, x.rank))
    total = tuple(a + b for a, b in zip(*pairs, strict=True))
    # Core ML pads the trailing axes that are listed; leading zeros need not be.
    while len(total) > 2 and not any(total[:2]):
        total = total[2:]
    return rebuild(op, x=x, pad=total)


def _window(op: Op, pad: Op, rank: int) -> tuple[int, ...]:
    """The pads of a conv or pool with those of ``pad`` in front of it added.

    Raises:
        Reject: the pad is on batch or channels, or the op's own padding depends on the size.
    """
    added = amounts(pad, rank)
    if any(added[:4]):
        reject("the pad is on batch or channels")
    return tuple(a + b for a, b in zip(added[4:], own_pads(op, rank), strict=True))


def own_pads(op: Op, rank: int) -> tuple[int, ...]:
    """The pads a conv or pool has of its own.

    Raises:
        Reject: they depend on the size.
    """
    pad_type = str(op.attr("pad_type") or "valid").lower()
    if pad_type not in ("valid", "custom"):
        reject(f"the padding is {pad_type}, which depends on the size")
    own = op.attr("pad") if pad_type == "custom" else None
    return tuple(i for i in own if isinstance(i, int)) if isinstance(own, tuple) else (0,) * (2 * rank - 4)


def _inner(op: Op) -> Op:
    pad = op.value("x").op
    assert pad is not None
    return pad


@rewrite(mil.conv(mil.pad(x, rest), rest))
def pad_in_conv(op: Op, x: Value) -> Value:
    """A conv pads with zeros by itself.

    %x: f32[1,3,8,8], %w: f32[4,3,3,3] weight
    %1 = mil.pad(%x, [0, 0, 0, 0, 1, 1, 1, 1])
    %y = mil.conv(%1, %w) {pad_type="valid"}
        ->
    %y = mil.conv(%x, %w) {pad_type="custom", pad=[1, 1, 1, 1]}
    """
    pad = _inner(op)
    if _fill(pad) != 0:
        reject("the pad is not of zeros")
    return rebuild(op, x=x, pad_type="custom", pad=_window(op, pad, x.rank))


@rewrite(mil.avg_pool(rest, x=mil.pad(x, rest)))
def pad_in_avg_pool(op: Op, x: Value) -> Value:
    """An average pool that counts its padding pads with zeros by itself.

    %x: f32[1,3,8,8]
    %1 = mil.pad(%x, [0, 0, 0, 0, 1, 1, 1, 1])
    %y = mil.avg_pool(%1) {kernel_sizes=[3, 3], pad_type="valid"}
        ->
    %y = mil.avg_pool(%x) {exclude_padding_from_average=false, kernel_sizes=[3, 3], pad_type="custom",
                           pad=[1, 1, 1, 1]}
    """
    pad = _inner(op)
    if _fill(pad) != 0:
        reject("the pad is not of zeros")
    if op.attr("ceil_mode"):
        reject("ceil_mode treats padding of its own kind")
    if op.attr("exclude_padding_from_average") and any(own_pads(op, x.rank)):
        reject("the pool does not count its own padding")
    pads = _window(op, pad, x.rank)
    return rebuild(op, x=x, pad_type="custom", pad=pads, exclude_padding_from_average=False)


_NONNEGATIVE = (mil.relu, mil.relu6, mil.sigmoid, mil.abs, mil.square)
_SOURCES = any_of(*(source(tensor("source"), rest) for source in _NONNEGATIVE))


@rewrite(any_of(mil.max_pool(rest, x=mil.pad(_SOURCES, rest)), mil.max_pool(rest, x=mil.pad(x, rest))))
def pad_in_max_pool(op: Op, source: Value | None) -> Value:
    """A max pool ignores its padding: zeros in front of it never win over what is never negative.

    %x: f32[1,3,8,8]
    %1 = mil.relu(%x)
    %2 = mil.pad(%1, [0, 0, 0, 0, 1, 1, 1, 1])
    %y = mil.max_pool(%2) {kernel_sizes=[3, 3], pad_type="valid"}
        ->
    %1 = mil.relu(%x)
    %y = mil.max_pool(%1) {kernel_sizes=[3, 3], pad_type="custom", pad=[1, 1, 1, 1]}
    """
    pad = _inner(op)
    padded = pad.value("x")
    fill = _fill(pad)
    if fill != -math.inf and not (fill == 0 and source is not None):
        reject("the padding could be the largest")
    if op.attr("ceil_mode"):
        reject("ceil_mode treats padding of its own kind")
    pads = _window(op, pad, padded.rank)
    if not _meets(pads, op.attr("kernel_sizes")):
        reject("a window would lie in the padding")
    return rebuild(op, x=padded, pad_type="custom", pad=pads)


def _meets(pads: Sequence[int], kernel_sizes: object) -> bool:
    """True when no window can lie outside the operand."""
    assert isinstance(kernel_sizes, tuple)
    return all(max(pads[2 * i], pads[2 * i + 1]) < size for i, size in enumerate(kernel_sizes))


RULES: list[Rule] = [drop_pad, merge_pads, pad_in_conv, pad_in_avg_pool, pad_in_max_pool]

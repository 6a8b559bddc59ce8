"""Rotary positions that lie in pairs of neighbouring channels, as halves: their order is free.

    %1 = aten.slice.Tensor(%q) {dim=3, start=1, end=8, step=2}      %q: f32[2,4,15,8]
    %2 = aten.slice.Tensor(%q) {dim=3, start=0, end=8, step=2}
    %3 = aten.neg.default(%1)
    %4 = aten.stack.default([%3, %2]) {dim=-1}
    %5 = aten.view.default(%4) {size=[2, 4, 15, 8]}
    %6 = aten.mul.Tensor(%5, %sin)                                  and the same of the keys
    ->
    %7 = mil.concat([%3, %2]) {axis=3}
    %8 = aten.mul.Tensor(%7, the channels of %sin in the order 0 2 4 6 1 3 5 7)

A score is a sum over channels: queries and keys may have theirs in any order, the same for both. So
what interleaves channels becomes a concat, all that it meets is put into that order, and slices with a
step fall on the weights of projections (``ane_layout/projections.py``). GPT-J, RoFormer, Cohere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anec.dialects import aten
from anec.ir.graph import Op, Value
from anec.passes.common import only_use, rebuild
from anec.passes.lower_to_mil.movement import joined, permutation
from anec.passes.lower_to_mil.typing import axis

Order = tuple[int, ...]
# Where a slice ends that ends nowhere.
_END = 2**63 - 1
# Rotary positions are a dozen ops.
_MOST_VALUES = 64
_ELEMENTWISE = frozenset(
    f"aten.{name}"
    for name in "add.Tensor sub.Tensor mul.Tensor div.Tensor add.Scalar mul.Scalar div.Scalar neg.default "
    "_to_copy.default clone.default".split()
)
_VIEWS = frozenset(
    f"aten.{name}.default" for name in "view _unsafe_view reshape expand unsqueeze squeeze permute".split()
) | {"aten.transpose.int"}


def in_halves(op: Op, query: Value, key: Value) -> tuple[Value, Value]:
    """Queries and keys without interleaved channels, where both have them and nothing else uses them so.

    Args:
        op: the attention.
        query: its queries.
        key: its keys.
    """
    found = _Channels(op)
    order = found.order(query)
    if order is None or order != found.order(key):
        return query, key
    if not found.may_take(query, order) or not found.may_take(key, order):
        return query, key
    return found.taken(query, order), found.taken(key, order)


def _side_by_side(orders: Iterable[tuple[Order | None, int]]) -> Iterator[int]:
    start = 0
    for order, size in orders:
        yield from (start + channel for channel in order or range(size))
        start += size


def _stacked(value: Value) -> list[Value]:
    """The tensors that a view interleaves along its last axis."""
    if value.op is None or value.op.name not in _VIEWS:
        return []
    inner = value.op.value("self")
    stack = inner.op
    if stack is None or stack.name != "aten.stack.default" or inner.tensor.shape[:-2] != value.tensor.shape[:-1]:
        return []
    return _parts(stack) if axis(stack.attr("dim"), inner.rank) == inner.rank - 1 else []


def _parts(op: Op) -> list[Value]:
    return [part for part in op.variadic("tensors") if isinstance(part, Value)]


def _is_joined(op: Op) -> bool:
    """Whether tensors are joined along their channels."""
    rank = op.results[0].rank
    return op.name == "aten.cat.default" and axis(op.attr("dim"), rank) == rank - 1


def _through(value: Value) -> list[Value]:
    """The operands whose last axis is the value's own, element by element."""
    op, size = value.op, value.tensor.shape[-1]
    if op is not None and op.name == "aten.cat.default" and not _is_joined(op):
        return _parts(op)
    if op is None or (op.name not in _ELEMENTWISE and op.name not in _VIEWS):
        return []
    found = [operand for operand in op.inputs if operand.rank and operand.tensor.shape[-1] == size != 1]
    perm = permutation(op) if op.name in _VIEWS else None
    return found if perm is None or perm[-1] == len(perm) - 1 else []


def _made_from(value: Value) -> list[Value]:
    """The values whose orders tell the order of a value."""
    if value.op is None or value.is_constant or not value.rank or _stacked(value):
        return []
    return _parts(value.op) if _is_joined(value.op) else _through(value)


class _Channels:
    """What an attention uses, with its channels in another order.

    Args:
        op: the attention.
    """

    def __init__(self, op: Op) -> None:
        self.op = op
        self.orders: dict[Value, Order | None] = {}
        self.made: dict[tuple[Value, Order], Value] = {}

    def order(self, value: Value) -> Order | None:
        """The order of channels in which nothing is interleaved; None where that is the order they have."""
        waiting = [value]
        while waiting:
            at = waiting[-1]
            before = [] if at in self.orders else [part for part in _made_from(at) if part not in self.orders]
            if before:
                # Programs are deeper than Python's stack.
                waiting += before
            else:
                waiting.pop()
                if at not in self.orders:
                    self.orders[at] = self._order(at)
        return self.orders[value]

    def _order(self, value: Value) -> Order | None:
        size = value.tensor.shape[-1] if value.rank else None
        if value.op is None or value.is_constant or not isinstance(size, int):
            return None
        stacked = _stacked(value)
        if stacked:
            return tuple(sorted(range(size), key=lambda channel: channel % len(stacked)))
        if _is_joined(value.op):
            orders = [(self.orders[part], part.shape[-1]) for part in _parts(value.op)]
            return tuple(_side_by_side(orders)) if any(order for order, _ in orders) else None
        return next((order for part in _through(value) if (order := self.orders[part]) is not None), None)

    def may_take(self, value: Value, order: Order) -> bool:
        """Whether all that would be computed in another order is used for that alone."""
        met: set[Value] = set()
        waiting = [(value, order)]
        while waiting:
            at, wanted = waiting.pop()
            if at not in met and self._is_computed(at, wanted):
                met.add(at)
                waiting += _operands(at, wanted)
            if len(met) > _MOST_VALUES:
                return False
        within = {self.op, *(at.op for at in met)}
        return all(not at.is_output and within.issuperset(at.users) for at in met)

    def _is_computed(self, value: Value, order: Order) -> bool:
        """Whether a value is computed in that order; the channels of others are taken from the order they have."""
        if order == tuple(range(len(order))) or value.op is None or value.is_constant:
            return False
        own = self.order(value)
        if own is None:
            return value.op.name in _ELEMENTWISE and only_use(value)
        return own == order or bool(_through(value))

    def taken(self, value: Value, order: Order) -> Value:
        """The value with the channels ``order``."""
        if order == tuple(range(len(order))):
            return value
        if (value, order) not in self.made:
            self.made[value, order] = self._taken(value, order)
        return self.made[value, order]

    def _taken(self, value: Value, order: Order) -> Value:
        if not self._is_computed(value, order):
            return joined([_slice(value, run) for run in _runs(order)], value.rank - 1)
        assert value.op is not None
        operands = {part: self.taken(part, wanted) for part, wanted in _operands(value, order)}
        if _stacked(value):
            return joined(_stacked(value), value.rank - 1)
        if _is_joined(value.op):
            return joined([operands[part] for part in _parts(value.op)], value.rank - 1)
        if value.op.name == "aten.cat.default":
            return rebuild(value.op, tensors=[operands[part] for part in _parts(value.op)])
        given = value.op.arguments().items()
        return rebuild(value.op, **{name: operands[v] for name, v in given if isinstance(v, Value) and v in operands})


def _operands(value: Value, order: Order) -> list[tuple[Value, Order]]:
    """What a value is computed from where its channels have that order."""
    assert value.op is not None
    if _stacked(value):
        return []
    if not _is_joined(value.op):
        return [(operand, order) for operand in _through(value)]
    parts, start = list[tuple[Value, Order]](), 0
    for part in _parts(value.op):
        stop = start + part.shape[-1]
        parts.append((part, tuple(channel - start for channel in order[start:stop])))
        start = stop
    return parts


def _runs(order: Order) -> Iterator[range]:
    """The order as channels at equal steps."""
    start = 0
    while start < len(order):
        step = order[start + 1] - order[start] if start + 1 < len(order) else 1
        stop = start + 1
        while stop < len(order) and order[stop] - order[stop - 1] == step > 0:
            stop += 1
        yield range(order[start], order[stop - 1] + 1, max(step, 1))
        start = stop


def _slice(value: Value, channels: range) -> Value:
    # Spelled as models do, so that it is the same op.
    end = _END if channels[-1] + channels.step >= value.shape[-1] else channels.stop
    return aten.slice.Tensor(value, dim=value.rank - 1, start=channels.start, end=end, step=channels.step)

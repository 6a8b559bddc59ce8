"""Weights and biases behind a norm become the norm's own.

    %w: f32[8] weight, %b: f32[8] weight
    %1 = nn.layer_norm(%x) {axes=[-1]}
    %2 = aten.mul.Tensor(%1, %w)
    %y = aten.add.Tensor(%2, %b)             ->     %y = nn.layer_norm(%x, %w, %b) {axes=[-1]}

    %x: f32[2,6,4,4], %w: f32[6,1,1] weight
    %1 = nn.instance_norm(%x)
    %y = aten.mul.Tensor(%1, %w)             ->     %2 = aten.view.default(%w) {size=[6]}
                                                    %y = nn.instance_norm(%x, %2)

Only constants: what the program computes stays a product beside the norm.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.algebra import aligned, number
from anec.passes.common import broadcast, only_use, rebuild
from anec.passes.custom_norms.moved import axes_of
from anec.rewrite import Rule, any_of, constant, reject, rest, rewrite, var

x = var("x")
_SHIFTED = tuple(norm(x, rest) for norm in (nn.layer_norm, nn.group_norm, nn.instance_norm))
_SCALED = (*_SHIFTED, nn.rms_norm(x, rest))
_ALL = (*_SCALED, nn.l2_norm(x, rest))


def _beside(op: Op, constant: Operand) -> Value:
    """The other operand of ``op``."""
    return next(value for value in op.inputs if value is not constant)


def _absorb(norm: Value, vector: Value, name: str, result: Op) -> Value:
    """The norm with ``vector`` as its ``name``.

    Raises:
        Reject: it has one, is used elsewhere too, or the vector lies along other axes.
    """
    op = norm.op
    assert op is not None
    taken = ("weight", "bias") if name == "weight" else ("bias",)
    if any(op.operand(other) is not None for other in taken if _has(op, other)):
        reject(f"the norm has a weight or bias in front of the {name}")
    if not only_use(norm):
        reject("the norm has other users")
    if norm.type != result.result.type:
        reject(f"the result is a {result.result.type}, the norm a {norm.type}")
    shape, found = norm.tensor.shape, _normalized(op)
    along = tuple(dim if found is not None and axis in found else 1 for axis, dim in enumerate(shape))
    if found is not None and vector.rank <= norm.rank and aligned(vector, norm.rank) == along:
        return rebuild(op, **{name: _flat(vector, tuple(shape[axis] for axis in found))})
    by_channel = tuple(dim if axis == 1 else 1 for axis, dim in enumerate(shape))
    if norm.rank < 3 or vector.rank > norm.rank or aligned(vector, norm.rank) != by_channel:
        reject(f"the {name} lies along other axes than the norm")
    return _by_channel(op, found, name, _flat(vector, (shape[1],)))


def _has(op: Op, name: str) -> bool:
    return name in op.defn.by_name


def _normalized(op: Op) -> tuple[int, ...] | None:
    """The axes whose shape the weight has; None for a norm whose weight is by channel."""
    return axes_of(op) if _has(op, "axes") else None


def _by_channel(op: Op, found: tuple[int, ...] | None, name: str, vector: Value) -> Value:
    """A weight by channel: layer norms over all space, with channels or without, are norms that have one."""
    if found is None:
        return rebuild(op, **{name: vector})
    first, settings = op.value("x"), {"epsilon": op.attr("epsilon"), name: vector}
    if op.defn is not nn.layer_norm or op.operand("weight") is not None:
        reject(f"the {name} is by channel")
    if found == tuple(range(1, first.rank)):
        return nn.group_norm(first, groups=1, **settings)
    if found == tuple(range(2, first.rank)):
        return nn.instance_norm(first, **settings)
    return reject(f"the {name} is by channel")


def _flat(vector: Value, shape: tuple[Dim, ...]) -> Value:
    """A constant in another shape; the one it had before it was viewed, where that fits."""
    at = vector
    while at.tensor.shape != shape and at.op is not None and at.op.defn.root in ("view", "unsqueeze", "reshape"):
        at = at.op.value("self")
    return at if at.tensor.shape == shape else aten.view.default(vector, size=shape)


@rewrite(aten.mul.Tensor(any_of(*_SCALED), constant("w")))
def absorb_scale(w: Operand, op: Op) -> Value:
    """A norm times a constant along its axes, or along the channels.

    %w: f32[8] weight
    %1 = nn.rms_norm(%x) {axes=[-1]}
    %y = aten.mul.Tensor(%w, %1)         ->     %y = nn.rms_norm(%x, %w) {axes=[-1]}
    """
    if not isinstance(w, Value) or number(w) is not None:
        reject("it is scaled by a number")
    return _absorb(_beside(op, w), w, "weight", op)


@rewrite(aten.add.Tensor(any_of(*_SHIFTED), constant("b")))
def absorb_shift(b: Operand, op: Op) -> Value:
    """A norm plus a constant along its axes, or along the channels.

    %x: f32[2,6,4,4], %b: f32[6,1,1] weight
    %1 = nn.group_norm(%x) {groups=3}
    %y = aten.add.Tensor(%1, %b)
        ->
    %1 = aten.view.default(%b) {size=[6]}
    %y = nn.group_norm(%x, none, %1) {groups=3}
    """
    if not isinstance(b, Value) or number(b) is not None:
        reject("it is shifted by a number")
    return _absorb(_beside(op, b), b, "bias", op)


@rewrite(aten.mul.Tensor(aten.mul.Tensor(any_of(*_ALL), constant("a")), constant("b")))
def unite_scales(a: Operand, b: Operand, op: Op) -> Value:
    """Two constant factors behind a norm are one.

    %w: f32[8] weight
    %1 = nn.l2_norm(%x) {axes=[-1]}
    %2 = aten.mul.Tensor(%1, 2.5)
    %y = aten.mul.Tensor(%2, %w)
        ->
    %1 = nn.l2_norm(%x) {axes=[-1]}
    %2 = aten.mul.Tensor(%w, 2.5)
    %y = aten.mul.Tensor(%1, %2)
    """
    inner = _beside(op, b)
    assert inner.op is not None
    norm = _beside(inner.op, a)
    if not only_use(inner):
        reject("the product has other users")
    vector, other = (a, b) if isinstance(a, Value) else (b, a)
    if not isinstance(vector, Value) or norm.type != op.result.type:
        reject("both are numbers, or the type changes")
    shapes = [side.tensor.shape for side in (a, b) if isinstance(side, Value)]
    if broadcast(*shapes) not in shapes:
        reject("together they are larger than each is")
    return aten.mul.Tensor(norm, aten.mul.Tensor(vector, other))


RULES: list[Rule] = [absorb_scale, absorb_shift, unite_scales]

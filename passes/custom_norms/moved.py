"""Norms between ops that move elements, or change their dtype, and undo it behind.

    %x: f32[2,6,4,4], %w: f32[6] weight
    %1 = aten.permute.default(%x) {dims=[0, 2, 3, 1]}
    %2 = nn.layer_norm(%1, %w) {axes=[-1]}
    %y = aten.permute.default(%2) {dims=[0, 3, 1, 2]}     ->     %y = nn.layer_norm(%x, %w) {axes=[1]}

    %x: f32[2,6,4,4]
    %1 = aten.view.default(%x) {size=[2, 3, 32]}
    %2 = nn.layer_norm(%1) {axes=[-1]}
    %y = aten.view.default(%2) {size=[2, 6, 4, 4]}        ->     %y = nn.group_norm(%x) {groups=3}

    %x: f16[2,8], %w: f16[8] weight
    %1 = aten.to.dtype(%x) {dtype=f32}
    %2 = nn.rms_norm(%1, %w) {axes=[-1]}
    %y = aten.to.dtype(%2) {dtype=f16}                    ->     %y = nn.rms_norm(%x, %w) {axes=[-1]}

A norm that others use too stays where it is.
"""

from __future__ import annotations

from anec.dialects import nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Pattern
from anec.passes.canonicalize.identities import forms
from anec.passes.canonicalize.views import permutation
from anec.passes.common import only_use, rebuild, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite

x = tensor("x")
_BY_AXES = (nn.layer_norm, nn.rms_norm, nn.l2_norm)
_ALL = (*_BY_AXES, nn.group_norm, nn.instance_norm)
_CASTS = "_to_copy.default to.dtype type_as.default"
_PERMUTES = "permute.default transpose.int"
_VIEWS = "view.default _unsafe_view.default reshape.default"


def _between(names: str, norms: tuple[OpDef, ...]) -> Pattern:
    """One of the ops ``names`` on one of ``norms`` on one of the ops again."""
    return any_of(*forms(names, any_of(*(norm(first, rest) for norm in norms for first in forms(names, x)))))


def _norm(op: Op) -> Op:
    """The norm in front of ``op``."""
    norm = op.value("self").op
    assert norm is not None
    return norm


def _is_affine(norm: Op) -> bool:
    return any(norm.operand(name) is not None for name in ("weight", "bias") if name in norm.defn.by_name)


def axes_of(norm: Op) -> tuple[int, ...]:
    """The axes a norm goes over, ascending and not negative."""
    axes = norm.attr("axes")
    assert isinstance(axes, tuple)
    return tuple(sorted(axis % norm.result.rank for axis in axes if isinstance(axis, int)))


@rewrite(_between(_PERMUTES, _BY_AXES))
def norm_in_place(op: Op, x: Value) -> Value:
    """Axes that move for a norm and back again stay; it goes over the axes they came from.

    %x: f32[2,6,5]
    %1 = aten.transpose.int(%x) {dim0=1, dim1=2}
    %2 = nn.rms_norm(%1) {axes=[-1]}
    %y = aten.transpose.int(%2) {dim0=1, dim1=2}     ->     %y = nn.rms_norm(%x) {axes=[1]}
    """
    norm = _norm(op)
    inner = norm.value("x").op
    assert inner is not None
    first, second = permutation(inner), permutation(op)
    if tuple(first[axis] for axis in second) != tuple(range(x.rank)):
        reject("the permutations do not undo each other")
    if not only_use(norm.result):
        reject("the norm has other users")
    axes = tuple(first[axis] for axis in axes_of(norm))
    if axes != tuple(sorted(axes)) and _is_affine(norm):
        reject("the axes of the weight change places")
    return rebuild(norm, x=x, axes=axes)


@rewrite(_between(_VIEWS, (nn.layer_norm, nn.instance_norm)))
def group_norm(op: Op, x: Value) -> Value:
    """A norm of [batch, groups, the rest] over the rest is a norm of groups of channels.

    %x: f32[2,6,5]
    %1 = aten.view.default(%x) {size=[2, 3, 2, 5]}
    %2 = nn.layer_norm(%1) {axes=[-2, -1]}
    %y = aten.view.default(%2) {size=[2, 6, 5]}        ->     %y = nn.group_norm(%x) {groups=3, epsilon=1e-05}
    """
    norm = _norm(op)
    rank = norm.result.rank
    batch, groups, *_ = norm.result.tensor.shape if rank > 2 else (None, None)
    if x.rank < 2 or op.result.type != x.type or batch != x.tensor.shape[0]:
        reject("it does not split the channels and join them again")
    channels = x.tensor.shape[1]
    if not isinstance(channels, int) or not isinstance(groups, int) or channels % groups:
        reject("the groups do not divide the channels")
    if (norm.defn is nn.layer_norm and axes_of(norm) != tuple(range(2, rank))) or _is_affine(norm):
        reject("the norm goes over other axes, or has weights of its own")
    return nn.group_norm(x, groups=groups, epsilon=norm.attr("epsilon"))


@rewrite(_between(_CASTS, _ALL))
def norm_in_half(op: Op, x: Value) -> Value:
    """Norms compute wide inside of themselves, so they need no cast around them.

    %x: f16[2,8]
    %1 = aten._to_copy.default(%x) {dtype=f32}
    %2 = nn.l2_norm(%1) {axes=[-1]}
    %y = aten._to_copy.default(%2) {dtype=f16}     ->     %y = nn.l2_norm(%x) {axes=[-1]}
    """
    norm = _norm(op)
    if not (x.tensor.dtype.is_float and norm.result.tensor.dtype.is_float) or x.type != op.result.type:
        reject("the casts are not there and back")
    return rebuild(norm, x=x)


@rewrite(nn.layer_norm(x, rest))
def instance_norm(op: Op, x: Value) -> Value:
    """A norm over two or more space axes of each channel.

    %x: f32[2,6,4,4]
    %y = nn.layer_norm(%x) {axes=[2, 3]}                  ->     %y = nn.instance_norm(%x)
    """
    if x.rank < 4 or axes_of(op) != tuple(range(2, x.rank)):
        reject("it does not go over all space axes and nothing else")
    if _is_affine(op):
        reject("its weights are not by channel")
    return nn.instance_norm(x, epsilon=op.attr("epsilon"))


RULES: list[Rule] = [norm_in_place, group_norm, norm_in_half, instance_norm]

"""Chains of views, permutations and concats.

    %1 = aten.unsqueeze.default(%x) {dim=0}
    %y = aten.squeeze.dim(%1) {dim=0}
        ->
    %x

Chains that cancel go; others keep the words the model used, which later passes recognise.
"""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.canonicalize.identities import forms
from anec.passes.common import is_empty, only_use, rebuild, tensor
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x = tensor("x")

_VIEWS = "view.default _unsafe_view.default reshape.default"
_INNER = _VIEWS + " unsqueeze.default squeeze.default squeeze.dim squeeze.dims flatten.using_ints unflatten.int"
_PERMUTES = "permute.default transpose.int t.default numpy_T.default"


@rewrite(any_of(*(outer for inner in forms(_INNER, x) for outer in forms(_INNER, inner))))
def merge_views(op: Op, x: Value) -> Value:
    """A view of a view is a view of the first; nothing, when the shape comes back.

    %x: f32[2,3,4]
    %1 = aten.view.default(%x) {size=[6, 4]}
    %y = aten.view.default(%1) {size=[24]}     ->     %y = aten.view.default(%x) {size=[24]}
    """
    if x.type == op.result.type:
        return x
    if op.defn.root not in ("view", "_unsafe_view", "reshape"):
        reject("it says more than a view would")
    name = "shape" if op.defn.root == "reshape" else "size"
    shape = op.result.tensor
    return rebuild(op, self=x, **{name: shape.static_shape if shape.is_static else op.attr(name)})


def permutation(op: Op) -> tuple[int, ...]:
    """The axes of the operand in the order of the result's."""
    rank = op.value("self").rank
    axes = list(range(rank))
    if op.defn.root == "permute":
        dims = op.attr("dims")
        assert isinstance(dims, tuple)
        return tuple(dim % rank for dim in dims if isinstance(dim, int))
    if op.defn.root == "transpose":
        first, second = op.attr("dim0"), op.attr("dim1")
        assert isinstance(first, int)
        assert isinstance(second, int)
        if rank:
            axes[first], axes[second] = axes[second], axes[first]
        return tuple(axes)
    return tuple(reversed(axes))


@rewrite(any_of(*forms(_PERMUTES, x)))
def drop_permute(op: Op, x: Value) -> Value:
    """A permutation that leaves every axis where it is.

    %x: f32[2,3,4]
    %y = aten.permute.default(%x) {dims=[0, 1, 2]}     ->     %x
    """
    return x if permutation(op) == tuple(range(x.rank)) else reject("axes move")


@rewrite(any_of(*(outer for inner in forms(_PERMUTES, x) for outer in forms(_PERMUTES, inner))))
def cancel_permutes(op: Op, x: Value) -> Value:
    """Two permutations that undo each other.

    %x: f32[2,3,4]
    %1 = aten.transpose.int(%x) {dim0=1, dim1=2}
    %y = aten.permute.default(%1) {dims=[0, 2, 1]}     ->     %x
    """
    inner = op.value("self").op
    assert inner is not None
    first = permutation(inner)
    if tuple(first[axis] for axis in permutation(op)) != tuple(range(x.rank)):
        reject("they do not undo each other")
    return x


@rewrite(aten.cat.default(var("tensors"), rest))
def drop_cat(op: Op, tensors: tuple[Operand, ...]) -> Value:
    """A concat of one tensor, and torch's empty tensors in a concat.

    %y = aten.cat.default([%x])     ->     %x
    """
    kept = [value for value in tensors if not is_empty(value)]
    if len(kept) == len(tensors) and len(kept) != 1:
        reject("there are several tensors")
    only = kept[0] if len(kept) == 1 else None
    if isinstance(only, Value) and only.type == op.result.type:
        return only
    dtypes = {value.tensor.dtype for value in kept if isinstance(value, Value)}
    if len(kept) in (0, len(tensors)) or dtypes != {op.result.tensor.dtype}:
        reject("the empty tensor decides the dtype")
    return aten.cat.default(kept, dim=op.attr("dim"))


@rewrite(aten.cat.default(var("tensors"), rest))
def flatten_cat(op: Op, tensors: tuple[Operand, ...]) -> Value:
    """A concat of a concat along the same axis is one concat.

    %1 = aten.cat.default([%a, %b]) {dim=1}
    %y = aten.cat.default([%1, %c]) {dim=-1}     ->     %y = aten.cat.default([%a, %b, %c]) {dim=1}
    """
    dim = _dim(op)
    flat: list[Operand] = []
    for value in tensors:
        inner = value.op if isinstance(value, Value) and only_use(value) else None
        joins = inner is not None and inner.name == op.name and len(inner.operands) > 1 and _dim(inner) == dim
        flat.extend(inner.variadic("tensors") if inner is not None and joins else [value])
    if len(flat) == len(tensors):
        reject("no tensor is a concat of its own along this axis")
    if any(not isinstance(v, Value) or v.tensor.dtype is not op.result.tensor.dtype for v in flat):
        reject("the dtypes differ")
    return aten.cat.default(flat, dim=dim)


def _dim(op: Op) -> int:
    dim = op.attr("dim")
    assert isinstance(dim, int)
    return dim % max(op.result.rank, 1)


RULES: list[Rule] = [merge_views, drop_permute, cancel_permutes, drop_cat, flatten_cat]

"""Reductions of reductions.

    %x: f32[2,8,4,4]
    %1 = aten.mean.dim(%x) {dim=[3]}
    %y = aten.mean.dim(%1) {dim=[2]}
        ->
    %y = aten.mean.dim(%x) {dim=[2, 3]}

Models that pool, or take statistics, one axis after another say in two ops what norms, pools and Core ML
have one for.
"""

from __future__ import annotations

from anec.dialects import aten
from anec.ir.graph import Op, Value
from anec.passes.canonicalize.identities import forms
from anec.passes.common import only_use, rebuild, tensor
from anec.rewrite import Rule, any_of, reject, rewrite

x = tensor("x")

# Ops that may take any number of axes at once, in groups of one meaning.
_GROUPS = ("mean.dim", "sum.dim_IntList", "amax.default", "amin.default", "logsumexp.default", "any.dims", "all.dims")
_SINGLE = {"any.dims": "any.dim", "all.dims": "all.dim"}
_NAMES = [f"{name} {_SINGLE.get(name, '')}" for name in _GROUPS]


@rewrite(any_of(*(outer for names in _NAMES for inner in forms(names, x) for outer in forms(names, inner))))
def merge_reductions(op: Op, x: Value) -> Value:
    """A mean of means over other axes is one mean; so are sums, extremes, `any`, `all` and `logsumexp`.

    %x: f32[2,8,4]
    %1 = aten.sum.dim_IntList(%x) {dim=[2], keepdim=true}
    %y = aten.sum.dim_IntList(%1) {dim=[1], keepdim=true}
        ->
    %y = aten.sum.dim_IntList(%x) {dim=[1, 2], keepdim=true}
    """
    inner = op.value("self").op
    assert inner is not None
    if not only_use(inner.result):
        reject("the first result is used elsewhere, too")
    if inner.result.tensor.dtype is not op.result.tensor.dtype:
        reject("the dtype changes on the way")
    first = _axes(inner)
    left = list(range(x.rank)) if inner.attr("keepdim") else [axis for axis in range(x.rank) if axis not in first]
    last = {left[axis] for axis in _axes(op)}
    keepdim = inner.attr("keepdim") is True or op.attr("keepdim") is True
    name = op.defn.root + (".dims" if op.defn.root in ("any", "all") else "")
    arguments = {"dim": tuple(sorted(first | last)), "keepdim": keepdim}
    merged = aten.resolve(name)(x, **arguments) if name.endswith(".dims") else rebuild(inner, **arguments)
    dropped = set() if inner.attr("keepdim") == op.attr("keepdim") else first if op.attr("keepdim") else last
    return aten.squeeze.dims(merged, dim=tuple(sorted(dropped))) if dropped else merged


def _axes(op: Op) -> set[int]:
    """The axes an op reduces: all of them, where it names none."""
    rank, given = op.value("self").rank, op.attr("dim")
    if given == () and op.defn.root in ("any", "all"):
        reject("it names no axes, and reduces none")
    items = (given,) if isinstance(given, int) else given if isinstance(given, tuple) and given else range(rank)
    # torch lets a tensor of rank 0 have an axis 0, which is none.
    return {axis % rank for axis in items if isinstance(axis, int) and rank}


RULES: list[Rule] = [merge_reductions]

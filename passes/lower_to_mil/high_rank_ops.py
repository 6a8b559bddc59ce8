"""Ops of more than one operand or axis on tensors of rank 6 and more: the same op on fewer axes.

    %1 = aten.view.default(%x) {size=[2, 3, 2, 4, 2, 5]}     %x: f32[6,8,10], %w: f32[5,3]
    %2 = aten.matmul.default(%1, %w)
    %y = aten.view.default(%2) {size=[6, 8, 6]}
        ->
    %1 = mil.reshape(%x, [96, 5])
    %2 = mil.matmul(%1, %w)
    %y = mil.reshape(%2, [6, 8, 6])

Each merges the axes it does not tell apart.
"""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.high_rank import again, fits, grouped, merged, require_high, view
from anec.passes.lower_to_mil.movement import unsupported_rank
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.typing import axes, axis
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_SOURCES = {
    "select_scatter": "src",
    "slice_scatter": "src",
    "gather": "index",
    "scatter_add": "index",
    "index_copy": "source",
}


@rewrite(aten.matmul.default)
def product(op: Op) -> Value:
    """Rows are merged where the right side is one matrix, else the axes of equal batches."""
    require_high(op)
    x, y = op.value("self"), op.value("other")
    shape = op.result.tensor.shape
    if y.rank <= 2:
        rows = view(x, (volume(x.tensor.shape[:-1]), x.tensor.shape[-1]))
        return view(aten.matmul.default(rows, y), shape)
    batch = shape[:-2] if x.rank > 1 else shape[:-1]
    wide = [aten.expand.default(v, (*batch, *v.tensor.shape[-2:])) if v.rank > 1 else v for v in (x, y)]
    small = [view(v, (volume(batch), *v.tensor.shape[-2:])) if v.rank > 1 else v for v in wide]
    return view(aten.matmul.default(*small), shape)


@rewrite(each("cdist", "_cdist_forward"))
def distances(op: Op) -> Value:
    """Batches are merged."""
    require_high(op)
    points = {name: op.value(name) for name in ("x1", "x2")}
    batch = op.result.tensor.shape[:-2]
    if any(x.tensor.shape[:-2] != batch for x in points.values()):
        raise unsupported_rank(op, "the batches of its operands differ")
    small = {name: view(x, (volume(batch), *x.tensor.shape[-2:])) for name, x in points.items()}
    return view(again(op, {**small})[0], op.result.tensor.shape)


@rewrite(each(*_SOURCES))
def at_one_axis(op: Op) -> Value:
    """What is before the axis is merged, and what is after it, in all operands."""
    require_high(op)
    x = op.value("self")
    at = axis(op.attr("dim"), x.rank)
    names = ("self", _SOURCES[op.defn.root], *(("src",) if op.defn.root == "scatter_add" else ()))
    keeps = op.defn.root != "select_scatter"
    small: dict[str, object] = {}
    for name in names:
        given = op.value(name)
        shape = given.tensor.shape
        behind = at + 1 if name == "self" or keeps else at
        if (shape[:at], shape[behind:]) != (x.tensor.shape[:at], x.tensor.shape[at + 1 :]):
            raise unsupported_rank(op, f"{name} is smaller along other axes")
        small[name] = view(given, (volume(shape[:at]), *shape[at:behind], volume(shape[behind:])))
    return view(again(op, small, dim=1)[0], op.result.tensor.shape)


@rewrite(aten.repeat.default)
def repetition(op: Op) -> Value:
    """Each axis that is repeated is one of two, the first of them expanded."""
    require_high(op)
    x, times = op.value("self"), op.attr("repeats")
    if not isinstance(times, tuple):
        reject(f"the repeats are {times}")
    sizes = (*(1,) * (len(times) - x.rank), *x.tensor.shape)
    before: list[Dim] = []
    after: list[Dim] = []
    for count, size in zip(times, sizes, strict=True):
        if not isinstance(count, int):
            reject(f"the repeats are {times}")
        before += [1, size]
        after += [count, size]
    groups = grouped([given == wanted for given, wanted in zip(before, after, strict=True)], after)
    fits(op, groups)
    return view(aten.expand.default(view(x, merged(before, groups)), merged(after, groups)), op.result.tensor.shape)


@rewrite(each("pad", "constant_pad_nd"))
def padding(op: Op) -> Value:
    """Axes without padding are merged; numbers are put in wherever the axes are."""
    require_high(op)
    x, given = op.value("self"), op.attr("pad")
    if "mode" in op.defn.by_name and op.attr("mode") != "constant":
        raise unsupported_rank(op, f"it pads by {op.attr('mode')}")
    assert isinstance(given, tuple)
    ends = {x.rank - 1 - place: given[2 * place : 2 * place + 2] for place in range(len(given) // 2)}
    padded = {index for index, pair in ends.items() if any(pair)}
    groups = grouped([index if index in padded else -1 for index in range(x.rank)], [0] * x.rank)
    fits(op, groups)
    pads = tuple(end for group in reversed(groups) for end in (ends[group[0]] if group[0] in padded else (0, 0)))
    return view(again(op, {"self": view(x, merged(x.tensor.shape, groups))}, pad=pads)[0], op.result.tensor.shape)


@rewrite(aten.roll.default)
def rolling(op: Op) -> Value:
    """Axes that stay are merged; without axes, all are."""
    require_high(op)
    x, shifts, dims = op.value("self"), op.attr("shifts"), op.attr("dims")
    assert isinstance(shifts, tuple)
    shape = x.tensor.shape
    if not dims:
        return view(aten.roll.default(view(x, (volume(shape),)), shifts), shape)
    assert isinstance(dims, tuple)
    rolled = [axis(dim, x.rank) for dim in dims]
    groups = grouped([index if index in rolled else -1 for index in range(x.rank)], [0] * x.rank)
    fits(op, groups)
    found = tuple(next(number for number, group in enumerate(groups) if dim in group) for dim in rolled)
    return view(aten.roll.default(view(x, merged(shape, groups)), shifts, found), shape)


@rewrite(each("tril", "triu"))
def triangle(op: Op) -> Value:
    """Matrices in a row."""
    require_high(op)
    shape = op.result.tensor.shape
    small = view(op.value("self"), (volume(shape[:-2]), *shape[-2:]))
    return view(again(op, {"self": small})[0], shape)


@rewrite(each("isin.Tensor_Tensor", "bucketize.Tensor", "searchsorted.Tensor", "embedding"))
def look_up(op: Op) -> Value:
    """What is looked up lies in a row, or in one for each row of sorted numbers."""
    require_high(op)
    if "sorter" in op.defn.by_name and op.operand("sorter") is not None:
        reject("the boundaries come with a sorter")
    in_rows = op.defn.root == "searchsorted" and op.value("sorted_sequence").rank > 1
    names = {
        "isin": ("elements", "test_elements"),
        "searchsorted": ("sorted_sequence", "self"),
        "embedding": ("indices",),
    }
    small: dict[str, object] = {}
    for name in names.get(op.defn.root, ("self",)):
        given = op.value(name)
        shape = given.tensor.shape
        small[name] = view(given, (volume(shape[:-1]), shape[-1]) if in_rows else (volume(shape),))
    return view(again(op, small)[0], op.result.tensor.shape)


@rewrite(any_of(nn.glu(rest), nn.log_softmax(rest)))
def along_one_axis(op: Op) -> Value:
    """What is before the axis is merged, and what is behind it."""
    require_high(op)
    x = op.value("x")
    shape, at = x.tensor.shape, axis(op.attr("axis"), x.rank)
    small = view(x, (volume(shape[:at]), shape[at], volume(shape[at + 1 :])))
    return view(again(op, {"x": small}, axis=1)[0], op.result.tensor.shape)


@rewrite(any_of(nn.layer_norm(rest), nn.rms_norm(rest), nn.l2_norm(rest)))
def norm(op: Op) -> Value:
    """Neighbouring axes are one, with one vector of weights, and so are those before and behind."""
    require_high(op)
    x = op.value("x")
    over = axes(op.attr("axes"), x.rank)
    if over != tuple(range(over[0], over[-1] + 1)):
        raise unsupported_rank(op, "its axes are not neighbours")
    shape = x.tensor.shape
    first, stop = over[0], over[-1] + 1
    length = volume(shape[first:stop])
    small: dict[str, object] = {"x": view(x, (volume(shape[:first]), length, volume(shape[stop:])))}
    for name in ("weight", "bias"):
        given = op.operand(name) if name in op.defn.by_name else None
        if isinstance(given, Value):
            small[name] = view(given, (length,))
    return view(again(op, small, axes=(1,))[0], shape)


RULES: list[Rule] = [
    product,
    distances,
    at_one_axis,
    repetition,
    padding,
    rolling,
    triangle,
    look_up,
    along_one_axis,
    norm,
]

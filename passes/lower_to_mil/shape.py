"""Views, permutations, repetitions, and what does nothing at inference.

    %y = aten.view.default(%x) {size=[2, -1]}           ->     %y = mil.reshape(%x, [2, 12])
    %y = aten.permute.default(%x) {dims=[0, 2, 1]}      ->     %y = mil.transpose(%x) {perm=[0, 2, 1]}
    %y = aten.expand.default(%x) {size=[4, -1]}         ->     %y = mil.tile(%x, [4, 1])

Chains through a rank beyond 5 are lowered as a whole, in ``high_rank.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from anec.dialects import aten, mil, nn
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.passes.lower_to_mil.movement import (
    broadcast,
    joined,
    permutation,
    rearranged,
    reshaped,
    sliced,
    source,
    transposed,
)
from anec.passes.lower_to_mil.permutation import divide, volume
from anec.passes.lower_to_mil.typing import axes, axis, result_type, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

# Ops whose result is the operand in row-major order, whatever their arguments.
RESHAPES: tuple[OpDef, ...] = (
    aten.view.default,
    aten.view_copy.default,
    aten.view_as.default,
    aten.reshape.default,
    aten.reshape_as.default,
    aten._unsafe_view.default,
    aten._reshape_alias.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.ravel.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze_copy.default,
    aten.squeeze_copy.dim,
    aten.squeeze_copy.dims,
    aten.unsqueeze.default,
    aten.unsqueeze_copy.default,
    aten.atleast_1d.default,
    aten.atleast_2d.default,
    aten.atleast_3d.default,
)
PERMUTATIONS: tuple[OpDef, ...] = (
    aten.permute.default,
    aten.permute_copy.default,
    aten.transpose.int,
    aten.transpose_copy.int,
    aten.t.default,
    aten.t_copy.default,
    aten.numpy_T.default,
    aten.mT.default,
    aten.adjoint.default,
    aten.matrix_H.default,
    aten.swapaxes.default,
    aten.swapdims.default,
    aten.movedim.int,
    aten.movedim.intlist,
    aten.moveaxis.int,
    aten.moveaxis.intlist,
)
_EXPANSIONS: tuple[OpDef, ...] = (
    aten.expand.default,
    aten.expand_copy.default,
    aten.expand_as.default,
    aten.broadcast_to.default,
)
# The name of the switch that must be off.
_DROPOUTS: dict[OpDef, str] = {
    aten.dropout.default: "train",
    aten.native_dropout.default: "train",
    aten.alpha_dropout.default: "train",
    aten.feature_dropout.default: "train",
    aten.feature_alpha_dropout.default: "train",
}


def _named(defn: OpDef) -> str:
    return "lower_" + defn.name.removeprefix("aten.").removesuffix(".default").replace(".", "_")


def _each(defns: tuple[OpDef, ...], lower: Callable[[Op], Value]) -> list[Rule]:
    return [rewrite(defn, name=_named(defn))(lower) for defn in defns]


def _reshape(op: Op) -> Value:
    """The recorded shape says all: -1, inferred and dropped axes are resolved in it."""
    return reshaped(source(op), result_type(op).shape)


def _permute(op: Op) -> Value:
    x, order = source(op), permutation(op)
    if order is None:
        reject(f"{op.name} permutes in a way that is not known")
    return transposed(x, order)


def _expand(op: Op) -> Value:
    return broadcast(source(op), result_type(op).shape)


def _tile(x: Value, reps: tuple[Attr, ...]) -> Value:
    if not all(isinstance(rep, int) and rep > 0 for rep in reps):
        reject(f"a tensor repeated {reps} times is empty or of symbolic size")
    wide = reshaped(x, (*(1,) * (len(reps) - x.rank), *x.tensor.shape))
    return wide if all(rep == 1 for rep in reps) else mil.tile(wide, reps)


@rewrite(aten.repeat.default)
def lower_repeat(op: Op) -> Value:
    """As many repetitions as axes, or more: new axes stand in front."""
    repeats = op.attr("repeats")
    assert isinstance(repeats, tuple)
    return _tile(source(op), repeats)


@rewrite(aten.tile.default)
def lower_tile(op: Op) -> Value:
    """As ``repeat``, but missing repetitions are 1."""
    dims, x = op.attr("dims"), source(op)
    assert isinstance(dims, tuple)
    return _tile(x, (*(1,) * (x.rank - len(dims)), *dims))


@rewrite(aten.repeat_interleave.self_int)
def lower_repeat_interleave(op: Op) -> Value:
    """Each entry ``repeats`` times in a row: [before, n * after] is tiled along a new axis between."""
    x, repeats, wanted = source(op), op.attr("repeats"), result_type(op).shape
    if not isinstance(repeats, int) or repeats < 1:
        reject(f"{repeats} repetitions")
    if repeats == 1:
        return reshaped(x, wanted)
    dim = op.attr("dim")
    at = axis(dim, x.rank) if dim is not None else x.rank - 1
    shape = x.tensor.shape
    before, after = volume(shape[: at + 1]), volume(shape[at + 1 :])
    return reshaped(mil.tile(reshaped(x, (before, 1, after)), (1, repeats, 1)), wanted)


@rewrite(aten.roll.default)
def lower_roll(op: Op) -> Value:
    """Cut in two along each axis, and joined the other way round."""
    x, shifts, dims = source(op), op.attr("shifts"), op.attr("dims")
    shape = x.tensor.shape
    shifts = shifts if isinstance(shifts, tuple) else (shifts,)
    at = x
    if dims == ():
        at, dims = reshaped(x, (volume(shape),)), (0,)
    for shift, dim in zip(shifts, dims if isinstance(dims, tuple) else (dims,), strict=True):
        along = axis(dim, at.rank)
        size = at.tensor.shape[along]
        if not isinstance(size, int) or not isinstance(shift, int):
            reject(f"a roll by {shift} along the symbolic size {size}")
        if shift % size:
            first, second = mil.split.many(at, split_sizes=(size - shift % size, shift % size), axis=along)
            at = joined([second, first], along)
    return reshaped(at, shape)


@rewrite(aten.flip.default)
def lower_flip(op: Op) -> Value:
    x, dims = source(op), op.attr("dims")
    return mil.reverse(x, axes=axes(dims, x.rank)) if dims and x.rank else x


@rewrite(aten.fliplr.default)
def lower_fliplr(op: Op) -> Value:
    return mil.reverse(source(op), axes=(1,))


@rewrite(aten.flipud.default)
def lower_flipud(op: Op) -> Value:
    return mil.reverse(source(op), axes=(0,))


@rewrite(aten.rot90.default)
def lower_rot90(op: Op) -> Value:
    """A quarter turn swaps the two axes and reverses one of them; a half turn reverses both."""
    x, turns, dims = source(op), op.attr("k"), op.attr("dims")
    assert isinstance(turns, int) and isinstance(dims, tuple)
    first, second = (axis(dim, x.rank) for dim in dims)
    swap = list(range(x.rank))
    swap[first], swap[second] = second, first
    quarter = turns % 4
    if quarter == 2:
        return mil.reverse(x, axes=tuple(sorted((first, second))))
    if quarter:
        return transposed(mil.reverse(x, axes=(second if quarter == 1 else first,)), swap)
    return x


def _pixel_shuffle(x: Value, factor: int) -> Value:
    """Channel-major, as torch; leading axes join the batch."""
    *lead, channels, height, width = x.tensor.shape
    depth = divide(channels, factor * factor)
    if depth is None:
        reject(f"{channels} channels do not divide into blocks of {factor} x {factor}")
    wanted = (*lead, depth, height * factor, width * factor)
    if x.tensor.dtype.is_float:
        batch = reshaped(x, (volume(lead), channels, height, width))
        return reshaped(mil.pixel_shuffle(batch, upscale_factor=factor), wanted)
    sizes = (volume(lead) * depth, factor, factor, height, width)
    return rearranged(x, sizes, (0, 3, 1, 4, 2), wanted)


def _pixel_unshuffle(x: Value, factor: int, ctx: Context) -> Value:
    *lead, channels, height, width = x.tensor.shape
    rows, columns = divide(height, factor), divide(width, factor)
    if rows is None or columns is None:
        reject(f"{height} x {width} does not divide into blocks of {factor} x {factor}")
    wanted = (*lead, channels * factor * factor, rows, columns)
    if x.tensor.dtype.is_float and ctx.module.opset >= mil.pixel_unshuffle.since:
        batch = reshaped(x, (volume(lead), channels, height, width))
        return reshaped(mil.pixel_unshuffle(batch, downscale_factor=factor), wanted)
    sizes = (volume(lead) * channels, rows, factor, columns, factor)
    return rearranged(x, sizes, (0, 2, 4, 1, 3), wanted)


def _channel_shuffle(x: Value, groups: int) -> Value:
    batch, channels, *space = x.tensor.shape
    width = divide(channels, groups)
    if width is None:
        reject(f"{channels} channels do not divide into {groups} groups")
    return rearranged(x, (batch, groups, width, volume(space)), (0, 2, 1, 3), x.tensor.shape)


def _integer(given: Attr) -> int:
    if not isinstance(given, int):
        reject(f"{given} is not a static number")
    return given


@rewrite(aten.pixel_shuffle.default)
def lower_pixel_shuffle(op: Op) -> Value:
    return _pixel_shuffle(source(op), _integer(op.attr("upscale_factor")))


@rewrite(aten.pixel_unshuffle.default)
def lower_pixel_unshuffle(op: Op, ctx: Context) -> Value:
    return _pixel_unshuffle(source(op), _integer(op.attr("downscale_factor")), ctx)


@rewrite(nn.pixel_shuffle)
def lower_nn_pixel_shuffle(op: Op) -> Value:
    return _pixel_shuffle(source(op, "x"), _integer(op.attr("factor")))


@rewrite(nn.pixel_unshuffle)
def lower_nn_pixel_unshuffle(op: Op, ctx: Context) -> Value:
    return _pixel_unshuffle(source(op, "x"), _integer(op.attr("factor")), ctx)


def _lower_channel_shuffle(op: Op) -> Value:
    return _channel_shuffle(source(op, "x" if op.defn is nn.channel_shuffle else "self"), _integer(op.attr("groups")))


_SHUFFLES = (aten.channel_shuffle.default, aten.native_channel_shuffle.default)


def _dropout(defn: OpDef, switch: str) -> Rule:
    @rewrite(defn, name=_named(defn))
    def lower(op: Op) -> list[Value]:
        """Nothing at inference; the mask that native_dropout also gives is all true."""
        if op.attr(switch) is not False and op.attr("p") not in (0, 0.0):
            raise UnsupportedError(
                f"{op.name} drops at random: the model was exported in training mode",
                where=op.origin.place,
                hint="call model.eval() before compiling",
            )
        x = value(op.operand("input"), result_type(op).dtype)
        if len(op.results) == 1 or not op.results[1].uses and not op.results[1].is_output:
            return [x]
        return [x, mil.fill(result_type(op, 1).static_shape, value=True)]

    return lower


@rewrite(aten.as_strided.default)
def lower_as_strided(op: Op) -> Value:
    """A view of dense memory: a piece of the row-major buffer, its axes permuted or repeated.

    The operand must lie in memory in row-major order, which torch's strides tell and the IR does
    not; an operand that a view of another order makes is refused.
    """
    x = source(op)
    maker = x.op
    while maker is not None and maker.name in ("mil.reshape", "mil.expand_dims", "mil.squeeze"):
        maker = maker.value("x").op
    if maker is not None and maker.name in ("mil.transpose", "mil.tile", "mil.slice_by_index", "mil.split"):
        raise UnsupportedError(
            f"{op.name} of the result of {maker.name}: how it lies in memory is not known",
            where=op.origin.place,
            hint="call .contiguous() before as_strided, or use view and permute",
        )
    size, stride = (_integers(op.attr(name)) for name in ("size", "stride"))
    offset = _integer(op.attr("storage_offset") or 0)
    order = sorted((i for i in range(len(size)) if size[i] != 1 and stride[i] != 0), key=lambda i: -stride[i])
    dense = [size[i] for i in order]
    steps = [stride[i] for i in order]
    if any(step != volume(dense[i + 1 :]) for i, step in enumerate(steps)):
        raise UnsupportedError(
            f"{op.name} with size {list(size)} and stride {list(stride)} is no view of dense memory",
            where=op.origin.place,
            hint="use unfold, slices or index_select instead",
        )
    count, total = volume(dense), volume(x.shape)
    flat = reshaped(x, (total,))
    if count != total:
        assert isinstance(count, int)
        flat = sliced(flat, 0, offset, offset + count)
    ordered = reshaped(flat, dense) if dense else reshaped(flat, ())
    back = [order.index(i) for i in sorted(order)]
    shape = [size[i] if i in order else 1 for i in range(len(size))]
    return broadcast(reshaped(transposed(ordered, back), shape), size)


def _integers(given: Attr) -> tuple[int, ...]:
    return tuple(_integer(item) for item in (given if isinstance(given, tuple) else (given,)))


@rewrite(aten.meshgrid.default)
def lower_meshgrid(op: Op) -> list[Value]:
    return _grids(op, swapped=False)


@rewrite(aten.meshgrid.indexing)
def lower_meshgrid_indexing(op: Op) -> list[Value]:
    return _grids(op, swapped=op.attr("indexing") == "xy")


def _grids(op: Op, *, swapped: bool) -> list[Value]:
    """Each vector laid along its own axis and repeated along the others; ``xy`` swaps the first two."""
    vectors = [operand for operand in op.variadic("tensors") if isinstance(operand, Value)]
    grids = []
    for index, (vector, result) in enumerate(zip(vectors, op.results, strict=True)):
        along = {0: 1, 1: 0}.get(index, index) if swapped and len(vectors) > 1 else index
        line: list[Dim] = [1] * len(vectors)
        line[along] = vector.tensor.shape[0] if vector.rank else 1
        shape = result.tensor.shape
        grids.append(broadcast(reshaped(vector, line), shape))
    return grids


def _broadcast_tensors(op: Op) -> list[Value]:
    operands = [operand for operand in op.variadic("tensors") if isinstance(operand, Value)]
    return [broadcast(x, result.tensor.shape) for x, result in zip(operands, op.results, strict=True)]


RULES: list[Rule] = [
    *_each(RESHAPES, _reshape),
    *_each(PERMUTATIONS, _permute),
    *_each(_EXPANSIONS, _expand),
    lower_repeat,
    lower_tile,
    lower_repeat_interleave,
    lower_roll,
    lower_flip,
    lower_fliplr,
    lower_flipud,
    lower_rot90,
    lower_pixel_shuffle,
    lower_pixel_unshuffle,
    lower_nn_pixel_shuffle,
    lower_nn_pixel_unshuffle,
    *(rewrite(defn, name=_named(defn))(_lower_channel_shuffle) for defn in _SHUFFLES),
    rewrite(nn.channel_shuffle, name="lower_nn_channel_shuffle")(_lower_channel_shuffle),
    *(_dropout(defn, switch) for defn, switch in _DROPOUTS.items()),
    lower_as_strided,
    lower_meshgrid,
    lower_meshgrid_indexing,
    rewrite(aten.broadcast_tensors.default, name="lower_broadcast_tensors")(_broadcast_tensors),
]

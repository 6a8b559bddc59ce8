"""Views, permutations, repetitions, and what does nothing at inference.

    %x: f32[2,3,4]
    %y = aten.view.default(%x) {size=[2, -1]}           ->     %y = mil.reshape(%x, [2, 12])
    %y = aten.permute.default(%x) {dims=[0, 2, 1]}      ->     %y = mil.transpose(%x) {perm=[0, 2, 1]}

    %y = aten.expand.default(%x) {size=[4, -1]}     %x: f32[1,8]
        ->
    %y = mil.tile(%x, [4, 1])

Chains through a rank beyond 5 are lowered as a whole, in ``high_rank.py``.
"""

from __future__ import annotations

from anec.dialects import aten, mil, nn
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.movement import (
    broadcast,
    gathered,
    joined,
    permutation,
    rearranged,
    reshaped,
    source,
    transposed,
)
from anec.passes.lower_to_mil.permutation import divide, volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.symbolic import counted, scalar, vector
from anec.passes.lower_to_mil.typing import axes, axis, result_type, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite

# Ops whose result is the operand in row-major order, whatever their arguments.
RESHAPES = (
    "view view_copy view_as reshape reshape_as _unsafe_view _reshape_alias flatten.using_ints unflatten.int ravel "
    "squeeze squeeze.dim squeeze.dims squeeze_copy squeeze_copy.dim squeeze_copy.dims unsqueeze unsqueeze_copy "
    "atleast_1d atleast_2d atleast_3d"
).split()
PERMUTATIONS = (
    "permute permute_copy transpose.int transpose_copy.int t t_copy numpy_T mT adjoint matrix_H swapaxes swapdims "
    "movedim.int movedim.intlist moveaxis.int moveaxis.intlist"
).split()


@rewrite(each(*RESHAPES))
def reshape(op: Op) -> Value:
    """The recorded shape says all: -1, inferred and dropped axes are resolved in it."""
    return reshaped(source(op), result_type(op).shape)


@rewrite(each(*PERMUTATIONS))
def permute(op: Op) -> Value:
    """One transpose, or nothing when every axis stays."""
    x, order = source(op), permutation(op)
    if order is None:
        reject(f"{op.name} permutes in a way that is not known")
    return transposed(x, order)


@rewrite(each("expand", "expand_copy", "expand_as", "broadcast_to"))
def expand(op: Op) -> Value:
    """New axes and axes of size 1 are tiled."""
    return broadcast(source(op), result_type(op).shape)


def _tile(x: Value, reps: tuple[Attr, ...]) -> Value:
    times = [rep for rep in reps if isinstance(rep, Expr) or (isinstance(rep, int) and rep > 0)]
    if len(times) != len(reps):
        reject(f"a tensor repeated {reps} times is empty")
    wide = reshaped(x, (*(1,) * (len(reps) - x.rank), *x.tensor.shape))
    return wide if all(rep == 1 for rep in times) else mil.tile(wide, vector(times))


@rewrite(aten.repeat.default)
def repeat(op: Op) -> Value:
    """As many repetitions as axes, or more: new axes stand in front."""
    repeats = op.attr("repeats")
    assert isinstance(repeats, tuple)
    return _tile(source(op), repeats)


@rewrite(aten.tile.default)
def tile(op: Op) -> Value:
    """As ``repeat``, but missing repetitions are 1."""
    dims, x = op.attr("dims"), source(op)
    assert isinstance(dims, tuple)
    return _tile(x, (*(1,) * (x.rank - len(dims)), *dims))


@rewrite(aten.repeat_interleave.self_int)
def repeat_interleave(op: Op) -> Value:
    """Each entry ``repeats`` times in a row: [before, n * after] is tiled along a new axis between."""
    x, repeats, wanted = source(op), op.attr("repeats"), result_type(op).shape
    if not isinstance(repeats, (int, Expr)) or (isinstance(repeats, int) and repeats < 1):
        reject(f"{repeats} repetitions")
    if repeats == 1:
        return reshaped(x, wanted)
    dim = op.attr("dim")
    at = axis(dim, x.rank) if dim is not None else x.rank - 1
    shape = x.tensor.shape
    before, after = volume(shape[: at + 1]), volume(shape[at + 1 :])
    return reshaped(mil.tile(reshaped(x, (before, 1, after)), vector((1, repeats, 1))), wanted)


@rewrite(aten.roll.default)
def roll(op: Op) -> Value:
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
        assert isinstance(shift, (int, Expr))
        if not isinstance(size, int) or not isinstance(shift, int):
            at = _rolled(at, along, shift)
        elif shift % size:
            first, second = mil.split.many(at, split_sizes=(size - shift % size, shift % size), axis=along)
            at = joined([second, first], along)
    return reshaped(at, shape)


def _rolled(x: Value, at: int, shift: Dim) -> Value:
    """Roll by a symbolic shift, or along a symbolic size: entry i was entry (i - shift) mod n."""
    size = x.tensor.shape[at]
    return gathered(x, mil.mod(mil.sub(counted(size), scalar(shift)), scalar(size)), at)


@rewrite(each("flip", "fliplr", "flipud"))
def flip(op: Op) -> Value:
    """mil.reverse; of no axes it would be of all."""
    x = source(op)
    dims = {"fliplr": (1,), "flipud": (0,)}.get(op.defn.root) or op.attr("dims")
    return mil.reverse(x, axes=axes(dims, x.rank)) if dims and x.rank else x


@rewrite(aten.rot90.default)
def rot90(op: Op) -> Value:
    """A quarter turn swaps the two axes and reverses one of them; a half turn reverses both."""
    x, turns, dims = source(op), op.attr("k"), op.attr("dims")
    assert isinstance(dims, tuple)
    first, second = (axis(dim, x.rank) for dim in dims)
    swap = list(range(x.rank))
    swap[first], swap[second] = second, first
    quarter = _integer(turns) % 4
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
def pixel_shuffle(op: Op) -> Value:
    """mil.pixel_shuffle is channel-major, as torch is; depth_to_space is not."""
    return _pixel_shuffle(source(op), _integer(op.attr("upscale_factor")))


@rewrite(aten.pixel_unshuffle.default)
def pixel_unshuffle(op: Op, ctx: Context) -> Value:
    """Core ML has it from iOS16; a transpose does it before."""
    return _pixel_unshuffle(source(op), _integer(op.attr("downscale_factor")), ctx)


@rewrite(nn.pixel_shuffle)
def nn_pixel_shuffle(op: Op) -> Value:
    """As ``pixel_shuffle``."""
    return _pixel_shuffle(source(op, "x"), _integer(op.attr("factor")))


@rewrite(nn.pixel_unshuffle)
def nn_pixel_unshuffle(op: Op, ctx: Context) -> Value:
    """As ``pixel_unshuffle``."""
    return _pixel_unshuffle(source(op, "x"), _integer(op.attr("factor")), ctx)


@rewrite(each("channel_shuffle", "native_channel_shuffle"))
def channel_shuffle(op: Op) -> Value:
    """Channels are [groups, width], and become [width, groups]."""
    return _channel_shuffle(source(op), _integer(op.attr("groups")))


@rewrite(nn.channel_shuffle)
def nn_channel_shuffle(op: Op) -> Value:
    """As ``channel_shuffle``."""
    return _channel_shuffle(source(op, "x"), _integer(op.attr("groups")))


@rewrite(each("dropout", "native_dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"))
def dropout(op: Op) -> list[Value]:
    """Nothing at inference; the mask that native_dropout also gives is all true."""
    if op.attr("train") is not False and op.attr("p") not in (0, 0.0):
        raise UnsupportedError(
            f"{op.name} drops at random: the model was exported in training mode",
            where=op.origin.place,
            hint="call model.eval() before compiling",
        )
    x = value(op.operand("input"), result_type(op).dtype)
    if len(op.results) == 1 or not (op.results[1].uses or op.results[1].is_output):
        return [x]
    return [x, mil.fill(result_type(op, 1).static_shape, value=True)]


@rewrite(each("meshgrid", "meshgrid.indexing"))
def meshgrid(op: Op) -> list[Value]:
    """Each vector laid along its own axis and repeated along the others; ``xy`` swaps the first two."""
    swapped = "indexing" in op.defn.by_name and op.attr("indexing") == "xy"
    vectors = [operand for operand in op.variadic("tensors") if isinstance(operand, Value)]
    grids = []
    for index, (given, result) in enumerate(zip(vectors, op.results, strict=True)):
        along = {0: 1, 1: 0}.get(index, index) if swapped and len(vectors) > 1 else index
        line: list[Dim] = [1] * len(vectors)
        line[along] = given.tensor.shape[0] if given.rank else 1
        shape = result.tensor.shape
        grids.append(broadcast(reshaped(given, line), shape))
    return grids


@rewrite(aten.broadcast_tensors.default)
def broadcast_tensors(op: Op) -> list[Value]:
    """Every operand is tiled to the common shape."""
    operands = [operand for operand in op.variadic("tensors") if isinstance(operand, Value)]
    return [broadcast(x, result.tensor.shape) for x, result in zip(operands, op.results, strict=True)]


RULES: list[Rule] = [
    reshape,
    permute,
    expand,
    repeat,
    tile,
    repeat_interleave,
    roll,
    flip,
    rot90,
    pixel_shuffle,
    pixel_unshuffle,
    nn_pixel_shuffle,
    nn_pixel_unshuffle,
    channel_shuffle,
    nn_channel_shuffle,
    dropout,
    meshgrid,
    broadcast_tensors,
]

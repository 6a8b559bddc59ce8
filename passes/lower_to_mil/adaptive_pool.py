"""Adaptive pooling to any output size.

    %y = aten.adaptive_avg_pool2d.default(%x) {output_size=[1, 1]}     %x: f32[1,3,8,8]
        ->
    %y = mil.reduce_mean(%x) {axes=[2, 3], keep_dims=true}

Window j of an axis runs from floor(j I / O) to ceil((j + 1) I / O). Windows of one length and
distance are a plain pooling. Others are averaged by a matrix along each axis; for the maximum
they are gathered side by side, shorter ones with their last entry repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import mil, nn
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef
from anec.ir.types import DType
from anec.passes.lower_to_mil.axis_map import from_the_left
from anec.passes.lower_to_mil.constants import constant
from anec.passes.lower_to_mil.movement import gathered, reshaped
from anec.passes.lower_to_mil.pool import batched, floats_only, pool
from anec.passes.lower_to_mil.pool_indices import first_places, indices_used, windows_side_by_side
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.symbolic import counted, scalar
from anec.passes.lower_to_mil.typing import result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, any_of, reject, rest, rewrite


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows along one axis, as (start, end)."""

    bounds: tuple[tuple[int, int], ...]

    @staticmethod
    def of(size: int, count: int) -> Windows:
        return Windows(tuple((j * size // count, -((-(j + 1) * size) // count)) for j in range(count)))

    @property
    def longest(self) -> int:
        return max(end - start for start, end in self.bounds)

    @property
    def uniform(self) -> tuple[int, int] | None:
        """Length and distance of the windows, when all are alike."""
        lengths = {end - start for start, end in self.bounds}
        steps = {second[0] - first[0] for first, second in zip(self.bounds, self.bounds[1:], strict=False)}
        # A distance of 0 repeats the only entry there is.
        if len(lengths) != 1 or len(steps) > 1 or 0 in steps:
            return None
        return self.longest, steps.pop() if steps else self.longest

    @property
    def places(self) -> list[int]:
        """The entries of all windows, each window as long as the longest."""
        return [min(at, end - 1) for start, end in self.bounds for at in range(start, start + self.longest)]


def _windows(x: Value, sizes: Sequence[int]) -> list[Windows | None]:
    """Windows by space axis; None along an axis that stays as it is."""
    found: list[Windows | None] = []
    for given, wanted in zip(x.tensor.shape[2:], sizes, strict=True):
        if given == wanted:
            found.append(None)
        elif isinstance(given, Expr):
            reject(f"adaptive pooling of the symbolic size {given} to {wanted}")
        else:
            found.append(Windows.of(given, wanted))
    return found


def _global(x: Value, sizes: Sequence[Dim]) -> tuple[int, ...] | None:
    """The space axes to reduce whole, when the others stay as they are."""
    given = x.tensor.shape[2:]
    if any(want not in (1, have) for have, want in zip(given, sizes, strict=True)):
        return None
    return tuple(2 + axis for axis, (have, want) in enumerate(zip(given, sizes, strict=True)) if have != want)


def _uniform(kind: OpDef, x: Value, windows: Sequence[Windows | None]) -> tuple[Value, list[Windows | None]]:
    """Pool along the axes whose windows are alike; what is left of the others."""
    alike = [window.uniform if window is not None else (1, 1) for window in windows]
    kernel, stride = zip(*(found or (1, 1) for found in alike), strict=True)
    left = [None if found else window for found, window in zip(alike, windows, strict=True)]
    if all(length == 1 for length in kernel):
        return x, left
    return pool(kind, x, kernel, stride, []), left


def averaged(op: Op, x: Value, sizes: Sequence[int], ctx: Context) -> Value:
    """The adaptive average of ``[n, C, *space]``."""
    axes = _global(x, sizes)
    if axes is not None:
        return mil.reduce_mean(x, axes=axes, keep_dims=True) if axes else x
    for at, (given, wanted) in enumerate(zip(x.tensor.shape[2:], sizes, strict=True), 2):
        if given != wanted and isinstance(given, Expr):
            x = _weighted(x, at, _shares(given, wanted, x.tensor.dtype))
    x, left = _uniform(mil.avg_pool, x, _windows(x, sizes))
    for axis, window in enumerate(left):
        if window is not None:
            x = _by_matrix(op, x, 2 + axis, window, ctx)
    return x


def _shares(size: Dim, count: int, dtype: DType) -> Value:
    """The matrix [count, size] of the windows along a symbolic axis, computed as the program runs."""
    steps = mil.expand_dims(mil.mul(counted(count), scalar(size)), axes=(1,))
    start = mil.floor_div(steps, count)
    # The next window's start, rounded up.
    end = mil.floor_div(mil.add(mil.add(steps, scalar(size)), count - 1), count)
    places = counted(size)
    inside = mil.logical_and(mil.greater_equal(places, start), mil.less(places, end))
    return mil.real_div(value(inside, dtype), value(mil.sub(end, start), dtype))


def _by_matrix(op: Op, x: Value, at: int, windows: Windows, ctx: Context) -> Value:
    import torch

    size, count = x.tensor.shape[at], len(windows.bounds)
    assert isinstance(size, int)
    matrix = torch.zeros(count, size, dtype=torch.float64)
    for row, (start, end) in enumerate(windows.bounds):
        matrix[row, start:end] = 1 / (end - start)
    return _weighted(x, at, constant(ctx, op, matrix, "average", x.tensor.dtype))


def _weighted(x: Value, at: int, weight: Value) -> Value:
    """The product with a matrix [new size, size] along an axis."""
    return mil.matmul(x, weight, transpose_y=True) if at == x.rank - 1 else from_the_left(weight, x, at)


def maximum(x: Value, sizes: Sequence[int]) -> Value:
    """The adaptive maximum of ``[n, C, *space]``."""
    axes = _global(x, sizes)
    if axes is not None:
        return mil.reduce_max(x, axes=axes, keep_dims=True) if axes else x
    x, left = _uniform(mil.max_pool, x, _windows(x, sizes))
    kernel = [1] * len(left)
    for axis, window in enumerate(left):
        if window is not None:
            x = gathered(x, window.places, 2 + axis)
            kernel[axis] = window.longest
    if all(length == 1 for length in kernel):
        return x
    return pool(mil.max_pool, x, tuple(kernel), tuple(kernel), [])


def _sizes(given: Attr, x: Value, count: int) -> list[int]:
    items = given if isinstance(given, tuple) else (given,)
    items = items * count if len(items) == 1 else items
    have = x.tensor.shape[-count:]
    sizes: list[int] = []
    for item, size in zip(items, have, strict=True):
        wanted = size if item is None else item
        if not isinstance(wanted, (int, Expr)):
            reject(f"the output size {item} is no number")
        sizes.append(wanted)  # type: ignore[arg-type]  # a symbolic size only where it stays as it is
    return sizes


def _lower(op: Op, name: str, count: int, given: Attr, ctx: Context, *, average: bool) -> list[Value]:
    kind = result_type(op)
    x = value(op.operand(name), kind.dtype)
    whole = floats_only(op, batched(x, count))
    sizes = _sizes(given, x, count)
    results = [averaged(op, whole, sizes, ctx) if average else maximum(whole, sizes)]
    if indices_used(op):
        results.append(first_places(*windows_side_by_side(op, whole, _entries(whole, sizes), ctx), results[0]))
    return [result if whole is x else reshaped(result, kind.shape) for result in results]


def _entries(x: Value, sizes: Sequence[int]) -> list[list[list[int]]]:
    """The entries of the windows along each axis, each window as long as the longest."""
    found = []
    for size, wanted in zip(static(x.tensor)[2:], sizes, strict=True):
        windows = Windows.of(size, wanted)
        places, length = windows.places, windows.longest
        found.append([places[start : start + length] for start in range(0, len(places), length)])
    return found


@rewrite(each(*(f"adaptive_avg_pool{count}d" for count in (1, 2, 3)), "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"))
def adaptive_avg_pool(op: Op, ctx: Context) -> list[Value]:
    """The mean of each window."""
    return _lower(op, "self", _space(op), op.attr("output_size"), ctx, average=True)


@rewrite(each(*(f"adaptive_max_pool{count}d" for count in (1, 2, 3))))
def adaptive_max_pool(op: Op, ctx: Context) -> list[Value]:
    """The maximum of each window."""
    return _lower(op, "self", _space(op), op.attr("output_size"), ctx, average=False)


def _space(op: Op) -> int:
    return int(op.defn.root[-2])


@rewrite(any_of(nn.adaptive_avg_pool(rest), nn.adaptive_max_pool(rest)))
def nn_adaptive_pool(op: Op, ctx: Context) -> list[Value]:
    """As the two above; the length of ``size`` says how many axes are pooled."""
    size = op.attr("size")
    count = len(size) if isinstance(size, tuple) else 1
    return _lower(op, "x", count, size, ctx, average=op.defn is nn.adaptive_avg_pool)


RULES: list[Rule] = [adaptive_avg_pool, adaptive_max_pool, nn_adaptive_pool]

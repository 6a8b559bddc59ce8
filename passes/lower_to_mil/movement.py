"""Moving data: the reshapes and transposes every family builds, in their smallest form.

    reshaped(%x: f32[2,3], (2, 1, 3))     ->     mil.expand_dims(%x) {axes=[1]}
    reshaped(%x: f32[2,3], (6,))          ->     mil.reshape(%x, [6])
    reshaped(%x: f32[2,3], (2, 3))        ->     %x

None of these builds an op that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from anec.dialects import mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, planned
from anec.passes.lower_to_mil.symbolic import vector
from anec.passes.lower_to_mil.typing import MIL_NAMES, axis, result_type, value
from anec.rewrite import reject


def source(op: Op, name: str = "self") -> Value:
    """The operand that ``op`` moves, in the dtype of its result.

    Raises:
        Reject: it, or the result, has a rank beyond Core ML's; see ``high_rank.py``.
    """
    moved = value(op.operand(name), result_type(op).dtype)
    for at in (moved, *op.results):
        if at.rank > MAX_RANK:
            reject(f"%{at.name} has rank {at.rank}, Core ML's tensors have at most {MAX_RANK} axes")
    return moved


def reshaped(x: Value, shape: Sequence[Dim]) -> Value:
    """``x`` as ``shape``, by expand_dims or squeeze where only axes of size 1 come or go.

    Raises:
        Reject: an empty tensor, or a symbolic size that no input tells.
    """
    given, wanted = x.tensor.shape, tuple(shape)
    if given == wanted:
        return x
    if 0 in wanted or 0 in given:
        reject(f"a tensor of shape {list(wanted)} is empty, which Core ML does not have")
    added = _extra(wanted, given)
    if added is not None:
        return mil.expand_dims(x, axes=added)
    dropped = _extra(given, wanted)
    if dropped is not None:
        return mil.squeeze(x, axes=dropped)
    if sum(isinstance(size, Expr) for size in wanted) <= 1:
        return mil.reshape(x, tuple(-1 if isinstance(size, Expr) else size for size in wanted))
    return _reshaped_symbolically(x, wanted)


def only_units(given: Sequence[Dim], wanted: Sequence[Dim]) -> bool:
    """Whether :func:`reshaped` sees one shape as the other by adding or by dropping axes of size 1.

    >>> only_units((2, 3), (2, 1, 3)), only_units((1, 3), (3, 1))
    (True, False)
    """
    return tuple(given) == tuple(wanted) or not (_extra(wanted, given) is _extra(given, wanted) is None)


def _extra(longer: Sequence[Dim], shorter: Sequence[Dim]) -> tuple[int, ...] | None:
    """The axes of size 1 that ``longer`` has over ``shorter``; None when they differ otherwise."""
    extra: list[int] = []
    at = 0
    for index, size in enumerate(longer):
        if at < len(shorter) and size == shorter[at]:
            at += 1
        elif size == 1:
            extra.append(index)
        else:
            return None
    return tuple(extra) if at == len(shorter) else None


def _reshaped_symbolically(x: Value, wanted: tuple[Dim, ...]) -> Value:
    """A reshape with several symbolic sizes: 0 keeps the size at the same index, given equal ranks.

    Where that does not say it, the shape is computed.
    """
    given = x.tensor.shape
    for source_axes, target_axes in _paddings(len(given), len(wanted)):
        start, stop = _with_ones(given, source_axes), _with_ones(wanted, target_axes)
        sizes = [
            size if isinstance(size, int) else 0 if size == start[index] else -1 for index, size in enumerate(stop)
        ]
        if sizes.count(-1) <= 1:
            break
    else:
        return mil.reshape(x, vector(wanted))
    widened = mil.expand_dims(x, axes=source_axes) if source_axes else x
    result = mil.reshape(widened, tuple(sizes))
    return mil.squeeze(result, axes=target_axes) if target_axes else result


def _paddings(source_rank: int, target_rank: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    rank = max(source_rank, target_rank)
    for axes in combinations(range(rank), abs(source_rank - target_rank)):
        yield (axes, ()) if source_rank < target_rank else ((), axes)


def _with_ones(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> tuple[Dim, ...]:
    sizes = list(shape)
    for index in axes:
        sizes.insert(index, 1)
    return tuple(sizes)


def transposed(x: Value, perm: Sequence[int]) -> Value:
    """``x`` with its axes permuted; ``x`` itself when they stay."""
    return x if list(perm) == sorted(perm) else mil.transpose(x, perm=tuple(perm))


def moved(buffer: Value, movement: Movement, shape: Sequence[Dim]) -> Value:
    """The tensor that ``movement`` makes of ``buffer``, as ``shape``; at most rank 5 on the way."""
    at = buffer
    for sizes, perm in planned(buffer.tensor.shape, movement, shape):
        at = transposed(reshaped(at, sizes), perm)
    return reshaped(at, shape)


def rearranged(x: Value, sizes: Sequence[Dim], perm: Sequence[int], shape: Sequence[Dim]) -> Value:
    """``x.view(sizes).permute(perm).view(shape)``, whatever the rank of ``sizes``."""
    return moved(x, Movement.of(sizes).permuted(perm), shape)


def broadcast(x: Value, shape: Sequence[Dim]) -> Value:
    """``x`` repeated to ``shape``, which it broadcasts to.

    Raises:
        Reject: an empty tensor, or a symbolic size that no input tells.
    """
    if 0 in shape:
        reject(f"a tensor of shape {list(map(str, shape))} is empty, which Core ML does not have")
    wide = reshaped(x, (*(1,) * (len(shape) - x.rank), *x.tensor.shape))
    # A free size is never the 1 that is repeated, but it may be written in another way.
    own = wide.tensor.shape
    reps = [wanted if given == 1 else 1 for given, wanted in zip(own, shape, strict=True)]
    return reshaped(mil.tile(wide, vector(reps)) if any(rep != 1 for rep in reps) else wide, shape)


def sliced(
    x: Value, at: int, begin: int | None = None, end: int | None = None, step: int = 1, *, squeeze: bool = False
) -> Value:
    """``x[begin:end:step]`` along the axis ``at``, or ``x[begin]`` with ``squeeze``; None is an open end."""
    if squeeze:
        end = None if begin is None or begin == -1 else begin + 1

    def along(found: Attr, otherwise: Attr) -> tuple[Attr, ...]:
        return tuple(found if index == at else otherwise for index in range(x.rank))

    attrs: dict[str, Attr] = {
        "begin_mask": along(begin is None, True),
        "end_mask": along(end is None, True),
    }
    if step != 1:
        attrs["stride"] = along(step, 1)
    if squeeze:
        attrs["squeeze_mask"] = along(True, False)
    return mil.slice_by_index(x, along(begin or 0, 0), along(end or 0, 0), **attrs)


def gathered(x: Value, indices: Sequence[int] | Value, at: int) -> Value:
    """The entries of ``x`` at non-negative ``indices`` along the axis ``at``; any dtype."""
    dtype = x.tensor.dtype
    numbers = x if dtype is not DType.BOOL else mil.cast(x, dtype=MIL_NAMES[DType.I32])
    found = mil.gather(numbers, indices if isinstance(indices, Value) else tuple(indices), axis=at)
    return found if dtype is not DType.BOOL else mil.cast(found, dtype=MIL_NAMES[DType.BOOL])


def joined(values: Sequence[Value], at: int) -> Value:
    """The values one after the other along the axis ``at``."""
    return values[0] if len(values) == 1 else mil.concat(list(values), axis=at)


def permutation(op: Op) -> tuple[int, ...] | None:
    """Which axis of the operand each axis of the result is; None for an op that does not permute."""
    rank = op.value("self").rank if "self" in op.defn.by_name else 0
    root = op.defn.root.removesuffix("_copy")
    if root == "permute":
        dims = op.attr("dims")
        assert isinstance(dims, tuple)
        return tuple(axis(dim, rank) for dim in dims)
    if root in ("t", "numpy_T", "matrix_H"):
        return tuple(reversed(range(rank)))
    if root in ("mT", "mH", "adjoint"):
        return (*range(rank - 2), rank - 1, rank - 2)
    pair = {"transpose": ("dim0", "dim1"), "swapdims": ("dim0", "dim1"), "swapaxes": ("axis0", "axis1")}.get(root)
    if pair is not None:
        order = list(range(rank))
        first, second = (axis(op.attr(name), rank) for name in pair)
        if rank:
            order[first], order[second] = second, first
        return tuple(order)
    if root in ("movedim", "moveaxis"):
        return _moved_axes(_axes(op.attr("source"), rank), _axes(op.attr("destination"), rank), rank)
    return None


def _axes(given: Attr, rank: int) -> tuple[int, ...]:
    return tuple(axis(dim, rank) for dim in (given if isinstance(given, tuple) else (given,)))


def _moved_axes(sources: tuple[int, ...], destinations: tuple[int, ...], rank: int) -> tuple[int, ...]:
    placed = dict(zip(destinations, sources, strict=True))
    others = iter(index for index in range(rank) if index not in sources)
    return tuple(placed[index] if index in placed else next(others) for index in range(rank))


def permutation_to_end(last: Sequence[int], rank: int) -> tuple[int, ...]:
    """The permutation that puts the axes ``last`` at the end, in that order."""
    return (*(index for index in range(rank) if index not in last), *last)


def unsupported_rank(op: Op, reason: str) -> UnsupportedError:
    """The error for an op whose tensors have too many axes."""
    return UnsupportedError(
        f"{op.name} works on a tensor of rank {max(v.rank for v in (*op.inputs, *op.results))}: {reason}",
        where=op.origin.place,
        hint=f"Core ML's tensors have at most {MAX_RANK} axes; reshape the tensor in the model",
    )

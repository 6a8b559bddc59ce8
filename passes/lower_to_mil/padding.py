"""Padding: constant, reflect, replicate and circular; a negative pad crops.

    %y = aten.constant_pad_nd.default(%x) {pad=[1, 2], value=0.5}      %x: f32[2,8]
        ->
    %y = mil.pad(%x, [0, 0, 1, 2]) {constant_val=0.5}

torch lists the last axis first, MIL the first. Core ML pads floats only, and reflects and
replicates the last two axes only; integers are joined with constants, or gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import aten, mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.movement import gathered, joined, reshaped, sliced, source
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.symbolic import vector
from anec.passes.lower_to_mil.typing import number, value
from anec.rewrite import Rule, reject, rewrite

Pads = Sequence[tuple[int, int]]


def padded(x: Value, pads: Pads, fill: Attr) -> Value:
    """``x`` with a constant around it: (before, after) for each axis; negative ones crop."""
    for at, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            x = sliced(x, at, -before if before < 0 else None, after if after < 0 else None)
    grown = [(max(before, 0), max(after, 0)) for before, after in pads]
    if not any(before or after for before, after in grown):
        return x
    dtype = x.tensor.dtype
    if dtype.is_float:
        amounts = tuple(amount for pair in grown for amount in pair)
        return mil.pad(x, amounts, mode="constant", constant_val=number(fill, dtype))
    for at, (before, after) in enumerate(grown):
        edges = [_block(x, at, amount, number(fill, dtype)) for amount in (before, after)]
        x = joined([item for item in (edges[0], x, edges[1]) if item is not None], at)
    return x


def _block(x: Value, at: int, amount: int, fill: Attr) -> Value | None:
    if amount == 0:
        return None
    shape = list(x.tensor.shape)
    shape[at] = amount
    return mil.fill(vector(shape), value=fill)


def mirrored(x: Value, pads: Pads, mode: str) -> Value:
    """``x`` with its own entries around it, by ``reflect`` or ``replicate``."""
    rank = x.rank
    direct = [(0, 0)] * rank
    for at, (before, after) in enumerate(pads):
        if before == after == 0:
            continue
        size = x.tensor.shape[at]
        fits = isinstance(size, Expr) or max(before, after) < size + (mode == "replicate")
        if not x.tensor.dtype.is_float or min(before, after) < 0 or not fits:
            x = _by_index(x, at, before, after, mode)
        elif at >= rank - 2:
            direct[at] = (before, after)
        else:
            x = _mirrored_in_front(x, at, before, after, mode)
    if any(before or after for before, after in direct):
        x = mil.pad(x, tuple(amount for pair in direct for amount in pair), mode=mode)
    return x


def _mirrored_in_front(x: Value, at: int, before: int, after: int, mode: str) -> Value:
    """An axis in front of the last two: as the axis but one of three."""
    shape = x.tensor.shape
    folded = reshaped(x, (volume(shape[:at]), shape[at], volume(shape[at + 1 :])))
    grown = mil.pad(folded, (0, 0, before, after, 0, 0), mode=mode)
    return reshaped(grown, (*shape[:at], shape[at] + before + after, *shape[at + 1 :]))


def _by_index(x: Value, at: int, before: int, after: int, mode: str) -> Value:
    size = x.tensor.shape[at]
    if not isinstance(size, int):
        reject(f"{x.type} is padded along a symbolic size")
    places = range(-before, size + after)
    if mode == "reflect":
        indices = [(size - 1) - abs((size - 1) - abs(place)) for place in places]
    else:
        indices = [min(max(place, 0), size - 1) for place in places]
    return gathered(x, indices, at)


def wrapped(x: Value, pads: Pads) -> Value:
    """``x`` with its own entries around it, from the other end; what is cropped does not come back."""
    x = padded(x, [(min(before, 0), min(after, 0)) for before, after in pads], 0)
    for at, pair in enumerate(pads):
        before, after = (max(amount, 0) for amount in pair)
        size = x.tensor.shape[at]
        if isinstance(size, int) and max(before, after) > size:
            reject(f"a size of {size} is padded by {max(before, after)}, more than once around")
        if before or after:
            front = None if not before else x if before == size else sliced(x, at, _from_end(before, size))
            back = None if not after else x if after == size else sliced(x, at, None, after)
            x = joined([item for item in (front, x, back) if item is not None], at)
    return x


def _from_end(count: int, size: Dim) -> int:
    return size - count if isinstance(size, int) else -count


def _amounts(op: Op) -> tuple[Dim, ...]:
    given = op.attr("pad")
    assert isinstance(given, tuple)
    return tuple(amount for amount in given if isinstance(amount, (int, Expr)))


def _padded_symbolically(op: Op, x: Value) -> Value:
    """Padding by computed amounts, such as up to a multiple of a window; they are taken to be no crops."""
    amounts = _amounts(op)
    pairs: list[tuple[Dim, Dim]] = [(0, 0)] * (x.rank - len(amounts) // 2)
    pairs += [(amounts[i], amounts[i + 1]) for i in range(len(amounts) - 2, -1, -2)]
    if any(isinstance(amount, int) and amount < 0 for pair in pairs for amount in pair):
        reject("one side is cropped, and another padded by a symbolic size")
    if x.tensor.dtype.is_integer:
        reject("integers are padded by a symbolic size; pad floats")
    numbers = x if x.tensor.dtype.is_float else value(x, DType.F32)
    fill = number(op.attr("value") or 0, numbers.tensor.dtype)
    grown = mil.pad(numbers, vector([amount for pair in pairs for amount in pair]), mode="constant", constant_val=fill)
    return value(grown, x.tensor.dtype)


def _pads(op: Op, name: str, rank: int) -> list[tuple[int, int]]:
    given = op.attr(name)
    assert isinstance(given, tuple)
    amounts = [amount if isinstance(amount, int) else reject(f"the padding {amount} is symbolic") for amount in given]
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


@rewrite(aten.constant_pad_nd.default)
def constant_pad(op: Op) -> Value:
    """An absent value is 0."""
    x = source(op)
    if any(isinstance(amount, Expr) for amount in _amounts(op)):
        return _padded_symbolically(op, x)
    return padded(x, _pads(op, "pad", x.rank), op.attr("value") or 0)


@rewrite(each(*(f"{kind}_pad{count}d" for kind in ("reflection", "replication") for count in (1, 2, 3))))
def mirror_pad(op: Op) -> Value:
    """The op's name says the mode; leading axes, batch or not, stay."""
    x = source(op)
    mode = "reflect" if op.defn.root.startswith("reflection") else "replicate"
    return mirrored(x, _pads(op, "padding", x.rank), mode)


@rewrite(aten.pad.default)
def pad(op: Op) -> Value:
    """All modes of F.pad, before they are taken apart."""
    mode, x = op.attr("mode"), source(op)
    if mode == "constant" and any(isinstance(amount, Expr) for amount in _amounts(op)):
        return _padded_symbolically(op, x)
    pads = _pads(op, "pad", x.rank)
    if mode == "constant":
        return padded(x, pads, op.attr("value") or 0)
    if mode == "circular":
        return wrapped(x, pads)
    if mode not in ("reflect", "replicate"):
        raise UnsupportedError(f"{op.name} of the mode {mode!r}", where=op.origin.place)
    return mirrored(x, pads, str(mode))


RULES: list[Rule] = [constant_pad, mirror_pad, pad]

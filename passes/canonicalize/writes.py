"""Slices written in place: reads see past a write, and writes side by side are one concat.

    %1 = aten.slice.Tensor(%x) {dim=1, end=2}                          %x: f32[2,6]
    %2 = aten.exp.default(%1)
    %3 = aten.slice_scatter.default(%x, %2) {dim=1, end=2}
    %4 = aten.slice.Tensor(%3) {dim=1, start=2, end=5}
    %5 = aten.neg.default(%4)
    %y = aten.slice_scatter.default(%3, %5) {dim=1, start=2, end=5}
        ->
    %1 = aten.slice.Tensor(%x) {dim=1, end=2}
    %2 = aten.exp.default(%1)
    %4 = aten.slice.Tensor(%x) {dim=1, start=2, end=5, step=1}
    %5 = aten.neg.default(%4)
    %6 = aten.slice.Tensor(%x) {dim=1, start=5, end=6, step=1}
    %y = aten.cat.default([%2, %5, %6]) {dim=1}

Detectors decode boxes so (``y[..., 0:2] = ...``), and loops fill a tensor of zeros piece by piece. Each
write copies the whole tensor, and reads in between hold it up. ``x[m] = y[m] / z[m]`` picks a number of
elements that only the run decides, which Core ML cannot hold: it is a choice between whole tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.common import rebuild
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_WRITES = ("slice_scatter", "select_scatter")
# A stack has one more, and Core ML five.
_MOST_AXES = 4
_ELEMENTWISE = frozenset(
    "_to_copy abs add atan2 ceil clamp clamp_max clamp_min cos div erf exp floor fmod gelu log log10 log1p log2 "
    "maximum minimum mul neg pow reciprocal relu remainder round rsqrt rsub sigmoid sign silu sin sqrt square sub "
    "tanh to".split()
)
# What makes a column of a matrix of places.
_COLUMNS = frozenset("unbind select squeeze view reshape flatten".split())
_write = any_of(aten.slice_scatter.default(rest).named("written"), aten.select_scatter.default(rest).named("written"))
_twice = any_of(aten.slice_scatter.default(_write, rest), aten.select_scatter.default(_write, rest))


@dataclass(frozen=True, slots=True)
class Write:
    """``source`` in the places of an axis of ``base``.

    Args:
        base: what is written to.
        source: what is written; without the axis if ``is_selected``.
        axis: the axis.
        places: where on it.
        is_selected: one place was written, by its index.
    """

    base: Value
    source: Value
    axis: int
    places: range
    is_selected: bool

    @property
    def whole(self) -> Value:
        """The source with all axes."""
        return aten.unsqueeze.default(self.source, dim=self.axis) if self.is_selected else self.source


def places_of(op: Op, x: Value) -> tuple[int, range] | None:
    """The axis of ``x`` and the places on it that a slice, selection or write speaks of."""
    dim = op.attr("dim")
    axis = dim % x.rank if isinstance(dim, int) else None
    if axis is None or not isinstance(size := x.tensor.shape[axis], int):
        return None
    if op.defn.root in ("select", "select_scatter"):
        index = op.attr("index")
        return (axis, range(index % size, index % size + 1)) if isinstance(index, int) else None
    bounds = [bound for name in ("start", "end", "step") if isinstance(bound := op.attr(name), (int, type(None)))]
    return (axis, range(size)[slice(*bounds)]) if len(bounds) == 3 else None


def write_of(value: Value) -> Write | None:
    """The write that made ``value``, where its places and types are plain."""
    op = value.op
    if op is None or op.defn.dialect != aten.name or op.defn.root not in _WRITES:
        return None
    base, source = op.operand("self"), op.operand("src")
    if not isinstance(base, Value) or not isinstance(source, Value):
        return None
    found = places_of(op, base)
    if found is None or not found[1] or not base.tensor.dtype is source.tensor.dtype is value.tensor.dtype:
        return None
    return Write(base, source, *found, op.defn.root == "select_scatter")


def _covers(outer: range, inner: range) -> bool:
    """Whether all of ``inner`` lies in ``outer``; neither is empty."""
    return inner[0] in outer and inner[-1] in outer and (len(inner) == 1 or inner.step % outer.step == 0)


def _meet(one: range, other: range) -> bool:
    """Whether two ranges have a number in common; neither is empty, and steps are above 0."""
    first = max(0, -((one[0] - other[0]) // one.step))
    # What is left of a division by a step comes back after as many numbers as the step is large.
    return any(place in other for place in one[first : first + other.step])


def _size(x: Value, axis: int) -> int:
    """The size of an axis whose places are known; those of others may be symbolic."""
    size = x.tensor.shape[axis]
    assert isinstance(size, int)
    return size


def _read(x: Value, axis: int, places: range) -> Value:
    if places == range(_size(x, axis)):
        return x
    return aten.slice.Tensor(x, dim=axis, start=places.start, end=places[-1] + 1, step=places.step)


@rewrite(any_of(aten.slice.Tensor(_write, rest), aten.select.int(_write, rest)))
def read_past_write(op: Op, written: Value) -> Value:
    """A read of what was written, or of what was left alone.

    %x: f32[2,6], %z: f32[2]
    %1 = aten.select_scatter.default(%x, %z) {dim=1, index=0}
    %y = aten.select.int(%1) {dim=1, index=3}
        ->
    %y = aten.select.int(%x) {dim=1, index=3}
    """
    write, found = write_of(written), places_of(op, written)
    if write is None:
        reject("where it writes is not known, or it converts")
    if found is None or found[0] != write.axis or not found[1]:
        reject("it reads along another axis")
    axis, places = found
    is_selection = op.defn.root == "select"
    if not _meet(places, write.places):
        if is_selection:
            return aten.select.int(write.base, dim=axis, index=places[0])
        return aten.slice.Tensor(write.base, dim=axis, start=places.start, end=places[-1] + 1, step=places.step)
    if not _covers(write.places, places):
        reject("it reads both what was written and what was not")
    if is_selection and write.is_selected:
        return write.source
    first = write.places.index(places[0])
    if is_selection:
        return aten.select.int(write.source, dim=axis, index=first)
    step = max(1, places.step // write.places.step)
    return _read(write.whole, axis, range(first, first + (len(places) - 1) * step + 1, step))


@rewrite(_twice)
def drop_overwritten(op: Op, written: Value) -> Value:
    """A write under another one that covers it is not seen.

    %x: f32[2,6], %w: f32[2,2], %z: f32[2,4]
    %1 = aten.slice_scatter.default(%x, %w) {dim=1, start=2, end=4}
    %y = aten.slice_scatter.default(%1, %z) {dim=1, start=2}
        ->
    %y = aten.slice_scatter.default(%x, %z) {dim=1, start=2, end=6}
    """
    outer, inner = write_of(op.result), write_of(written)
    if outer is None or inner is None or inner.axis != outer.axis:
        reject("they write along different axes, or convert")
    if not _covers(outer.places, inner.places):
        reject("the first write is seen")
    if outer.is_selected:
        return aten.select_scatter.default(inner.base, outer.source, dim=outer.axis, index=outer.places.start)
    first, last = outer.places[0], outer.places[-1]
    return aten.slice_scatter.default(
        inner.base, outer.source, dim=outer.axis, start=first, end=last + 1, step=outer.places.step
    )


@rewrite(_twice)
def join_writes(op: Op) -> Value:
    """Writes that follow one another along an axis are a concat, with what is left between them.

    %x: f32[2,6], %v: f32[2,2], %w: f32[2,4]
    %1 = aten.slice_scatter.default(%x, %v) {dim=1, end=2}
    %y = aten.slice_scatter.default(%1, %w) {dim=1, start=2}     ->     %y = aten.cat.default([%v, %w]) {dim=1}

    Writes that take turns, as sines and cosines do, are a stack.
    """
    writes = _chain(op)
    base, axis = writes[0].base, writes[0].axis
    steps = {write.places.step for write in writes if len(write.places) > 1} or {1}
    if steps != {1}:
        return _interleaved(op, writes, steps)
    # From where to where each tensor holds the places of the axis, and at which of its own it begins.
    held: list[tuple[int, int, Write | None, int]] = [(0, _size(base, axis), None, 0)]
    for write in writes:
        start, stop = write.places[0], write.places[-1] + 1
        before = [(low, min(high, start), by, own) for low, high, by, own in held if low < start]
        after = [(max(low, stop), high, by, own + max(stop - low, 0)) for low, high, by, own in held if high > stop]
        held = [*before, (start, stop, write, 0), *after]
    if base.op is not None and base.op.defn is nn.read_state and any(by is None for _, _, by, _ in held):
        reject("a state is written in place")
    pieces = ((base if by is None else by.whole, range(own, own + high - low)) for low, high, by, own in held)
    return aten.cat.default([_read(holder, axis, places) for holder, places in pieces], dim=axis)


def _chain(op: Op) -> list[Write]:
    """The writes that end in ``op``, first to last; only the last shows what they make."""
    last = write_of(op.result)
    if last is None:
        reject("where it writes is not known, or it converts")
    for user in _readers(op.result):
        behind = write_of(user.results[0])
        if behind is not None and behind.base is op.result and behind.axis == last.axis:
            reject("a later write joins it")
    writes, first = [last], last.base
    while (inner := write_of(first)) is not None and inner.axis == last.axis and _has_one_reader(first):
        writes.append(inner)
        first = inner.base
    return writes[::-1] if len(writes) > 1 else reject("they write along different axes, or the first has other users")


def _readers(value: Value) -> list[Op]:
    """The ops that use ``value`` and are used: a copy into a slice leaves a slice that nothing reads."""
    return [user for user in dict.fromkeys(value.users) if any(r.uses or r.is_output for r in user.results)]


def _has_one_reader(value: Value) -> bool:
    return len(_readers(value)) == 1 and not value.is_output


def _interleaved(op: Op, writes: list[Write], steps: set[int]) -> Value:
    sources = {write.places[0]: write.whole for write in writes}
    if not op.result.tensor.is_static or op.result.rank > _MOST_AXES:
        reject("its shape is symbolic, or has too many axes")
    if steps != {len(writes)} or set(sources) != set(range(len(writes))):
        reject("some places are not written, or several times")
    axis = writes[0].axis
    size = op.result.shape[axis]
    if any(len(write.places) * len(writes) != size for write in writes):
        reject("they write different numbers of places, or not the last ones")
    stacked = aten.stack.default([sources[first] for first in sorted(sources)], dim=axis + 1)
    return aten.view.default(stacked, size=op.result.tensor.static_shape)


def _mask_of(op: Op) -> Value | None:
    """The mask over the first axes by which ``op`` reads or writes, where it is all that says where."""
    indices = [index for index in op.variadic("indices") if isinstance(index, Value)]
    if not indices or len(indices) != len(op.variadic("indices")):
        return None
    if indices[0].tensor.dtype is DType.BOOL:
        return indices[0] if len(indices) == 1 else None
    return _mask_of_places(indices)


def _mask_of_places(indices: list[Value]) -> Value | None:
    """The mask whose true places the indices are, an axis each: the columns of its ``nonzero``."""
    columns = [_column(index) for index in indices]
    if columns[0] is None:
        return None
    nonzero, _ = columns[0]
    mask = nonzero.value("self")
    is_whole = columns == [(nonzero, axis) for axis in range(mask.rank)]
    return mask if is_whole and mask.tensor.dtype is DType.BOOL else None


def _column(index: Value) -> tuple[Op, int] | None:
    """The ``nonzero`` of which ``index`` is a column, and which one."""
    op = index.op
    if op is None or op.defn.root not in _COLUMNS or op.defn.dialect != aten.name:
        return None
    places = op.value("self")
    if places.op is None or places.op.defn.root != "nonzero" or index.rank != 1:
        return None
    if op.defn.root == "unbind":
        return (places.op, op.results.index(index)) if op.attr("dim") in (1, -1) else None
    if op.defn.root == "select":
        number = op.attr("index")
        return (places.op, number) if op.attr("dim") in (1, -1) and isinstance(number, int) else None
    return (places.op, 0) if places.tensor.shape[1] == 1 else None


def _same(one: Value, other: Value) -> bool:
    """Whether two masks are one, or are computed alike from the same values."""
    if one is other:
        return True
    a, b = one.op, other.op
    if a is None or b is None or a.results.index(one) != b.results.index(other):
        return False
    return (a.defn, a.operands, a.attrs) == (b.defn, b.operands, b.attrs)


def _whole(given: Operand, mask: Value, x: Value) -> Operand:
    """``given``, computed for all places instead of those of the mask.

    Raises:
        Reject: it is made of something else than what the same mask reads, and what all places share.
    """
    if not isinstance(given, Value) or (given.tensor.is_static and given.rank <= x.rank - mask.rank):
        return given
    op = given.op
    if op is None or op.defn.dialect not in (aten.name, nn.name):
        reject("what is written was not read by the mask")
    if op.defn.root == "index":
        by, source = _mask_of(op), op.value("self")
        if by is None or not _same(by, mask) or not _lies_alike(source, mask, x):
            reject("it was read by another mask, or from another place")
        return source
    if op.defn.root == "linear" and x.rank > mask.rank and op.value("weight").tensor.is_static:
        return rebuild(op, input=_whole(op.operand("input"), mask, x))
    if op.defn.root not in _ELEMENTWISE or len(op.results) != 1:
        reject(f"{op.defn.root} does not treat each place by itself")
    wide = {name: _whole(operand, mask, x) for name, operand in op.arguments().items() if isinstance(operand, Value)}
    return rebuild(op, **wide)


def _lies_alike(source: Value, mask: Value, x: Value) -> bool:
    """Whether the mask lies on the same axes of ``source`` and ``x``."""
    return source.rank == x.rank and source.tensor.shape[: mask.rank] == x.tensor.shape[: mask.rank]


@rewrite(aten.index_put.default(rest))
def choose_by_mask(op: Op) -> Value:
    """A mask's places replaced by what was read from the same places, and worked on: a choice.

    ; sketch: how many places a mask has cannot be written down
    %1 = aten.index.Tensor(%z, [%m])
    %y = aten.index_put.default(%x, [%m], %1)     ->     %y = aten.where.self(%m, %z, %x)
    """
    x, new, mask = op.operand("self"), op.operand("values"), _mask_of(op)
    if mask is None or op.attr("accumulate") or not isinstance(x, Value):
        reject("it is not written by one mask")
    if not isinstance(new, Value) or new.tensor.is_static:
        reject("what is written has a known size")
    made = _whole(new, mask, x)
    if not isinstance(made, Value) or made.tensor.dtype is not x.tensor.dtype or made.rank != x.rank:
        reject("it is converted on the way")
    for _ in range(x.rank - mask.rank):
        mask = aten.unsqueeze.default(mask, dim=mask.rank)
    return aten.where.self(mask, made, x)


@rewrite(aten.index_put.default(rest))
def write_by_mask(op: Op) -> Value:
    """The true places of a mask, found first and then written, are written by the mask: ``x[torch.where(m)] = 0``.

    ; sketch: how many places a mask has cannot be written down
    %1 = aten.nonzero.default(%m)
    %2, %3 = aten.unbind.int(%1) {dim=1}
    %y = aten.index_put.default(%x, [%2, %3], 0)     ->     %y = aten.index_put.default(%x, [%m], 0)
    """
    mask = _mask_of(op)
    if mask is None or mask is op.variadic("indices")[0]:
        reject("its indices are not all the places of a mask")
    return aten.index_put.default(
        op.operand("self"), [mask], op.operand("values"), accumulate=bool(op.attr("accumulate"))
    )


RULES: list[Rule] = [read_past_write, drop_overwritten, join_writes, choose_by_mask, write_by_mask]

"""What tells an op where to read: values that lose pixels in float16.

A point of an image of 256 pixels, given in [-1, 1], moves by up to a sixteenth of a pixel in
float16, and from 2048 on float16 skips whole numbers. So whatever becomes an index of a gather or
scatter, a coordinate of ``resample`` or a box of ``crop_resize`` is computed in float32, back to
where convolutions and products with weights made it: their rounding is an error of the model's
numbers, not of an address. So is what is cast to whole numbers: a count, a position, a bucket.
What is made of such points alone stays as well, weights and masks:

    %f = mil.floor(%p)      %p and %f become an index, so they stay
    %t = mil.sub(%p, %f)    hence this stays too: in float16, 200.3 - 200 is 0.25
    %y = mil.mul(%x, %t)    this does not: %x is no point
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import LayoutKind
from anec.ir.types import DType

# The operands that say where.
PLACES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gather", "gather_along_axis", "gather_nd"), ("indices",)),
    **dict.fromkeys(("scatter", "scatter_along_axis", "scatter_nd"), ("indices",)),
    "resample": ("coordinates",),
    "crop_resize": ("boxes", "roi"),
}
_MOVES = frozenset(
    "reshape transpose expand_dims squeeze slice_by_index slice_by_size concat stack split tile reverse pad "
    "reduce_sum reduce_max reduce_min cumsum".split()
)
# A product of this many terms transforms points: rotations, and the homogeneous ones of volumes.
_MOST_TERMS = 4


def coordinates(graph: Graph, constant: set[Value]) -> set[Op]:
    """The ops that compute where others read, and what is made of the same points.

    Args:
        graph: a function of mil ops.
        constant: the values that are constant; nothing is computed there.
    """
    kept: set[Op] = set()
    stack = [place for op in graph.ops() for place in (*places(op), *_whole(op))]
    while stack:
        op = stack.pop().op
        if op is not None and op not in kept and op.results[0] not in constant and _is_cheap(op):
            kept.add(op)
            stack.extend(op.inputs)
    inputs = set(graph.inputs)
    points = {value for op in kept for value in (*op.results, *(v for v in op.inputs if v in inputs))}
    for op in graph.ops():
        if op not in kept and _is_cheap(op) and _only(op, points, constant):
            kept.add(op)
            points.update(op.results)
    return kept


def places(op: Op) -> list[Value]:
    """The operands of ``op`` that say where it reads or writes."""
    names = PLACES.get(op.defn.root, ()) if op.defn.dialect == mil.name else ()
    found = (op.operand(name) for name in names if name in op.defn.by_name)
    return [operand for operand in found if isinstance(operand, Value)]


def _whole(op: Op) -> list[Value]:
    """The whole numbers that ``op`` casts floats to, which were computed from others."""
    if op.name != "mil.cast" or not op.result.tensor.dtype.is_integer:
        return []
    x = op.value("x")
    return [op.result] if x.tensor.dtype is DType.F32 and x.op is not None and _is_cheap(x.op) else []


def _is_cheap(op: Op) -> bool:
    """True for arithmetic on each element, moves, and products that transform points."""
    if op.defn.root == "matmul":
        left = op.value("x").tensor.shape
        terms = left[-2 if op.attr("transpose_x") else -1] if len(left) > 1 else left[-1]
        return isinstance(terms, int) and terms <= _MOST_TERMS
    return op.defn.layout.kind is LayoutKind.ELEMENTWISE or op.defn.root in _MOVES


def _only(op: Op, points: set[Value], constant: set[Value]) -> bool:
    """True when the floats that ``op`` computes with are points and constants."""
    varying = [value for value in op.inputs if value not in constant and value.tensor.dtype is DType.F32]
    return bool(varying) and points.issuperset(varying)


__all__ = ["PLACES", "coordinates", "places"]

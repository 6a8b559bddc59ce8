"""What tells an op where to read: values that lose pixels in float16.

A point of an image of 256 pixels, given in [-1, 1], moves by up to a sixteenth of a pixel in
float16, and from 2048 on float16 skips whole numbers. So whatever becomes an index of a gather or
scatter, a coordinate of ``resample`` or a box of ``crop_resize`` is computed in float32, back to
where convolutions and products with weights made it: their rounding is an error of the model's
numbers, not of an address. So is what is cast to whole numbers: a count, a position, a bucket. And so
is an angle that inputs alone make, a position or a time step times frequencies: beside 999 float16
knows 998.5 and 999.5 only. What is made of such points alone stays as well, weights and masks:

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
# The coordinates of a point: of volumes, and homogeneous.
_COORDINATES = 4
_PERIODIC = frozenset(("mil.sin", "mil.cos", "mil.tan"))


def coordinates(graph: Graph, constant: set[Value]) -> set[Op]:
    """The ops that compute where others read, and what is made of the same points.

    Args:
        graph: a function of mil ops.
        constant: the values that are constant; nothing is computed there.
    """
    kept: set[Op] = set()
    given = _from_inputs(graph, constant)
    stack = [place for op in graph.ops() for place in (*places(op), *_whole(op, constant), *_angle(op, given))]
    while stack:
        op = stack.pop().op
        if op is None or op in kept or op.results[0] in constant:
            continue
        if op in given or _is_cheap(op, constant):
            kept.add(op)
            stack.extend(op.inputs)
    inputs = set(graph.inputs)
    points = {value for op in kept for value in (*op.results, *(v for v in op.inputs if v in inputs))}
    for op in graph.ops():
        if op not in kept and _is_cheap(op, constant) and _only(op, points, constant):
            kept.add(op)
            points.update(op.results)
    return kept


def places(op: Op) -> list[Value]:
    """The operands of ``op`` that say where it reads or writes."""
    names = PLACES.get(op.defn.root, ()) if op.defn.dialect == mil.name else ()
    found = (op.operand(name) for name in names if name in op.defn.by_name)
    return [operand for operand in found if isinstance(operand, Value)]


def _whole(op: Op, constant: set[Value]) -> list[Value]:
    """The whole numbers that ``op`` casts floats to, which were computed from others."""
    if op.name != "mil.cast" or not op.result.tensor.dtype.is_integer:
        return []
    x = op.value("x")
    return [op.result] if x.tensor.dtype is DType.F32 and x.op is not None and _is_cheap(x.op, constant) else []


def _from_inputs(graph: Graph, constant: set[Value]) -> set[Op]:
    """The ops that take inputs, whole numbers and each other alone, and compute little."""
    found: set[Op] = set()
    inputs = set(graph.inputs)
    for op in graph.ops():
        if _is_cheap(op, constant) or _is_map(op, constant):
            varying = [value for value in op.inputs if value not in constant]
            if varying and all(v in inputs or v.op in found or not v.tensor.dtype.is_float for v in varying):
                found.add(op)
    return found


def _angle(op: Op, given: set[Op]) -> list[Value]:
    """The periodic function of an angle that inputs alone make."""
    return [op.result] if op.name in _PERIODIC and op in given else []


def _is_map(op: Op, constant: set[Value]) -> bool:
    """True for a constant map of each point's coordinates: random Fourier features, the first layer of a field."""
    if op.name not in ("mil.linear", "mil.conv") or op.operand("weight") not in constant:
        return False
    terms, *kernel = op.value("weight").tensor.shape[1:]
    return isinstance(terms, int) and terms <= _COORDINATES and all(size == 1 for size in kernel)


def _is_cheap(op: Op, constant: set[Value]) -> bool:
    """True for arithmetic on each element, moves, and products that transform points.

    A product rotates points (its terms are their coordinates), or it is a constant map from points
    to points, as of a spline (their coordinates stay the last axis).
    """
    if op.defn.root == "matmul":
        left, right = op.value("x").tensor.shape, op.value("y").tensor.shape
        terms = left[-2 if op.attr("transpose_x") else -1] if len(left) > 1 else left[-1]
        columns = right[-2 if op.attr("transpose_y") else -1] if len(right) > 1 else 1
        mapped = op.value("x") in constant and isinstance(columns, int) and 1 < columns <= _COORDINATES
        return mapped or (isinstance(terms, int) and terms <= _COORDINATES)
    return op.defn.layout.kind is LayoutKind.ELEMENTWISE or op.defn.root in _MOVES


def _only(op: Op, points: set[Value], constant: set[Value]) -> bool:
    """True when the floats that ``op`` computes with are points and constants."""
    varying = [value for value in op.inputs if value not in constant and value.tensor.dtype is DType.F32]
    return bool(varying) and points.issuperset(varying)


__all__ = ["PLACES", "coordinates", "places"]

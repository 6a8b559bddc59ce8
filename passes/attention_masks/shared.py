"""What the rules beside it say of masks: who sees a key, what is added, what is always true."""

from __future__ import annotations

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.algebra import in_dtype
from anec.passes.common import tensor, uniform
from anec.passes.mask_bounds import HIDDEN

query, key, values = tensor("query"), tensor("key"), tensor("values")
mask = tensor("mask")
# Scores beyond 39000 would tell a bound from minus infinity.
SCORES = {"query": (-4.0, 4.0), "key": (-4.0, 4.0)}
# A query that sees a key has a number above this in its row of a mask that ends at -40000.
VISIBLE = HIDDEN / 2


def without_true(value: Value) -> Value:
    """``value`` without sides of a conjunction that are true everywhere."""
    while (op := value.op) is not None and op.defn.root in ("bitwise_and", "logical_and", "__and__"):
        sides = [op.operand("self"), op.operand("other")] if value.tensor.dtype is DType.BOOL else []
        other = next((b for a, b in (sides, sides[::-1]) if uniform(a) == 1), None) if sides else None
        if not isinstance(other, Value) or other.tensor.dtype is not DType.BOOL:
            break
        value = other
    return value


def masked(op: Op, mask: Value | None, scoring: Value | None = None) -> Value:
    """The attention again with another mask, which holds what was causal in it."""
    attrs = {name: found for name, found in op.attrs.items() if name != "causal"}
    query = op.value("query") if scoring is None else aten.mul.Tensor(op.value("query"), scoring)
    return nn.attention(query, op.value("key"), op.value("value"), mask, **attrs)


def added(seen: Value, number: float = HIDDEN) -> Value:
    """0 where a bool, held as a float, is true, and a low number elsewhere."""
    return aten.mul.Tensor(aten.sub.Tensor(seen, 1.0), -number)


def finite(mask: Value) -> float:
    """The lowest finite number of the mask's dtype: a sum of two is -inf."""
    return -mask.tensor.dtype.largest


def largest(mask: Value) -> Value:
    """The largest number of each row."""
    return aten.amax.default(mask, (-1,), keepdim=True)


def above(highest: Value, dtype: DType, number: float = VISIBLE) -> Value:
    """1 for each query whose largest number is above ``number``, 0 for the others."""
    return in_dtype(aten.gt.Scalar(highest, number), dtype)


def seen_by(mask: Value, dtype: DType) -> Value:
    """1 for each query that has a key it sees, 0 for the others."""
    return above(largest(mask), dtype)


def lowered(mask: Value, highest: Value) -> Value:
    """A mask less the largest number of each row, by which no weight changes, down to -40000.

    What hides the keys of a row that sees none is 0 then, and what hides more, as -inf does, hides still.
    """
    return aten.clamp_min.default(aten.sub.Tensor(mask, aten.clamp_min.default(highest, finite(mask))), HIDDEN)


def unlowered(mask: Value) -> Value | None:
    """The mask that :func:`lowered` bounds as ``mask``, None for another."""
    if mask.op is None or mask.op.defn is not aten.sub.Tensor:
        return None
    given, at = mask.op.inputs[0], mask.op.operand("other")
    for defn in (aten.clamp_min.default, aten.amax.default):
        if not isinstance(at, Value) or at.op is None or at.op.defn is not defn:
            return None
        at = at.op.operand("self")
    return given if at is given else None


def is_seen_by(product: Op | None, mask: Value) -> bool:
    """Whether an op multiplies by :func:`seen_by` of this mask."""
    if product is None or product.name != "aten.mul.Tensor":
        return False
    at = product.operand("other")
    for name in ("aten._to_copy.default", "aten.gt.Scalar", "aten.amax.default"):
        if not isinstance(at, Value) or at.op is None or at.op.name != name:
            return False
        at = at.op.operand("self")
    return at is mask

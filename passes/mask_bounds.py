"""The least number that a mask of attention is made to hold, read off the ops that make it.

A mask is numbers between which something chooses, sums of them, and what is handed in. It is no range
of all its values: a bias that a model computes counts as 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from anec.ir.facts import scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind
from anec.ir.weights import Weight

# float16 holds it with a score of up to 25000 beside it, but not two of it: where masks are added, the sum is bounded.
HIDDEN = -4e4
# A mask that goes no lower needs no bound.
LEAST = -6e4
_REACH = 24
_BOUNDS = {"clamp_min": "min", "clamp": "min", "clip": "alpha", "maximum": "y"}
_SUMS = frozenset("add sub rsub".split())
_FOLLOWED = frozenset(
    "add sub rsub mul div real_div neg where select masked_fill _to_copy to type_as cast view _unsafe_view reshape "
    "permute transpose expand tile slice slice_by_index unsqueeze expand_dims squeeze clone cat concat repeat triu "
    "tril maximum minimum reciprocal full full_like fill index index_select gather embedding".split()
)
_NUMBERS = frozenset("self other value fill_value".split())


def lowest(value: Value, unknown: float = 0.0, *, infinite: bool = True) -> float:
    """The least number ``value`` is made to hold.

    Args:
        value: a float mask, of any dialect.
        unknown: what ops count as that are not read.
        infinite: whether -inf counts where a constant or a choice holds it.

    Returns:
        -inf for an input.
    """
    return _Reading(unknown, infinite).lowest(value, _REACH)


@dataclass(slots=True)
class _Reading:
    """One question asked of a mask; what ops share is read once for each number of ops left to follow."""

    unknown: float
    infinite: bool
    memo: dict[tuple[Value, int], float] = field(default_factory=dict)

    def lowest(self, value: Value, reach: int) -> float:
        found = self.memo.get((value, reach))
        if found is None:
            found = self.memo[value, reach] = self.read(value, reach)
        return found

    def read(self, value: Value, reach: int) -> float:
        op = value.op
        if value.weight is not None:
            return self.of_weight(value.weight)
        if op is None or op.defn.root == "log":
            return -math.inf
        bound = _bound(op)
        if bound is not None:
            return bound
        if _is_added(op):
            return HIDDEN
        if not reach or op.defn.root not in _FOLLOWED:
            return self.unknown
        found = [self.lowest(operand, reach - 1) for operand in op.inputs if operand.tensor.dtype.is_float]
        found += [one for one in _numbers(op) if self.infinite or math.isfinite(one)]
        if op.defn.root in _SUMS:
            return sum(min(one, 0.0) for one in found)
        # A large number hides whatever its sign is: it may be multiplied by -1, or subtracted.
        return min((one if one < 0 else -one if one >= -LEAST else 0.0 for one in found), default=0.0)

    def of_weight(self, weight: Weight) -> float:
        if weight.data is None:
            return self.unknown
        low = weight.extent()[0]
        if self.infinite or low > -math.inf:
            return low
        numbers = weight.tensor()
        return float(numbers.masked_fill(numbers == -math.inf, math.inf).min())


def _bound(op: Op) -> float | None:
    """The number below which a bounded value never is."""
    name = _BOUNDS.get(op.defn.root)
    if name is None or name not in op.defn.by_name:
        return None
    found = op.attr(name) if op.defn.by_name[name].kind is Kind.ATTR else scalar_of(op.operand(name))
    return float(found) if isinstance(found, (int, float)) else None


def _is_added(op: Op) -> bool:
    """Whether ``op`` is (keeps - 1) * 40000."""
    if op.defn.root != "mul" or not op.inputs:
        return False
    inner = op.inputs[0].op
    return (
        inner is not None
        and inner.defn.root == "sub"
        and scalar_of(inner.operands[1]) == 1.0
        and scalar_of(op.operands[1]) == -HIDDEN
    )


def _numbers(op: Op) -> list[float]:
    """The numbers among the operands and attributes of an op."""
    given = [scalar_of(operand) for operand in op.operands if not isinstance(operand, Value)]
    attrs = [op.attr(param.name) for param in op.defn.params if param.kind is Kind.ATTR and param.name in _NUMBERS]
    return [float(one) for one in (*given, *attrs) if isinstance(one, (int, float)) and not isinstance(one, bool)]


__all__ = ["HIDDEN", "LEAST", "lowest"]

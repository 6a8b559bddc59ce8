"""Reading what a softmax is taken of: ``softcap(scale * q k^T) + mask``, in whatever spelling.

The ops from the softmax down to the product of queries and keys are read one at a time; numbers and
masks in front of a later scale are scaled by it. A mask that chooses is one that adds: what a very
low number takes the place of might as well have that number added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from anec.dialects import aten
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.algebra import choice, in_dtype, number, second, summands, uncast
from anec.passes.attention.frames import Frame, Permuted, Viewed
from anec.passes.attention.matrices import PERMUTES, Product, product
from anec.passes.canonicalize.views import permutation
from anec.passes.common import only_use, uniform
from anec.rewrite import reject
from anec.rewrite.rule import Reject

VIEWS = frozenset(
    "aten.view.default aten._unsafe_view.default aten.reshape.default aten.unsqueeze.default aten.squeeze.default "
    "aten.squeeze.dim aten.squeeze.dims aten.unflatten.int aten.flatten.using_ints".split()
)
# float32's lowest number. A score added to it, or to anything within 1e8 of it, is lost in float64 too.
LOWEST = -DType.F32.largest
ABSORBS = -1e30
_LOWEST_HALF = -DType.F16.largest
# How many ops a near miss recognised when it found both products, or only the softmax.
FOLLOWED = 4
_STEPS = 24
_OTHERS = "what stands between the products has other users"


@dataclass(frozen=True, slots=True)
class Mask:
    """``slope * value`` is added to the scores; ``frame`` leads from there to the end of the chain.

    Args:
        value: what is added, or the condition of a choice.
        slope: the number in front.
        frame: how it is brought to the scores that the softmax is taken of.
        rank: the rank of the scores where it is added.
        kept: for a choice, whether the scores are kept where ``value`` is true.
        lowest: for a choice, what stands where they are not.
    """

    value: Value
    slope: float
    frame: Frame
    rank: int
    kept: bool | None = None
    lowest: float = 0.0

    def build(self, dtype: DType) -> Value:
        """The mask as it is added to the scores."""
        value = self.value
        if self.kept is not None:
            ends = (0.0, self.lowest) if self.kept else (self.lowest, 0.0)
            value = aten.where.Scalar(value, *ends)
        value = in_dtype(value, dtype) if value.tensor.dtype.is_integer else value
        return self.frame.carried(value if self.slope == 1 else aten.mul.Tensor(value, self.slope), self.rank)


@dataclass(frozen=True, slots=True)
class Scores:
    """``softcap(scale * factors * left right^T) + masks``.

    Args:
        product: of queries and keys.
        frame: how its result is brought to the end of the chain.
        scale: the number in front of it.
        softcap: 0 for none.
        masks: what is added.
        factors: tensors in front of the product, and where they stand.
    """

    product: Product
    frame: Frame
    scale: float
    softcap: float = 0.0
    masks: tuple[Mask, ...] = ()
    factors: tuple[Mask, ...] = ()


@dataclass(slots=True)
class _Chain:
    """What has been read of the chain so far."""

    frame: Frame
    slope: float = 1.0
    softcap: float = 0.0
    masks: list[Mask] = field(default_factory=list)
    factors: list[Mask] = field(default_factory=list)

    def copy(self) -> _Chain:
        return _Chain(self.frame, self.slope, self.softcap, [*self.masks], [*self.factors])

    def mask(self, value: Value, slope: float, rank: int) -> Mask:
        if self.softcap:
            reject("a mask stands inside of the softcap", followed=FOLLOWED)
        if self.factors:
            reject("a tensor scales a mask", followed=FOLLOWED)
        return Mask(value, slope, self.frame, rank)


def passed(value: Value, frame: Frame) -> tuple[Value, Frame, bool]:
    """``value`` before casts, views and permutes, which the frame then holds, and whether all are used once."""
    alone = True
    while (op := value.op) is not None:
        inner = uncast(value)
        if inner is value:
            if op.name in PERMUTES:
                frame = frame.before(Permuted(permutation(op)))
            elif op.name in VIEWS:
                frame = frame.before(Viewed(op.value("self").tensor.shape, value.tensor.shape))
            else:
                break
            inner = op.value("self")
        alone = alone and only_use(value)
        value = inner
    return value, frame, alone


def _alone(value: Value) -> Op:
    """The op of ``value``, which only the chain uses."""
    if not only_use(value):
        reject(_OTHERS, followed=FOLLOWED)
    assert value.op is not None
    return value.op


def scores(value: Value, frame: Frame) -> Scores:
    """Read ``value``, of which a softmax is taken.

    Raises:
        Reject: it is not made of a product of two tensors that vary.
    """
    return _read(value, _Chain(frame), _STEPS)


def _read(value: Value, chain: _Chain, steps: int) -> Scores:
    value, chain.frame, alone = passed(value, chain.frame)
    found = product(value)
    if found is not None and alone:
        return _end(value, found, chain)
    if value.op is None or not steps or not value.tensor.dtype.is_float:
        reject("the softmax is of no product of queries and keys")
    if not alone:
        reject(_OTHERS, followed=FOLLOWED)
    op = _alone(value)
    root = op.defn.root if op.defn.dialect == "aten" else ""
    match root:
        case "mul" | "div" if "rounding_mode" not in op.defn.by_name:
            return _read(_scaled(op, chain), chain, steps - 1)
        case "neg":
            chain.slope = -chain.slope
            return _read(op.value("self"), chain, steps - 1)
        case "tanh":
            if chain.softcap or chain.slope <= 0:
                reject("a second tanh, or one with a negative factor, is no softcap", followed=FOLLOWED)
            if chain.factors:
                reject("a tensor scales the softcap", followed=FOLLOWED)
            # s tanh(t x) is a softcap s of s t x.
            chain.softcap = chain.slope
            return _read(op.value("self"), chain, steps - 1)
        case "add" | "sub" | "rsub":
            return _sum(op, chain, steps)
        case "where" | "masked_fill":
            return _choice(op, chain, steps)
    return reject(f"{op.name} stands in front of the softmax, and no product of queries and keys", followed=1)


def _end(value: Value, found: Product, chain: _Chain) -> Scores:
    _alone(value)
    if found.addend is not None:
        addend, beta = found.addend
        chain.masks.append(chain.mask(addend, beta * chain.slope, value.rank))
    frame = chain.frame.before(Permuted(found.order))
    return Scores(found, frame, chain.slope * found.scale, chain.softcap, tuple(chain.masks), tuple(chain.factors))


def _scaled(op: Op, chain: _Chain) -> Value:
    """Take the number or tensor of a product into the chain; what it stands in front of."""
    left, right = op.operand("self"), second(op)
    for at, other in ((left, right), (right, left)) if op.defn.root == "mul" else ((left, right),):
        known = number(other)
        if known is not None and isinstance(at, Value) and at.tensor.shape == op.result.tensor.shape:
            if not known:
                reject("the scale is 0", followed=FOLLOWED)
            chain.slope *= known if op.defn.root == "mul" else 1 / known
            return at
    if not isinstance(left, Value) or not isinstance(right, Value):
        reject("a scale is not known")
    at, factor = (left, right) if _leads(left) else (right, left)
    if (op.defn.root == "div" and at is right) or at.tensor.shape != op.result.tensor.shape:
        reject("the scores divide, or are repeated")
    factor = aten.reciprocal.default(factor) if op.defn.root == "div" else factor
    chain.factors.append(Mask(factor, 1.0, chain.frame, op.result.rank))
    return at


def _leads(value: Value) -> bool:
    """True when a product of matrices is near."""
    for _ in range(_STEPS):
        if product(value) is not None:
            return True
        op = value.op
        if op is None or op.defn.dialect != "aten" or "self" not in op.defn.by_name or op.operand("self") is None:
            return False
        operand = op.operand("self")
        if not isinstance(operand, Value):
            return False
        value = operand
    return False


def _sum(op: Op, chain: _Chain, steps: int) -> Scores:
    """The side that leads to the product; the other is a mask."""
    sides = summands(op)
    if sides is None:
        reject("alpha is symbolic")
    (left, of_left), (right, of_right) = sides
    declined = Reject("no side of a sum is the product of queries and keys")
    for side, mine, other, its in ((left, of_left, right, of_right), (right, of_right, left, of_left)):
        if not isinstance(side, Value) or side.tensor.shape != op.result.tensor.shape or side.is_constant:
            continue
        inner = chain.copy()
        try:
            inner.masks.append(inner.mask(_tensor(other), its * chain.slope, op.result.rank))
            inner.slope *= mine
            return _read(side, inner, steps - 1)
        except Reject as reason:
            declined = max(declined, reason, key=lambda found: found.followed)
    raise declined


def _tensor(operand: Operand) -> Value:
    if isinstance(operand, Value):
        return operand
    return reject("a number is added to the scores")


def _choice(op: Op, chain: _Chain, steps: int) -> Scores:
    """Scores of which some are chosen: scores that a low number takes the place of."""
    found = choice(op)
    assert found is not None
    for side, other, kept in ((found.first, found.last, True), (found.last, found.first, False)):
        number = uniform(other)
        if number is None or not isinstance(side, Value) or side.tensor.shape != op.result.tensor.shape:
            continue
        lowest = number * chain.slope
        if not lowest <= _absorbing(op.result.tensor.dtype):
            reject(f"{number:g} where the mask is set does not hide a score", followed=FOLLOWED)
        lowest = max(lowest, LOWEST) if math.isfinite(number) else lowest
        chain.masks.append(replace(chain.mask(found.condition, 1.0, op.result.rank), kept=kept, lowest=lowest))
        return _read(side, chain, steps - 1)
    return reject("a choice between two tensors stands in front of the softmax", followed=1)


def _absorbing(dtype: DType) -> float:
    return _LOWEST_HALF if dtype is DType.F16 else ABSORBS

"""What scales or shifts each channel by constants, read in one way: products, sums and batch norms."""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.passes.common import dims, known, uniform
from anec.passes.mil_cleanup.affine import normalization, reciprocal
from anec.passes.mil_cleanup.channels import Place
from anec.passes.mil_cleanup.inputs import LARGEST, SMALLEST
from anec.passes.mil_cleanup.weighted import Channels, as_vector, check_per_channel
from anec.rewrite import reject, rest, var

_NAMES = frozenset(("mil.mul", "mil.real_div", "mil.add", "mil.sub", "mil.batch_norm"))


def steps_on(x: Pattern) -> list[Pattern]:
    """Each op that may scale or shift ``x``."""
    c = var("c")
    return [mil.batch_norm(x, rest), mil.mul(x, c), mil.real_div(x, c), mil.add(x, c), mil.sub(x, c), mil.sub(c, x)]


@dataclass(frozen=True, slots=True)
class Step:
    """``x * scale + shift``.

    Args:
        op: the op.
        x: what it scales or shifts.
        constant: what it does so by; None for a batch norm, which has several.
        place: the channels, None when one number is for all.
    """

    op: Op
    x: Value
    constant: Operand
    place: Place | None

    @property
    def scales(self) -> bool:
        return self.op.name in ("mil.mul", "mil.real_div", "mil.batch_norm") or self._negates

    @property
    def shifts(self) -> bool:
        return self.op.name in ("mil.add", "mil.sub", "mil.batch_norm")

    @property
    def _negates(self) -> bool:
        return self.op.name == "mil.sub" and self.op.operand("y") is self.x

    def parts(self) -> tuple[Operand, Operand]:
        """Scale and shift as literals or vectors; None for the one that is not there."""
        if self.constant is None:
            return normalization(self.op, self.x.tensor.dtype)
        vector = as_vector(self.constant, _channels(self.place, self.x))
        if self.op.name in ("mil.mul", "mil.real_div"):
            return (vector if self.op.name == "mil.mul" else reciprocal(vector)), None
        if self._negates:
            return Literal(-1.0, self.x.tensor.dtype), vector
        return None, vector if self.op.name == "mil.add" else negated(vector)


def negated(operand: Operand) -> Operand:
    """Minus a literal number or a vector."""
    if isinstance(operand, Literal):
        assert isinstance(operand.value, (int, float))
        return Literal(-operand.value, operand.dtype)
    return mil.mul(operand, -1.0)


def step_of(op: Op | None) -> Step:
    """The op as what scales or shifts each channel of its operand.

    Raises:
        Reject: it is another op, its constants vary, or differ along several axes.
    """
    if op is None or op.name not in _NAMES:
        reject("nothing that scales or shifts each channel is there")
    if op.name == "mil.batch_norm":
        channels = op.value("mean").tensor.size
        if any(isinstance(part, Value) and not known(part) for part in op.operands[1:]):
            reject("the statistics are not constant")
        return Step(op, op.value("x"), None, Place(1, channels) if channels > 1 else None)
    x, constant = op.operand("x"), op.operand("y")
    if op.name != "mil.real_div" and known(x):
        x, constant = constant, x
    if not isinstance(x, Value) or known(x) or constant is None or not x.tensor.dtype.is_float:
        reject("what it scales or shifts is no floating-point tensor")
    if x.type != op.result.type:
        reject("the constant changes the shape")
    place = _place(constant, x)
    check_per_channel(constant, _channels(place, x))
    _check_number(op, constant)
    return Step(op, x, constant, place)


def _place(constant: Operand, x: Value) -> Place | None:
    shape = dims(constant)
    found = [(axis, size) for axis, size in enumerate(shape, x.rank - len(shape)) if size != 1]
    if len(found) > 1 or not all(isinstance(size, int) for _, size in found):
        reject("the constant differs along several axes")
    return next((Place(axis, size) for axis, size in found if isinstance(size, int)), None)


def _channels(place: Place | None, x: Value) -> Channels:
    place = place or Place(0, 1)
    return Channels(place.axis, x.rank, place.count, x.tensor.dtype)


def _check_number(op: Op, constant: Operand) -> None:
    number = uniform(constant)
    if op.name in ("mil.mul", "mil.real_div") and number is not None and not SMALLEST <= abs(number) <= LARGEST:
        reject(f"weights times or divided by {number:g} leave float16's range")


__all__ = ["Step", "negated", "step_of", "steps_on"]

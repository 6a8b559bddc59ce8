"""A complex value as two real ones, and the arithmetic of such pairs.

A part that is zero everywhere is None and costs nothing: a real tensor times a complex one is two
products, not four. A part that is there has the shape of the whole, or is a Python number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from anec.dialects import aten
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.passes.algebra import in_dtype
from anec.pipeline.base import Context
from anec.rewrite import reject

REAL = {DType.C64: DType.F32, DType.C128: DType.F64}


@dataclass(frozen=True, slots=True)
class Parts:
    """real + i imag.

    Args:
        real: the real part; None is zero everywhere.
        imag: the imaginary part; None is zero.
        type: the type of each part.
    """

    real: Operand
    imag: Operand
    type: TensorType

    @property
    def both(self) -> tuple[Value, Value]:
        """The two parts as tensors, zeros written out."""
        return self._tensor(self.real, self.imag), self._tensor(self.imag, self.real)

    def _tensor(self, part: Operand, other: Operand) -> Value:
        if isinstance(part, Value):
            return part
        if isinstance(part, Literal) and isinstance(part.value, (int, float)):
            return aten.full.default(self.type.shape, part.value, dtype=self.type.dtype)
        if not self.type.is_static and isinstance(other, Value):
            return aten.zeros_like.default(other)
        return aten.zeros.default(self.type.shape, dtype=self.type.dtype)

    @property
    def settled(self) -> Parts:
        """The same, with tensors in place of Python numbers: what later ops can take further."""
        real, imag = (
            self._tensor(part, None) if isinstance(part, Literal) else part for part in (self.real, self.imag)
        )
        return Parts(real, imag, self.type)

    def mapped(self, function: Callable[[Value], Value]) -> Parts:
        """What a linear function makes of both parts."""
        real, imag = (function(part) if isinstance(part, Value) else None for part in (self.real, self.imag))
        return of(real, imag)


def of(real: Operand, imag: Operand) -> Parts:
    """The parts, typed after the one that is a tensor.

    Raises:
        Reject: none is.
    """
    for part in (real, imag):
        if isinstance(part, Value):
            return Parts(real, imag, part.tensor)
    return reject("it has no part that is a tensor")


Split = Parts | Value
"""What a complex result becomes, or the value in place of a real one."""
Handler = Callable[[Op, "Splitter"], "Split | list[Split]"]
HANDLERS: dict[str, Handler] = {}


class Splitter:
    """The parts of every complex value seen so far in a function.

    Args:
        ctx: the pass's context.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.known: dict[Value, Parts] = {}
        # Real values made from complex ones, which a later op may take further: |z| and [re, im].
        self.magnitudes: dict[Value, Parts] = {}
        self.stacks: dict[Value, Parts] = {}
        # Real ops that another form took the place of.
        self.replaced: set[Op] = set()

    def parts(self, operand: Operand, dtype: DType) -> Parts:
        """An operand in two parts of ``dtype``; the imaginary part of a real one is zero.

        Raises:
            Reject: there is none, or it could not be split.
        """
        if isinstance(operand, Literal):
            return Parts(operand, None, TensorType(dtype, ()))
        if not isinstance(operand, Value):
            reject("an operand is absent")
        if not operand.tensor.dtype.is_complex:
            return Parts(in_dtype(operand, dtype), None, operand.tensor.with_dtype(dtype))
        found = self.known.get(operand)
        if found is None:
            reject(f"%{operand.name} is not split")
        if found.type.dtype is dtype:
            return found
        return found.mapped(lambda part: in_dtype(part, dtype))

    def operand(self, op: Op, name: str = "self") -> Parts:
        """The operand ``name`` of ``op`` in the dtype of its result's parts."""
        operand = op.operand(name)
        given = operand.tensor.dtype if isinstance(operand, Value) else None
        wanted = op.results[0].tensor.dtype
        if not wanted.is_complex and given is not None and given.is_complex:
            wanted = given
        return self.parts(operand, REAL.get(wanted, wanted))


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Let a function split the aten ops ``names``; ``view.dtype`` is one overload, ``view`` all others."""

    def enter(function: Handler) -> Handler:
        for name in names:
            if name in HANDLERS:
                raise AssertionError(f"{name} is split twice")
            HANDLERS[name] = function
        return function

    return enter


def part_type(value: Value) -> TensorType:
    """The type of the parts of a complex value."""
    return value.tensor.with_dtype(REAL[value.tensor.dtype])


def fit(part: Operand, type_: TensorType) -> Operand:
    """A part repeated to the shape of ``type_``."""
    if isinstance(part, Value) and part.tensor.shape != type_.shape:
        return aten.expand.default(part, type_.shape)
    return part


def as_tensor(part: Operand) -> Value:
    """A part that cannot be a number or zero."""
    return part if isinstance(part, Value) else reject(f"{part} is no tensor")


def plus(a: Operand, b: Operand) -> Operand:
    """The sum a + b."""
    if a is None or b is None:
        return a if b is None else b
    return aten.add.Tensor(a, b) if isinstance(a, Value) else aten.add.Tensor(as_tensor(b), a)


def minus(a: Operand, b: Operand) -> Operand:
    """The difference a - b."""
    if b is None:
        return a
    if isinstance(b, Literal):
        b = negated(b)
        return b if a is None else aten.add.Tensor(as_tensor(a), b)
    if a is None:
        return aten.neg.default(b)
    return aten.sub.Tensor(a, b) if isinstance(a, Value) else aten.add.Tensor(aten.neg.default(b), a)


def negated(a: Operand) -> Operand:
    """-a."""
    if isinstance(a, Literal) and isinstance(a.value, (int, float)):
        return Literal(-a.value)
    return aten.neg.default(a) if isinstance(a, Value) else None


def times(a: Operand, b: Operand) -> Operand:
    """The product a * b."""
    if a is None or b is None:
        return None
    return aten.mul.Tensor(a, b) if isinstance(a, Value) else aten.mul.Tensor(as_tensor(b), a)


def over(a: Operand, b: Value | Literal) -> Operand:
    """The quotient a / b."""
    if a is None:
        return None
    if isinstance(a, Value):
        return aten.div.Tensor(a, b)
    return aten.mul.Tensor(aten.reciprocal.default(as_tensor(b)), a)


def multiplied(a: Parts, b: Parts, type_: TensorType, product: Callable[[Operand, Operand], Operand] = times) -> Parts:
    """The product a * b: four products, two where one of them is real or imaginary."""
    real = minus(product(a.real, b.real), product(a.imag, b.imag))
    imag = plus(product(a.real, b.imag), product(a.imag, b.real))
    return Parts(real, imag, type_)


def divided(a: Parts, b: Parts, type_: TensorType) -> Parts:
    """The quotient a / b; both over the size of b first, so that no square leaves the range."""
    if b.imag is None and b.real is not None:
        return Parts(over(a.real, b.real), over(a.imag, b.real), type_)
    if b.real is None and b.imag is not None:
        return Parts(over(a.imag, b.imag), negated(over(a.real, b.imag)), type_)
    size, b = normalized(b)
    whole = as_tensor(squared_magnitude(b))
    product = multiplied(Parts(over(a.real, size), over(a.imag, size), a.type), conjugate(b), type_)
    return Parts(over(product.real, whole), over(product.imag, whole), type_)


def conjugate(z: Parts) -> Parts:
    """The conjugate real - i imag."""
    return Parts(z.real, negated(z.imag), z.type)


def squared_magnitude(z: Parts) -> Operand:
    """real^2 + imag^2."""
    return plus(times(z.real, z.real), times(z.imag, z.imag))


def normalized(z: Parts) -> tuple[Value, Parts]:
    """max(|real|, |imag|), or 1 where that is 0 or infinite, and z over it: what can be squared."""
    real, imag = z.both
    size = aten.maximum.default(aten.abs.default(real), aten.abs.default(imag))
    for end in (0.0, math.inf):
        size = aten.masked_fill.Scalar(size, aten.eq.Scalar(size, end), 1.0)
    return size, of(aten.div.Tensor(real, size), aten.div.Tensor(imag, size))


def magnitude(z: Parts) -> Value:
    """sqrt(real^2 + imag^2)."""
    if z.real is None or z.imag is None:
        return aten.abs.default(as_tensor(z.imag if z.real is None else z.real))
    return aten.sqrt.default(as_tensor(squared_magnitude(z)))

"""The discrete Fourier transform of one axis, as products with constant matrices.

    Y[k] = sum over n of X[n] w^(n k),  w = exp(-2 pi i / N) forward, its conjugate backward

A long axis of N = a b entries is transformed in four steps, which need matrices of a x a and b x b
instead of N x N (Bailey, FFTs in external or hierarchical memory, 1989): with n = b n1 + n2 and
k = k1 + a k2, transform along n1, turn by w^(n2 k1), transform along n2, and swap the two axes.

Matrices are made in float64, from angles reduced as whole numbers, and shared between functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from anec.dialects import aten
from anec.ir.dims import Expr
from anec.ir.graph import Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.passes.algebra import in_dtype
from anec.passes.split_complex.parts import Parts, multiplied, of, plus
from anec.pipeline.base import Context
from anec.rewrite import reject

if TYPE_CHECKING:
    import torch

# Up to here one product per part is less work for a matrix engine than four steps are.
DIRECT = 1024
# The longest axis whose matrix is built at all: 2048 x 2048 entries.
LARGEST = 2048


def transformed(z: Parts, at: int, ctx: Context, *, forward: bool, keep: int, scale: float) -> Parts:
    """The transform along the axis ``at``.

    Args:
        z: what is transformed.
        at: the axis, counted from the front.
        ctx: the pass's context.
        forward: the sign of the exponent is minus.
        keep: how many entries of the result are wanted, from the first on.
        scale: a factor to the result.

    Raises:
        Reject: the axis is symbolic, or has a prime factor too large.
    """
    size = length(z, at)
    a = short_factor(size)
    if a == 1:
        return _direct(z, at, ctx, forward=forward, keep=keep, scale=scale)
    last = z.mapped(lambda part: _swapped(part, at))
    return _four_steps(last, a, ctx, forward=forward, keep=keep, scale=scale).mapped(lambda part: _swapped(part, at))


def real_from_half(z: Parts, at: int, size: int, ctx: Context, *, scale: float) -> Value:
    """The real tensor of ``size`` entries along ``at`` whose transform begins with ``z`` and is Hermitian.

    Of the entries of a Hermitian transform all but the first, and the middle one of an even size,
    come twice; the imaginary parts of those do not count.
    """
    half = size // 2 + 1
    length(z, at)
    a = short_factor(size)
    if a == 1:
        first = z.mapped(lambda part: _cut(part, at, half))
        real = _direct(first, at, ctx, forward=False, keep=size, scale=scale, period=size).real
        assert isinstance(real, Value)
        return real

    def completed(part: Value) -> Value:
        row = _cut(_swapped(part, at), part.rank - 1, half)
        counted = aten.mul.Tensor(row, _constant(ctx, z.type.dtype, f"counts{size}", _counts, size))
        return aten.constant_pad_nd.default(counted, (0, size - half), 0)

    real = _four_steps(z.mapped(completed), a, ctx, forward=False, keep=size, scale=scale).real
    assert isinstance(real, Value)
    return _swapped(real, at)


def length(z: Parts, at: int) -> int:
    """The size of an axis, which must be known."""
    size = z.type.shape[at]
    if isinstance(size, Expr):
        reject(f"a Fourier transform along an axis of symbolic size {size}; give it a number")
    return size


def short_factor(size: int) -> int:
    """1 where the axis is transformed at once, else the shorter of the two axes it is seen as.

    Raises:
        Reject: neither is possible.
    """
    if size <= DIRECT:
        return 1
    a = max((a for a in range(1, math.isqrt(size) + 1) if size % a == 0), default=1)
    if size // a > LARGEST:
        reject(f"a Fourier transform of {size} entries has a factor above {LARGEST}; pad the axis to a power of two")
    return a


def _direct(
    z: Parts, at: int, ctx: Context, *, forward: bool, keep: int, scale: float, period: int | None = None
) -> Parts:
    """One product for each part, from the left with all axes behind ``at`` as one.

    With ``period`` the entries are half of a Hermitian transform of that size.
    """
    shape, size = z.type.shape, length(z, at)
    behind = [dim for dim in shape[at + 1 :] if isinstance(dim, int)]
    if len(behind) < len(shape) - at - 1:
        last = z.mapped(lambda part: _swapped(part, at))
        made = _direct(last, len(shape) - 1, ctx, forward=forward, keep=keep, scale=scale, period=period)
        return made.mapped(lambda part: _swapped(part, at))
    if len(behind) > 1:
        z = z.mapped(lambda part: aten.reshape.default(part, (*shape[: at + 1], math.prod(behind))))
    left = bool(behind)
    key = f"{period or size}_{size}x{keep}_{scale:.17g}{'_half' if period else ''}{'_left' if left else ''}"
    make = partial(_waves, count=period or size, size=size, keep=keep, half=period is not None, scale=scale)

    def times(part: Operand, wave: str) -> Value | None:
        if not isinstance(part, Value):
            return None
        matrix = _constant(ctx, z.type.dtype, wave + key, make, wave, left)
        return aten.matmul.default(matrix, part) if left else aten.matmul.default(part, matrix)

    turn, back = ("minus_sin", "sin") if forward else ("sin", "minus_sin")
    real = plus(times(z.real, "cos"), times(z.imag, back))
    imag = plus(times(z.real, turn), times(z.imag, "cos"))
    found = of(real, imag)
    if len(behind) > 1:
        return found.mapped(lambda part: aten.reshape.default(part, (*shape[:at], keep, *behind)))
    return found


def _four_steps(z: Parts, a: int, ctx: Context, *, forward: bool, keep: int, scale: float) -> Parts:
    """The transform of the last axis, seen as [a, b]."""
    shape = z.type.shape
    size = length(z, len(shape) - 1)
    b = size // a
    table = z.mapped(lambda part: aten.reshape.default(part, (-1, a, b)))
    first = _direct(table, 1, ctx, forward=forward, keep=a, scale=1.0)
    sign = -1 if forward else 1
    real, imag = (
        _constant(ctx, first.type.dtype, f"{name}{a}x{b}_{sign}", _twiddle, a, b, sign, which)
        for which, name in enumerate(("twiddle_cos", "twiddle_sin"))
    )
    turned = multiplied(first, of(real, imag), first.type)
    columns = -(-keep // a)
    second = _direct(turned, 2, ctx, forward=forward, keep=columns, scale=scale)

    def unfold(part: Value) -> Value:
        rows = aten.reshape.default(aten.transpose.int(part, 1, 2), (-1, columns * a))
        return aten.reshape.default(_cut(rows, 1, keep), (*shape[:-1], keep))

    return second.mapped(unfold)


def _swapped(part: Value, at: int) -> Value:
    """The axis ``at`` and the last one swapped."""
    return part if at == part.rank - 1 else aten.transpose.int(part, at, -1)


def _cut(part: Value, at: int, size: int) -> Value:
    return part if part.tensor.shape[at] == size else aten.slice.Tensor(part, at, 0, size)


# -- constants -------------------------------------------------------------------------------------


def _constant(ctx: Context, dtype: DType, name: str, make: Callable[..., torch.Tensor], *args: object) -> Value:
    """The tensor ``make(*args)``, which ``name`` stands for, in ``dtype``."""
    name = f"dft.{name}"
    weight = ctx.module.weights.get(name)
    if weight is None:
        tensor = make(*args).contiguous()
        type_ = TensorType(DType.F64, tuple(tensor.shape))
        weight = ctx.module.add_weight(Weight(name, type_, TensorData(tensor)))
    return in_dtype(ctx.graph.add_weight(weight), dtype)


def _waves(wave: str, left: bool, *, count: int, size: int, keep: int, half: bool, scale: float) -> torch.Tensor:
    """[size, keep] of cos or sin(2 pi n k / count) * scale; [keep, size] for a product from the left."""
    import torch

    cos, sin = _circle(count)
    table = {"cos": cos, "sin": sin, "minus_sin": -sin}[wave] * scale
    matrix = table[(torch.arange(size)[:, None] * torch.arange(keep)) % count]
    if half:
        matrix = matrix * _counts(count)[:, None]
    return matrix.T if left else matrix


def _counts(size: int) -> torch.Tensor:
    """How often each entry of half a Hermitian transform occurs in the whole."""
    import torch

    n = torch.arange(size // 2 + 1)
    return torch.where((n == 0) | (2 * n == size), 1.0, 2.0).to(torch.float64)


def _twiddle(a: int, b: int, sign: int, imaginary: bool) -> torch.Tensor:
    import torch

    places = torch.arange(a)[:, None] * torch.arange(b)
    cos, sin = _circle(a * b)
    return sign * sin[places] if imaginary else cos[places]


def _circle(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The cos and sin of ``count`` angles around the circle, exactly 0 where they cross it."""
    import torch

    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    cos, sin = angles.cos(), angles.sin()
    return torch.where(cos.abs() < 1e-12, 0.0, cos), torch.where(sin.abs() < 1e-12, 0.0, sin)

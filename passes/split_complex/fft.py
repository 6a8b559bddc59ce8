"""torch.fft: what all of its functions come down to in ATen, over any axes of static size.

    %1 = aten._fft_r2c.default(%x) {dim=[1], normalization=0, onesided=true}     %x: f32[2,16]
    %y = aten.abs.default(%1)
        ->
    %1 = aten.matmul.default(%x, %cos)      %cos, %sin: f32[16,9], constant
    %2 = aten.matmul.default(%x, %sin)
    %3 = aten.mul.Tensor(%1, %1)
    %4 = aten.mul.Tensor(%2, %2)
    %5 = aten.add.Tensor(%3, %4)
    %y = aten.sqrt.default(%5)

The normalization is spread over the axes and folded into their matrices, so that no number on the
way is larger than it must be.
"""

from __future__ import annotations

import math

from anec.ir.graph import Op, Value
from anec.passes.split_complex.dft import length, real_from_half, transformed
from anec.passes.split_complex.parts import Parts, Splitter, handles
from anec.rewrite import reject

# ATen's codes (aten/src/ATen/native/SpectralOpsUtils.h): none, by the root of the size, by the size.
_POWERS = {0: 0.0, 1: -0.5, 2: -1.0}


@handles("_fft_r2c")
def real_to_complex(op: Op, splitter: Splitter) -> Parts:
    """The last of the axes first, while the tensor is real; onesided keeps the first half of that."""
    *others, last = _axes(op)
    z = splitter.operand(op)
    size = length(z, last)
    keep = size // 2 + 1 if op.attr("onesided") else size
    z = transformed(z, last, splitter.ctx, forward=True, keep=keep, scale=_scale(op, size))
    return _along(z, others, op, splitter, forward=True)


@handles("_fft_c2c")
def complex_to_complex(op: Op, splitter: Splitter) -> Parts:
    """One axis after the other."""
    return _along(splitter.operand(op), _axes(op), op, splitter, forward=op.attr("forward") is True)


@handles("_fft_c2r")
def complex_to_real(op: Op, splitter: Splitter) -> Value:
    """The last of the axes last, which makes the tensor real."""
    *others, last = _axes(op)
    size = op.attr("last_dim_size")
    if not isinstance(size, int):
        reject(f"a Fourier transform to the symbolic size {size}; give it a number")
    z = _along(splitter.operand(op), others, op, splitter, forward=False)
    return real_from_half(z, last, size, splitter.ctx, scale=_scale(op, size))


def _along(z: Parts, axes: list[int], op: Op, splitter: Splitter, *, forward: bool) -> Parts:
    for at in axes:
        size = length(z, at)
        z = transformed(z, at, splitter.ctx, forward=forward, keep=size, scale=_scale(op, size))
    return z


def _axes(op: Op) -> list[int]:
    dims, rank = op.attr("dim"), op.value("self").rank
    assert isinstance(dims, tuple)
    return [dim % rank for dim in dims if isinstance(dim, int)]


def _scale(op: Op, size: int) -> float:
    mode = op.attr("normalization")
    assert isinstance(mode, int)
    return math.pow(size, _POWERS[mode])

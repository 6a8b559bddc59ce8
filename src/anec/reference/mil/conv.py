"""Convolution kernels, over one to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from anec.errors import AnecError, UnsupportedError
from anec.reference import kernel

from .common import Ints, choice, per_channel
from .window import extent, pad_spatial, per_axis, window_pads

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _spatial_rank(op: str, x: Tensor, weight: Tensor) -> int:
    rank = x.dim() - 2
    if rank not in _CONV or weight.dim() != x.dim():
        raise AnecError(
            f"{op} of an x of rank {x.dim()} and a weight of rank {weight.dim()}",
            hint="both have rank 3, 4 or 5",
        )
    return rank


@kernel("mil.conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    opset: int = 18,
) -> Tensor:
    """Convolve x ``[n, C_in, *D]`` with weight ``[C_out, C_in / groups, *K]``.

    The result has the dtype of x, whatever weight and bias have. ``pad`` counts only when pad_type
    is ``custom``: (before, after) of each axis in axis order.

    Raises:
        AnecError: ranks, groups, strides, dilations or pads that do not fit.
    """
    rank = _spatial_rank("conv", x, weight)
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise AnecError(
            f"conv of x {tuple(x.shape)} with weight {tuple(weight.shape)} in {groups} groups",
            hint="weight is [C_out, C_in / groups, *K] and groups divides C_out",
        )
    steps = per_axis("strides", strides, 1, rank)
    dilation = per_axis("dilations", dilations, 1, rank)
    pads = window_pads(pad_type, pad, x.shape[2:], extent(weight.shape[2:], dilation), steps, opset)
    return _CONV[rank](
        pad_spatial(x, pads),
        weight.to(x.dtype),
        None if bias is None else bias.to(x.dtype),
        stride=steps,
        dilation=dilation,
        groups=groups,
    )


@kernel("mil.conv_quantized")
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    opset: int = 18,
) -> Tensor:
    """Convolve with weight * quant_scale + quant_bias, each a scalar or one value an output channel.

    Raises:
        AnecError: as :func:`conv`, or ``nbits`` outside 1 to 8.
        UnsupportedError: the ``lut`` form, whose tables coremltools does not describe.
    """
    if choice("quantization_type", quantization_type, ("linear", "lut")) == "lut":
        raise UnsupportedError("conv_quantized with a lut has no kernel", hint="use constexpr_lut_to_dense")
    if not 1 <= nbits <= 8:
        raise AnecError(f"conv_quantized has nbits {nbits}", hint="1 to 8")
    column = [-1] + [1] * (weight.dim() - 1)
    scale, shift = quant_scale.to(x.dtype).reshape(column), quant_bias.to(x.dtype).reshape(column)
    return conv(
        x,
        weight.to(x.dtype) * scale + shift,
        bias,
        strides=strides,
        pad_type=pad_type,
        pad=pad,
        dilations=dilations,
        groups=groups,
        opset=opset,
    )


@kernel("mil.conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolve transposed: x ``[n, C_in, *D]`` with weight ``[C_in, C_out / groups, *K]``.

    Everything the kernels touch is (D - 1) stride + extent long. ``custom`` crops ``pad`` off both
    ends; ``same`` crops to D stride, the odd element after. With ``output_shape`` (the whole shape,
    from which come the forms with an output padding) the front is cropped and the end cut to fit.

    Raises:
        AnecError: ranks, groups, pads or the output shape do not fit.
    """
    rank = _spatial_rank("conv_transpose", x, weight)
    choice("conv_transpose's pad_type", pad_type.lower(), ("same", "valid", "custom"))
    if x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise AnecError(
            f"conv_transpose of x {tuple(x.shape)} with weight {tuple(weight.shape)} in {groups} groups",
            hint="weight is [C_in, C_out / groups, *K] and groups divides C_in",
        )
    steps = per_axis("strides", strides, 1, rank)
    dilation = per_axis("dilations", dilations, 1, rank)
    spans = extent(weight.shape[2:], dilation)
    entries = per_axis("pad", pad if pad_type.lower() == "custom" else None, 0, 2 * rank)
    channels = weight.shape[1] * groups
    wanted = None if output_shape is None else per_axis("output_shape", output_shape, 0, rank + 2)
    if wanted is not None and wanted[:2] != (x.shape[0], channels):
        raise AnecError(f"conv_transpose has output_shape {wanted}", hint=f"it starts with {(x.shape[0], channels)}")
    pads = []
    for axis in range(rank):
        before, after = -entries[2 * axis], -entries[2 * axis + 1]
        full = (x.shape[2 + axis] - 1) * steps[axis] + spans[axis]
        if pad_type.lower() == "same":
            # full - D stride, which does not depend on D: a number even when D is a symbol
            excess = spans[axis] - steps[axis] if wanted is None else full - wanted[2 + axis]
            before = -(max(0, excess) // 2)
            after = -excess - before
        elif wanted is not None:
            after = wanted[2 + axis] - full - before
        pads.append((before, after))
    full_result = _CONV_TRANSPOSE[rank](x, weight.to(x.dtype), stride=steps, dilation=dilation, groups=groups)
    # The bias comes last: it also covers what lies beyond the kernels' reach.
    result = pad_spatial(full_result, pads)
    return result if bias is None else result + per_channel(bias, x)

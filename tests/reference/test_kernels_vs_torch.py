"""MIL kernels against torch.nn modules: what a lowered module computes is what torch computes.

Everything runs in float64, so that a tolerance of 1e-10 tells a wrong formula from rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anec.errors import AnecError
from reference.running import DTYPE, close, draw, run


def both(value: int, rank: int) -> tuple[int, ...]:
    """Repeat a padding before and after each axis."""
    return (value,) * (2 * rank)


# -- convolution

SIZES = {1: [(9,), (10,)], 2: [(7, 8), (6, 9)], 3: [(5, 4, 6)]}
CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
CONV_FORMS = [
    # stride, pad, dilation, groups, kernel, bias
    (1, 0, 1, 1, 3, True),
    (2, 1, 1, 1, 3, False),
    (1, 2, 2, 2, 3, True),
    (3, 1, 1, 4, 2, True),
    (2, 3, 2, 1, 4, False),
]


@pytest.mark.parametrize("form", CONV_FORMS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [size for sizes in SIZES.values() for size in sizes])
def test_conv(size: tuple[int, ...], batch: int, form: tuple[int, int, int, int, int, bool]) -> None:
    stride, pad, dilation, groups, kernel, has_bias = form
    rank = len(size)
    if any(s + 2 * pad < (kernel - 1) * dilation + 1 for s in size):
        pad = kernel * dilation
    x, weight = draw(batch, 4, *size), draw(8, 4 // groups, *[kernel] * rank, seed=1)
    bias = draw(8, seed=2) if has_bias else None
    got = run(
        "conv",
        x,
        weight,
        bias,
        strides=(stride,) * rank,
        pad_type="custom",
        pad=both(pad, rank),
        dilations=(dilation,) * rank,
        groups=groups,
    )
    wanted = CONV[rank](x, weight, bias, stride=stride, padding=pad, dilation=dilation, groups=groups)
    close(got, wanted)


@pytest.mark.parametrize("kernel", [(3, 4), (2, 3), (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [(7, 8), (9, 12)])
def test_conv_same_of_stride_1_is_torch_same(size: tuple[int, int], dilation: int, kernel: tuple[int, int]) -> None:
    x, weight = draw(2, 3, *size), draw(4, 3, *kernel, seed=1)
    got = run("conv", x, weight, pad_type="same", dilations=(dilation, dilation))
    close(got, F.conv2d(x, weight, padding="same", dilation=dilation))


@pytest.mark.parametrize(("pad_type", "odd_before"), [("same", False), ("same_lower", True)])
@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_same_pads_for_ceil_of_size_over_stride(
    pad_type: str, odd_before: bool, size: int, stride: int, kernel: int
) -> None:
    x, weight = draw(1, 2, size), draw(3, 2, kernel, seed=1)
    count = math.ceil(size / stride)
    total = max(0, (count - 1) * stride + kernel - size)
    less, more = total // 2, total - total // 2
    wanted = F.conv1d(F.pad(x, (more, less) if odd_before else (less, more)), weight, stride=stride)
    assert wanted.shape[-1] == count
    close(run("conv", x, weight, strides=(stride,), pad_type=pad_type), wanted)


def test_conv_pads_each_side_by_itself() -> None:
    x, weight = draw(1, 2, 6, 7), draw(3, 2, 3, 3, seed=1)
    got = run("conv", x, weight, pad_type="custom", pad=(0, 2, 3, 1))
    close(got, F.conv2d(F.pad(x, (3, 1, 0, 2)), weight))


def test_conv_ignores_pad_unless_custom() -> None:
    x, weight = draw(1, 2, 6), draw(3, 2, 3, seed=1)
    close(run("conv", x, weight, pad_type="valid", pad=(1, 1)), F.conv1d(x, weight))


def test_conv_gives_the_dtype_of_x() -> None:
    x, weight, bias = draw(1, 2, 6), draw(3, 2, 3, seed=1).float(), draw(3, seed=2).float()
    close(run("conv", x, weight, bias), F.conv1d(x, weight.double(), bias.double()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale_shape", [(), (4,)])
def test_conv_quantized_scales_its_weight(groups: int, scale_shape: tuple[int, ...]) -> None:
    x = draw(1, 4, 6)
    weight = torch.randint(0, 256, (4, 4 // groups, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    scale, shift = draw(*scale_shape, seed=1) / 100, draw(*scale_shape, seed=2)
    column = (-1, 1, 1)
    dense = weight.double() * scale.reshape(column) + shift.reshape(column)
    got = run(
        "conv_quantized",
        x,
        weight,
        quantization_type="linear",
        quant_scale=scale,
        quant_bias=shift,
        groups=groups,
    )
    close(got, F.conv1d(x, dense, groups=groups))


TRANSPOSE_FORMS = [
    # stride, padding, output_padding, dilation, groups, kernel
    (1, 0, 0, 1, 1, 3),
    (2, 1, 1, 1, 1, 3),
    (2, 0, 1, 1, 2, 2),
    (3, 1, 2, 1, 4, 4),
    (2, 2, 0, 2, 2, 3),
    (3, 0, 2, 1, 1, 1),
]


@pytest.mark.parametrize("form", TRANSPOSE_FORMS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [size for sizes in SIZES.values() for size in sizes])
def test_conv_transpose(size: tuple[int, ...], batch: int, form: tuple[int, ...]) -> None:
    stride, pad, output_padding, dilation, groups, kernel = form
    rank = len(size)
    x, weight, bias = draw(batch, 4, *size), draw(4, 2, *[kernel] * rank, seed=1), draw(2 * groups, seed=2)
    wanted = CONV_TRANSPOSE[rank](
        x,
        weight,
        bias,
        stride=stride,
        padding=pad,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    got = run(
        "conv_transpose",
        x,
        weight,
        bias,
        strides=(stride,) * rank,
        pad_type="custom",
        pad=both(pad, rank),
        output_shape=tuple(wanted.shape) if output_padding else None,
        dilations=(dilation,) * rank,
        groups=groups,
    )
    close(got, wanted)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("size", [5, 6])
def test_conv_transpose_same_undoes_conv_same(kernel: int, stride: int, size: int) -> None:
    """It is the transpose of the convolution that ``same`` pads: <conv(y), x> = <y, transpose(x)>."""
    weight, x, y = draw(3, 2, kernel), draw(2, 3, size, seed=1), draw(2, 2, size * stride, seed=2)
    there = run("conv", y, weight, strides=(stride,), pad_type="same")
    back = run("conv_transpose", x, weight, strides=(stride,), pad_type="same")
    assert back.shape == y.shape
    close((there * x).sum(), (y * back).sum())


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("conv", {"weight": torch.ones(2, 3, 3)}),
        ("conv", {"weight": torch.ones(2, 2, 3, 3)}),
        ("conv", {"weight": torch.ones(2, 2, 3), "strides": (1, 1)}),
        ("conv", {"weight": torch.ones(2, 2, 3), "pad_type": "custom", "pad": (1,)}),
        ("conv", {"weight": torch.ones(2, 2, 3), "pad_type": "full"}),
        ("conv", {"weight": torch.ones(2, 2, 3), "pad_type": "same_lower", "opset": 15}),
        ("conv_transpose", {"weight": torch.ones(3, 2, 3)}),
        ("conv_transpose", {"weight": torch.ones(2, 2, 3), "pad_type": "same_lower"}),
        ("conv_transpose", {"weight": torch.ones(2, 2, 3), "output_shape": (1, 3, 7)}),
    ],
)
def test_illegal_convolutions_are_refused(op: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AnecError):
        run(op, torch.ones(1, 2, 5), **arguments)


# -- pooling

POOLS = {1: (nn.AvgPool1d, nn.MaxPool1d), 2: (nn.AvgPool2d, nn.MaxPool2d), 3: (nn.AvgPool3d, nn.MaxPool3d)}


@pytest.mark.parametrize("size", [size for sizes in SIZES.values() for size in sizes])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 0), (2, 3, 1), (4, 3, 2), (3, 3, 0)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools(size: tuple[int, ...], kernel: int, stride: int, pad: int, ceil_mode: bool) -> None:
    rank = len(size)
    x = draw(2, 3, *size)
    average, maximum = POOLS[rank]
    arguments = {
        "kernel_sizes": (kernel,) * rank,
        "strides": (stride,) * rank,
        "pad_type": "custom" if pad else "valid",
        "pad": both(pad, rank),
        "ceil_mode": ceil_mode,
    }
    if ceil_mode and rank == 3:
        with pytest.raises(AnecError, match="one or two spatial axes"):
            run("max_pool", x, **arguments)
        return
    close(run("max_pool", x, **arguments), maximum(kernel, stride, pad, ceil_mode=ceil_mode)(x))
    for exclude in (False, True):
        wanted = average(kernel, stride, pad, ceil_mode=ceil_mode, count_include_pad=not exclude)(x)
        close(run("avg_pool", x, exclude_padding_from_average=exclude, **arguments), wanted)


@pytest.mark.parametrize("size", [(9,), (7, 8)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_l2_pool_is_lp_pool(size: tuple[int, ...], ceil_mode: bool) -> None:
    rank, x = len(size), draw(2, 3, *size)
    lp_pool = (nn.LPPool1d, nn.LPPool2d)[rank - 1]
    got = run("l2_pool", x, kernel_sizes=(3,) * rank, strides=(2,) * rank, pad_type="valid", ceil_mode=ceil_mode)
    wanted = lp_pool(2, 3, 2, ceil_mode=ceil_mode)(x)
    # torch averages the window before it multiplies by 3^rank: a window that overhangs counts for more.
    inner = (slice(None), slice(None), *(slice(0, (s - 3) // 2 + 1) for s in size))
    assert got.shape == wanted.shape
    close(got[inner], wanted[inner])


def test_l2_pool_sums_squares() -> None:
    x = torch.tensor([[[3.0, 4.0, 12.0]]], dtype=DTYPE)
    got = run("l2_pool", x, kernel_sizes=(2,), pad_type="same")
    close(got, torch.tensor([[[5.0, math.sqrt(160), 12.0]]], dtype=DTYPE))


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
@pytest.mark.parametrize("size", [7, 8])
def test_avg_pool_same_counts_what_it_is_told(pad_type: str, size: int) -> None:
    ones = torch.ones(1, 1, size, dtype=DTYPE)
    arguments = {"kernel_sizes": (4,), "strides": (1,), "pad_type": pad_type}
    included = run("avg_pool", ones, **arguments)
    excluded = run("avg_pool", ones, exclude_padding_from_average=True, **arguments)
    close(excluded, torch.ones_like(ones))
    before, after = (1, 2) if pad_type == "same" else (2, 1)
    wanted = F.pad(ones, (before, after)).unfold(-1, 4, 1).mean(-1)
    close(included, wanted)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pad_type": "same", "ceil_mode": True},
        {"pad_type": "custom", "pad": (0, 1), "ceil_mode": True},
        {"pad_type": "same_lower", "opset": 15},
        {"pad_type": "valid", "strides": (1, 1)},
    ],
)
@pytest.mark.parametrize("op", ["avg_pool", "max_pool", "l2_pool"])
def test_illegal_pools_are_refused(op: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AnecError):
        run(op, torch.ones(1, 2, 5), kernel_sizes=(2,), **arguments)


# -- normalization


@pytest.mark.parametrize("size", [(9,), (6, 7), (3, 4, 5)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(size: tuple[int, ...], batch: int, affine: bool) -> None:
    x, mean, variance = draw(batch, 5, *size), draw(5, seed=1), draw(5, seed=2).exp()
    gamma, beta = (draw(5, seed=3), draw(5, seed=4)) if affine else (None, None)
    got = run("batch_norm", x, mean, variance, gamma, beta, epsilon=1e-3)
    close(got, F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3))


@pytest.mark.parametrize("size", [(9,), (6, 7)])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(size: tuple[int, ...], affine: bool) -> None:
    x = draw(2, 5, *size) * 3 + 1
    gamma, beta = (draw(5, seed=3), draw(5, seed=4)) if affine else (None, None)
    close(run("instance_norm", x, gamma, beta), F.instance_norm(x, weight=gamma, bias=beta))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_layer_norm_over_the_last_axes(count: int) -> None:
    x = draw(2, 3, 4, 5) * 2 - 1
    shape = tuple(x.shape[-count:])
    gamma, beta = draw(*shape, seed=3), draw(*shape, seed=4)
    wanted = F.layer_norm(x, shape, gamma, beta, eps=1e-2)
    close(run("layer_norm", x, gamma, beta, axes=tuple(range(-count, 0)), epsilon=1e-2), wanted)
    # gamma's axes ascend whatever the order in which they are named.
    close(run("layer_norm", x, gamma, beta, axes=tuple(range(-1, -count - 1, -1)), epsilon=1e-2), wanted)


def test_layer_norm_over_channels_and_over_all() -> None:
    x, gamma = draw(2, 3, 4, 5), draw(3, seed=3)
    wanted = F.layer_norm(x.movedim(1, -1), (3,), gamma).movedim(-1, 1)
    close(run("layer_norm", x, gamma, axes=(1,)), wanted)
    close(run("layer_norm", x), F.layer_norm(x, tuple(x.shape)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_local_response_norm(size: int) -> None:
    x = draw(2, 6, 3, 4) * 5
    wanted = F.local_response_norm(x, size, alpha=0.3, beta=0.6, k=2.0)
    close(run("local_response_norm", x, size=size, alpha=0.3, beta=0.6, k=2.0), wanted)


def test_l2_norm_takes_the_last_three_axes_together() -> None:
    x = draw(2, 3, 4, 5)
    wanted = F.normalize(x.reshape(2, -1), dim=-1, eps=0).reshape(x.shape)
    close(run("l2_norm", x, epsilon=0.0), wanted)
    close(run("l2_norm", x[0], epsilon=0.0), wanted[0])

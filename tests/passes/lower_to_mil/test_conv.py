"""Convolutions, plain and transposed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.errors import UnsupportedError
from anec.testing import check_lowering
from lowering import TARGETS, Case, case, floats, integers, op_names

SPACE = {1: (9,), 2: (9, 7), 3: (5, 6, 4)}


def convolution(
    count: int,
    *,
    batch: int = 1,
    channels: tuple[int, int] = (4, 6),
    groups: int = 1,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    transposed: bool = False,
    output_padding: int = 0,
    bias: bool = True,
    constant: bool = True,
) -> Case:
    inside, outside = channels
    shape = (inside, outside // groups) if transposed else (outside, inside // groups)
    operands = (
        floats(batch, inside, *SPACE[count]),
        floats(*shape, *(kernel,) * count, seed=1),
        floats(outside, seed=2) if bias else None,
    )
    sizes = [[given] * count for given in (stride, padding, dilation)]
    return case(
        "convolution",
        *operands,
        *sizes,
        transposed,
        [output_padding] * count,
        groups,
        weights=("weight", "bias") if constant else (),
    )


CASES = [
    *(convolution(count, bias=bias, batch=batch) for count in (1, 2, 3) for bias in (True, False) for batch in (1, 2)),
    convolution(2, stride=2, padding=1),
    convolution(2, kernel=2, stride=2, padding=1, dilation=2),
    convolution(3, stride=2, padding=1, dilation=2),
    convolution(1, groups=2, padding=2),
    convolution(2, groups=4, channels=(4, 8), padding=1),
    convolution(2, kernel=1),
    *(convolution(count, transposed=True, stride=2, padding=1, output_padding=1) for count in (1, 2, 3)),
    convolution(2, transposed=True, stride=2, padding=0, output_padding=1),
    convolution(2, transposed=True, stride=3, padding=1, output_padding=2, bias=False),
    convolution(2, transposed=True, groups=2, stride=2, kernel=2),
    convolution(2, transposed=True, stride=2, padding=1, dilation=2, output_padding=1),
    convolution(2, constant=False, padding=1),
    convolution(2, constant=False, dilation=2, padding=1),
    convolution(3, constant=False, dilation=2, padding=1),
    convolution(1, constant=False, dilation=3, groups=2),
    *(
        case(
            f"conv{count}d.padding",
            floats(2, 4, *SPACE[count]),
            floats(6, 4, *(kernel,) * count),
            floats(6),
            padding=padding,
        )
        for count in (1, 2, 3)
        for kernel in (2, 3)
        for padding in ("same", "valid")
    ),
    case("conv2d.padding", floats(1, 4, 9, 7), floats(6, 2, 4, 3), padding="same", dilation=[1, 2], groups=2),
    *(case(f"conv{count}d", floats(4, *SPACE[count]), floats(6, 4, *(3,) * count), floats(6)) for count in (1, 2, 3)),
    case("conv2d", floats(2, 4, 9, 7), floats(6, 4, 3, 3), None, [2], [1]),
    case("conv_transpose1d", floats(4, 9), floats(4, 6, 3), floats(6), weights=("weight", "bias")),
    case("conv_transpose2d.input", floats(2, 4, 5, 6), floats(4, 3, 3, 2), stride=[2, 1], weights=("weight",)),
    case("conv_transpose3d.input", floats(2, 4, 3, 4, 5), floats(4, 3, 2, 2, 2), stride=[2], weights=("weight",)),
    case("conv_tbc", floats(9, 2, 4), floats(3, 4, 6), floats(6), 1),
    case(
        "convolution",
        *(floats(1, 4, 9, 7).half(), floats(6, 4, 3, 3).half(), None),
        *([1, 1], [0, 0], [1, 1], False, [0, 0], 1),
    ),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    transposed=st.booleans(),
    extra=st.integers(0, 1),
    target=st.sampled_from(TARGETS),
)
def test_every_form(
    count: int,
    groups: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    transposed: bool,
    extra: int,
    target: str,
) -> None:
    span = (kernel - 1) * dilation + 1
    if transposed and min(SPACE[count]) - 1 + span <= 2 * padding:
        return
    if not transposed and min(SPACE[count]) + 2 * padding < span:
        return
    convolution(
        count,
        groups=groups,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        transposed=transposed,
        output_padding=extra if transposed and extra < max(stride, dilation) else 0,
    ).check(target)


def test_one_op_that_says_nothing_needless() -> None:
    (op,) = convolution(2).check().main.ops()
    assert op.attrs == {"pad_type": "valid"}
    (op,) = convolution(2, stride=2, padding=1, groups=2).check().main.ops()
    assert op.attrs == {"strides": (2, 2), "pad_type": "custom", "pad": (1, 1, 1, 1), "groups": 2}


def test_output_padding_crops_less() -> None:
    (op,) = convolution(2, transposed=True, stride=2, padding=1, output_padding=1).check().main.ops()
    assert op.attrs["pad"] == (1, 0, 1, 0)
    names = op_names(convolution(2, transposed=True, stride=2, output_padding=1).check())
    # The bias also covers what lies beyond the kernels' reach.
    assert names == ["conv_transpose", "pad", "expand_dims", "add"]


def test_computed_bias_is_added() -> None:
    module = check_lowering(
        "aten.conv2d.default", floats(1, 4, 5, 5), floats(6, 4, 3, 3), floats(6), weights=("weight",), target="iOS15"
    )
    assert op_names(module) == ["conv", "expand_dims", "add"]


def test_integers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="convolves floats only"):
        check_lowering("aten.conv2d.default", integers(1, 2, 5, 5), integers(3, 2, 3, 3))


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
@pytest.mark.parametrize("batch", [1, 2])
def test_computed_weight_of_a_transposed_convolution(batch: int, target: str) -> None:
    check_lowering("aten.conv_transpose2d.input", floats(batch, 4, 5, 5), floats(4, 6, 3, 3), target=target)
    check_lowering(
        "aten.conv_transpose2d.input", floats(batch, 4, 5, 4), floats(4, 3, 3, 2), floats(6), (2, 3), (1, 0), (1, 2), 2,
        weights=("bias",), target=target,
    )  # fmt: skip
    check_lowering("aten.conv_transpose1d.default", floats(batch, 4, 7), floats(4, 2, 4), None, (2,), (1,), target=target)
    check_lowering("aten.conv_transpose3d.input", floats(batch, 2, 3, 4, 3), floats(2, 2, 2, 2, 2), target=target)


def test_float64_weights() -> None:
    check_lowering(
        "aten.conv1d.default", floats(1, 4, 9).double(), floats(6, 4, 3, dtype=torch.float64), weights=("weight",)
    )

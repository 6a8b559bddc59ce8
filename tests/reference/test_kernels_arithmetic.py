"""MIL kernels of products, attention, activations, casts and reductions against torch.

Everything runs in float64, so that a tolerance of 1e-10 tells a wrong formula from rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anec.errors import AnecError
from reference.running import DTYPE, close, draw, run

# -- matrix products and attention


@pytest.mark.parametrize("mask", ["none", "bool", "float", "row"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 6, 8)])
def test_attention(shape: tuple[int, ...], mask: str) -> None:
    query, key, value = draw(*shape), draw(*shape[:-2], 7, shape[-1], seed=1), draw(*shape[:-2], 7, 3, seed=2)
    scores = (*shape[:-1], 7)
    masks = {
        "none": None,
        "bool": (draw(*scores, seed=3) > 0) | (torch.arange(7) == 2),
        "float": draw(*scores, seed=3),
        "row": draw(7, seed=3),
    }
    found = masks[mask]
    full = None if found is None else found.expand(scores)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=full)
    close(run("scaled_dot_product_attention", query, key, value, found), wanted)


def test_attention_of_a_masked_row_is_nan_and_broadcasts_nothing() -> None:
    query = draw(1, 2, 4)
    mask = torch.tensor([[False, False], [True, False]])
    got = run("scaled_dot_product_attention", query, query, query, mask)
    assert got[0, 0].isnan().all() and not got[0, 1].isnan().any()
    with pytest.raises(AnecError, match="expand"):
        run("scaled_dot_product_attention", draw(2, 3, 4), query, query)


@pytest.mark.parametrize(("transpose_x", "transpose_y"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("dtype", [DTYPE, torch.int32])
def test_matmul(transpose_x: bool, transpose_y: bool, dtype: torch.dtype) -> None:
    x = (draw(2, 1, 4, 3) * 5).to(dtype)
    y = (draw(5, 3, 6, seed=1) * 5).to(dtype)
    got = run(
        "matmul",
        x.mT if transpose_x else x,
        y.mT if transpose_y else y,
        transpose_x=transpose_x,
        transpose_y=transpose_y,
    )
    close(got, torch.matmul(x, y))


@pytest.mark.parametrize("equation", ["nchw,nwhu->nchu", "abcd, adce -> abce"])
def test_einsum_of_rank_4(equation: str) -> None:
    x, y = draw(2, 3, 4, 5), draw(1, 5, 4, 6, seed=1)
    wanted = torch.einsum("nchw,nwhu->nchu", x, y.expand(2, -1, -1, -1))
    close(run("einsum", [x, y], equation=equation), wanted)


def test_einsum_of_rank_3_and_others() -> None:
    x, y = draw(3, 1, 5), draw(5, 4, 6, seed=1)
    wanted = torch.einsum("chw,whr->chr", x.expand(-1, 4, -1), y)
    close(run("einsum", [x, y], equation="chw,whr->chr"), wanted)
    for equation in ("ij,jk->ik", "bhqk,bkhd->bqhd", "nchw,nwhu->nhcu", "nchw,nwhu"):
        with pytest.raises(AnecError, match="Core ML accepts"):
            run("einsum", [x, y], equation=equation)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_linear(shape: tuple[int, ...]) -> None:
    x, weight, bias = draw(*shape), draw(5, 4, seed=1), draw(5, seed=2)
    close(run("linear", x, weight, bias), F.linear(x, weight, bias))
    close(run("linear", x, weight.float()), F.linear(x, weight.float().double()))


# -- activations, casts, reductions of integers


@pytest.mark.parametrize(
    ("op", "arguments", "module"),
    [
        ("elu", {"alpha": 0.7}, nn.ELU(0.7)),
        ("gelu", {}, nn.GELU()),
        ("gelu", {"mode": "TANH_APPROXIMATION"}, nn.GELU("tanh")),
        ("leaky_relu", {"alpha": 0.2}, nn.LeakyReLU(0.2)),
        ("relu6", {}, nn.ReLU6()),
        ("silu", {}, nn.SiLU()),
        ("sigmoid_hard", {"alpha": 1 / 6, "beta": 0.5}, nn.Hardsigmoid()),
        ("softplus", {}, nn.Softplus(threshold=1e9)),
        ("softsign", {}, nn.Softsign()),
        ("softmax", {"axis": 1}, nn.Softmax(1)),
    ],
)
def test_activations(op: str, arguments: dict[str, Any], module: nn.Module) -> None:
    x = draw(3, 4, 5) * 4
    close(run(op, x, **arguments), module(x))


def test_softplus_neither_overflows_nor_loses_small_values() -> None:
    x = torch.tensor([-800.0, -50.0, 0.0, 800.0], dtype=DTYPE)
    close(run("softplus", x), torch.tensor([0.0, math.exp(-50), math.log(2), 800.0], dtype=DTYPE), atol=0)


def test_prelu_has_a_slope_for_each_channel() -> None:
    x, alpha = draw(2, 3, 4, 5), draw(3, seed=1)
    close(run("prelu", x, alpha), F.prelu(x, alpha))
    with pytest.raises(AnecError, match="axis 1"):
        run("prelu", x, alpha[:2])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("op", ["thresholded_relu", "leaky_relu", "elu"])
def test_activations_of_what_is_not_finite(op: str, value: float) -> None:
    got = run(op, torch.tensor([value], dtype=DTYPE), alpha=0.5)
    wanted = {"thresholded_relu": max(value, 0.0), "leaky_relu": value * (0.5 if value < 0 else 1)}
    wanted["elu"] = -0.5 if value == -math.inf else value
    expected = math.nan if math.isnan(value) else wanted[op]
    torch.testing.assert_close(got, torch.tensor([expected], dtype=DTYPE), equal_nan=True, rtol=0, atol=0)


def test_integers_floor_and_truncate_as_core_ml_does() -> None:
    x = torch.tensor([7, -7, 7, -7], dtype=torch.int32)
    y = torch.tensor([2, 2, -2, -2], dtype=torch.int32)
    assert run("floor_div", x, y).tolist() == [3, -4, -4, 3]
    assert run("real_div", x, y).tolist() == [3, -3, -3, 3]
    assert run("mod", x, y).tolist() == [1, 1, -1, -1]
    base, exponent = (torch.tensor(v, dtype=torch.int32) for v in ([2, -3, 2], [5, 3, -1]))
    assert run("pow", base, exponent).tolist() == [32, -27, 0]
    for op in ("floor_div", "real_div", "mod", "pow"):
        assert run(op, x, y.abs()).dtype == torch.int32


def test_cast_truncates_and_wraps() -> None:
    x = torch.tensor([-1.9, 1.9, 0.0, 255.9, -0.1], dtype=DTYPE)
    assert run("cast", x, dtype="int32").tolist() == [-1, 1, 0, 255, 0]
    assert run("cast", x, dtype="uint8").tolist() == [255, 1, 0, 255, 0]
    assert run("cast", x, dtype="bool").tolist() == [True, True, False, True, True]
    assert run("cast", x, dtype="fp16").dtype == torch.float16
    with pytest.raises(AnecError):
        run("cast", x, dtype="uint8", opset=16)
    with pytest.raises(AnecError, match="one of"):
        run("cast", x, dtype="float32")


@pytest.mark.parametrize("axes", [None, (0,), (-1, 0), (1, 2), ()])
@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("dtype", [DTYPE, torch.int32])
def test_reductions(axes: tuple[int, ...] | None, keep_dims: bool, dtype: torch.dtype) -> None:
    x = (draw(3, 4, 5).abs() * 3 + 1).to(dtype)
    wide, dims = x.to(DTYPE), tuple(range(3)) if axes is None else axes

    def over(function: Callable[..., Tensor], tensor: Tensor) -> Tensor:
        return function(tensor, dims, keepdim=keep_dims) if dims else tensor

    wanted = {
        "reduce_sum": over(torch.sum, wide),
        "reduce_mean": over(torch.mean, wide),
        "reduce_max": over(torch.amax, wide),
        "reduce_min": over(torch.amin, wide),
        "reduce_l1_norm": over(torch.sum, wide.abs()),
        "reduce_l2_norm": over(torch.sum, wide**2).sqrt(),
        "reduce_sum_square": over(torch.sum, wide**2),
        "reduce_log_sum": over(torch.sum, wide).log(),
        "reduce_log_sum_exp": over(torch.sum, wide.exp()).log(),
        "reduce_prod": over(torch.sum, wide.log()).exp() if dtype == DTYPE else None,
    }
    for op, value in wanted.items():
        got = run(op, x, axes=axes, keep_dims=keep_dims)
        assert got.dtype == dtype
        if value is not None and dtype == DTYPE:
            torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-9)
        elif value is not None:
            # Just below an integer, a root or logarithm of float64 may truncate either way.
            assert ((got - (value + 1e-9).trunc()).abs() == 0).all(), op


def test_product_of_integers_is_exact() -> None:
    x = torch.tensor([[2, 3], [-4, 5]], dtype=torch.int32)
    assert run("reduce_prod", x).item() == -120
    assert run("reduce_prod", x, axes=(0,)).tolist() == [-8, 15]


@pytest.mark.parametrize("op", ["reduce_argmax", "reduce_argmin"])
def test_positions(op: str) -> None:
    x = draw(3, 4, 5)
    wanted = getattr(torch, op.removeprefix("reduce_"))(x, 1, keepdim=True)
    assert torch.equal(run(op, x, axis=1, keep_dims=True), wanted.to(torch.int32))
    assert run(op, x, output_dtype="uint16").dtype == torch.uint16
    with pytest.raises(AnecError):
        run(op, x, output_dtype="int64")


def test_epsilons_are_added_as_they_are() -> None:
    zero = torch.zeros(1)
    # The least subnormal of float32: log(2^-149).
    assert run("log", zero).item() == pytest.approx(-149 * math.log(2), abs=1e-4)
    assert run("log", zero.half()).item() == -math.inf
    assert run("rsqrt", zero).item() == pytest.approx(1e6)
    assert run("inverse", zero).item() == pytest.approx(1e4)
    with pytest.raises(AnecError):
        run("clip", zero, alpha=1.0, beta=1.0)
    assert run("clip", zero, alpha=1.0, beta=1.0, opset=16).item() == 1.0


def test_clip_at_the_largest_float32() -> None:
    """Nine decimals of float32's largest number are beyond it as a double."""
    from anec.reference.mil.elementwise import clip

    x = torch.tensor([-torch.inf, 1.0, torch.inf])
    largest = torch.finfo(torch.float32).max
    found = clip(x, alpha=-3.4028235e38, beta=3.4028235e38)
    torch.testing.assert_close(found, torch.tensor([-largest, 1.0, largest]), rtol=0, atol=0)

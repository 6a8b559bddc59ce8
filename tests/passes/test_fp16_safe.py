"""fp16-safe: formulas that leave float16's range on the way; beside them near misses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import anec
import golden
from anec.check.metrics import Metric, compare
from anec.dialects import mil
from anec.ir.graph import Value
from anec.passes.fp16_safe import Fp16Safe
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate
from anec.testing import assert_same_numbers, module_of, run_pass
from lifting import Call

Function = Callable[[torch.Tensor], torch.Tensor]


def drawn(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)) * scale + shift


def against_eager(function: Function, x: torch.Tensor, passes: str, **options: object) -> Metric:
    """The float16 program against float32 eager, which gets the input as float16 holds it."""
    x = x.half().float()
    compiled = anec.compile(Call(function), (x,), passes=passes, **options)  # type: ignore[arg-type]
    found = torch.from_numpy(next(iter(compiled.run({"x": x}).values())))
    return compare("y", found, function(x).reshape(found.shape))


def mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(-1, keepdim=True)


# Scores whose softmax float16 takes for 0, and values whose squares it takes for infinite or 0.
SCORES, FLAT, LARGE, SMALL = drawn(4, 33, scale=9), drawn(3, 32), drawn(2, 33, scale=3000), drawn(2, 33, scale=1e-5)

# Distances, some of them 0.
APART = drawn(3, 16).relu()


def inverse_shares(x: torch.Tensor) -> torch.Tensor:
    return x.reciprocal() / x.reciprocal().sum(-1)[..., None]


KILLERS: dict[str, tuple[Function, torch.Tensor]] = {
    "log of softmax": (lambda x: torch.log(torch.softmax(x, -1)), SCORES),
    "log of softmax and epsilon": (lambda x: torch.log(torch.softmax(x, 0) + 1e-9), SCORES),
    "log of clamped softmax": (lambda x: torch.log(torch.softmax(x, -1).clamp(min=1e-9)), SCORES),
    "log of bounded sigmoid": (lambda x: torch.log(torch.sigmoid(x).clamp(1e-8, 1 - 1e-6)), SCORES),
    "log of 1 - sigmoid": (lambda x: torch.log(1 - torch.sigmoid(x)), drawn(64, scale=4)),
    "entropy": (lambda x: -(torch.softmax(x, -1) * torch.log(torch.softmax(x, -1))).sum(-1), SCORES),
    "log of relu and epsilon": (lambda x: torch.log(torch.relu(x) + 1e-8), FLAT),
    "log of clamped": (lambda x: torch.log(x.clamp(min=1e-10)), FLAT),
    "log of a sum of powers": (lambda x: torch.log(torch.exp(x).sum((1, 2))), SCORES.reshape(4, 3, 11)),
    "softmax by hand": (lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True), SCORES),
    "steep softmax": (lambda x: torch.softmax(x / 1e-4, -1), FLAT),
    "tanh by hand": (lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1), SCORES / 2),
    "tanh of minus": (lambda x: (1 - torch.exp(-2 * x)) / (1 + torch.exp(-2 * x)), SCORES / 2),
    "lines in exp": (lambda x: (3 * torch.exp(x) + 1) / (2 * torch.exp(x) + 5), SCORES),
    "swish by hand": (lambda x: x * torch.exp(x) / (1 + torch.exp(x)), SCORES),
    "exp less 1": (lambda x: (torch.exp(x) - 1) * 100, SMALL * 30),
    "1 less exp": (lambda x: (1 - torch.exp(-x.abs())) * 100, SMALL * 30),
    "1 less cos": (lambda x: (1 - torch.cos(x)) * 100, SMALL * 1e3),
    "sum over count": (lambda x: x.sum(-1) / x.shape[-1], drawn(2, 4096, scale=9, shift=30)),
    "variance by squares": (lambda x: (x * x).mean(-1) - x.mean(-1) ** 2, FLAT + 20),
    "norm by squares": (lambda x: (x - mean(x)) / torch.sqrt((x**2).mean(-1, True) - mean(x) ** 2 + 1e-5), FLAT + 9),
    "standard deviation": (lambda x: x.std(-1), LARGE),
    "small deviation": (lambda x: x.std(-1, keepdim=True) * 1e3, SMALL * 10),
    "length": (lambda x: torch.sqrt((x * x).sum(-1)), LARGE),
    "length and epsilon": (lambda x: torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-8) * 1e2, SMALL * 10),
    "reciprocal length": (lambda x: 100 * torch.rsqrt((x * x).mean(-1) + 1e-6), LARGE / 5),
    "length of order 3": (lambda x: torch.linalg.vector_norm(x, ord=3, dim=-1), LARGE / 10),
    "magnitude": (lambda x: torch.sqrt(x * x + x.flip(0) ** 2), LARGE),
    "charbonnier": (lambda x: torch.sqrt(x * x + 1e-6), LARGE),
    "cosine": (lambda x: (x * x.roll(1, 0)).sum(-1) / (x.norm(dim=-1) * x.roll(1, 0).norm(dim=-1)), drawn(4, 33) * 60),
    "inverse distances": (lambda x: inverse_shares(x.abs() + 1e-8), APART),
    "inverse squares": (lambda x: inverse_shares(x.abs().clamp(min=1e-7) ** 2), APART),
    "twice the inverse": (lambda x: (2 / (x.abs() + 1e-10)) / (2 / (x.abs() + 1e-10)).sum(0, True), APART),
    "acosh": (lambda x: torch.acosh(x.abs() + 1), LARGE),
    "asinh": (torch.asinh, LARGE),
}


@pytest.mark.parametrize("name", KILLERS)
def test_in_float16(name: str) -> None:
    metric = against_eager(*KILLERS[name], "default", check="rewrites")
    assert not metric.problem
    assert not metric.void
    assert metric.psnr >= 50


# One of each family: the formula as it was written fails, so the test above tests the pass.
@pytest.mark.parametrize(
    "name",
    [
        "log of softmax",
        "tanh by hand",
        "1 less exp",
        "sum over count",
        "variance by squares",
        "length",
        "inverse distances",
    ],
)
def test_as_it_was_written(name: str) -> None:
    metric = against_eager(*KILLERS[name], "default,-fp16-safe")
    assert metric.problem or metric.psnr < 40


def test_float32_is_left_alone() -> None:
    compiled = anec.compile(Call(lambda x: torch.log(torch.softmax(x, -1))), (SCORES,), precision="fp32")
    assert [op.defn.root for op in compiled.module.main] == ["softmax", "log"]


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_every_target_takes_it(target: str) -> None:
    function, x = KILLERS["log of softmax and epsilon"]
    assert against_eager(function, x, "default", target=target).psnr >= 50


def test_masked_scores() -> None:
    def entropy(x: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(x.masked_fill(x < 0, -math.inf), -1)
        return -(p * torch.log(p + 1e-9)).sum(-1)

    metric = against_eager(entropy, SCORES, "default", check="rewrites")
    assert not metric.problem
    assert metric.psnr >= 50


def test_what_is_close_to_a_hand_written_softmax_with_another_axis() -> None:
    def two_axes(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x) / torch.exp(x).sum((0, 1), keepdim=True)

    compiled = anec.compile(Call(two_axes), (FLAT,), precision="fp32", passes="default,ane,fp16-safe")
    assert "softmax" not in [op.defn.root for op in compiled.module.main]


MISSES = {
    "the sum is over another value": """
  %v1 = mil.exp(%x) : f32[2,8]
  %v2 = mil.exp(%z) : f32[2,8]
  %v3 = mil.reduce_sum(%v2) {axes=[1], keep_dims=true} : f32[2,1]
  %y = mil.real_div(%v1, %v3) : f32[2,8]
""",
    "the offset below is negative": """
  %v1 = mil.exp(%x) : f32[2,8]
  %v2 = mil.sub(%v1, 2.0) : f32[2,8]
  %y = mil.real_div(%v1, %v2) : f32[2,8]
""",
    "exp of another value above": """
  %v1 = mil.exp(%x) : f32[2,8]
  %v2 = mil.add(%v1, 1.0) : f32[2,8]
  %v3 = mil.exp(%z) : f32[2,8]
  %y = mil.real_div(%v3, %v2) : f32[2,8]
""",
    "another number than 1 is taken away": """
  %v1 = mil.exp(%x) : f32[2,8]
  %y = mil.sub(%v1, 0.5) : f32[2,8]
""",
    "the factor of the scores is harmless": """
  %v1 = mil.mul(%x, 0.125) : f32[2,8]
  %y = mil.softmax(%v1) {axis=1} : f32[2,8]
""",
    "the factor of the scores is negative": """
  %v1 = mil.mul(%x, -1000.0) : f32[2,8]
  %y = mil.softmax(%v1) {axis=1} : f32[2,8]
""",
    "float16 holds the guard": """
  %v1 = mil.add(%x, 0.001) : f32[2,8]
  %y = mil.log(%v1) {epsilon=0.0} : f32[2,8]
""",
    "log of 2 less a sigmoid": """
  %v1 = mil.sigmoid(%x) : f32[2,8]
  %v2 = mil.sub(2.0, %v1) : f32[2,8]
  %y = mil.log(%v2) {epsilon=0.0} : f32[2,8]
""",
    "a sum that grows": """
  %v1 = mil.reduce_sum(%x) {axes=[1], keep_dims=true} : f32[2,1]
  %v2 = mil.mul(%v1, 2.0) : f32[2,1]
  %y = mil.add(%v2, %x) : f32[2,8]
""",
    "the mean of another axis is squared": """
  %v1 = mil.square(%x) : f32[2,8]
  %v2 = mil.reduce_mean(%v1) {axes=[1], keep_dims=true} : f32[2,1]
  %v3 = mil.reduce_mean(%x) {axes=[0], keep_dims=true} : f32[1,8]
  %v4 = mil.square(%v3) : f32[1,8]
  %y = mil.sub(%v2, %v4) : f32[2,8]
""",
    "a remainder that is rounded": """
  %y = mil.mod(%x, 3.0) : f32[2,8]
""",
    "the root of a difference of squares": """
  %v1 = mil.square(%x) : f32[2,8]
  %v2 = mil.square(%z) : f32[2,8]
  %v3 = mil.sub(%v1, %v2) : f32[2,8]
  %y = mil.sqrt(%v3) : f32[2,8]
""",
    "the root of a square alone": """
  %v1 = mil.square(%x) : f32[2,8]
  %y = mil.sqrt(%v1) : f32[2,8]
""",
    "powers and root of different orders": """
  %v1 = mil.abs(%x) : f32[2,8]
  %v2 = mil.pow(%v1, 3.0) : f32[2,8]
  %v3 = mil.reduce_sum(%v2) {axes=[1], keep_dims=true} : f32[2,1]
  %v4 = mil.pow(%v3, 0.25) : f32[2,1]
  %y = mil.mul(%v4, %x) : f32[2,8]
""",
    "what is added may stand beside a number a little below 0": """
  %v1 = mil.add(%x, 1e-06) : f32[2,8]
  %y = mil.log(%v1) {epsilon=0.0} : f32[2,8]
""",
    "a factor below begins with a number": """
  %v1 = mil.maximum(0.5, %x) : f32[2,8]
  %v2 = mil.mul(%v1, %z) : f32[2,8]
  %y = mil.real_div(%z, %v2) : f32[2,8]
""",
    "inverse distances that are summed along another axis": """
  %v1 = mil.add(%x, 1e-08) : f32[2,8]
  %v2 = mil.real_div(1.0, %v1) : f32[2,8]
  %v3 = mil.reduce_sum(%v2) {axes=[1]} : f32[2]
  %v4 = mil.expand_dims(%v3) {axes=[0]} : f32[1,2]
  %v5 = mil.tile(%v4, [1, 4]) : f32[1,8]
  %y = mil.real_div(%v2, %v5) : f32[2,8]
""",
    "inverse distances that nothing keeps away from 0": """
  %v1 = mil.add(%x, 0.01) : f32[2,8]
  %v2 = mil.real_div(1.0, %v1) : f32[2,8]
  %v3 = mil.reduce_sum(%v2) {axes=[1], keep_dims=true} : f32[2,1]
  %y = mil.real_div(%v2, %v3) : f32[2,8]
""",
    "inverse distances over the sum of half of them": """
  %v1 = mil.add(%x, 1e-08) : f32[2,8]
  %v2 = mil.real_div(1.0, %v1) : f32[2,8]
  %v3 = mil.mul(%v2, 2.0) : f32[2,8]
  %v4 = mil.reduce_sum(%v2) {axes=[1], keep_dims=true} : f32[2,1]
  %y = mil.real_div(%v3, %v4) : f32[2,8]
""",
    "the factors below are no lengths": """
  %v1 = mil.mul(%x, %z) : f32[2,8]
  %y = mil.real_div(%z, %v1) : f32[2,8]
""",
}


@pytest.mark.parametrize("body", MISSES.values(), ids=MISSES)
def test_near_misses(body: str) -> None:
    head = "anec 1\nmodule target=iOS18\n\nfunc main(%x: f32[2,8], %z: f32[2,8]) -> (%y: f32[2,8]) {"
    module = golden.read(head + body + "  return %y\n}\n")
    before = golden.text_of(module)
    run_pass(module, Fp16Safe())
    assert golden.text_of(module) == before


def test_inverse_distances_of_free_size() -> None:
    text = """anec 1
module target=iOS18
dims n in 2..64

func main(%x: f32[2,n]) -> (%y: f32[2,n]) {
  %v1 = mil.add(%x, 1e-08) : f32[2,n]
  %v2 = mil.real_div(1.0, %v1) : f32[2,n]
  %v3 = mil.reduce_sum(%v2) {axes=[1], keep_dims=true} : f32[2,1]
  %y = mil.real_div(%v2, %v3) : f32[2,n]
  return %y
}
"""
    module, inputs = golden.read(text), {"x": torch.rand(2, 5) + 0.1}
    before = evaluate(module, inputs, precision=DOUBLE)
    assert run_pass(module, Fp16Safe()).fired == {"inverse_distances": 1}
    assert_same_numbers(before, evaluate(module, inputs, precision=DOUBLE), rtol=1e-10)


@pytest.mark.parametrize("by_reciprocal", [False, True])
def test_a_softmax_by_hand_in_a_loaded_program(by_reciprocal: bool) -> None:
    """From torch it is one op before it gets here."""

    def by_hand(x: Value) -> Value:
        powers = mil.exp(x)
        total = mil.reduce_sum(powers, axes=(-1,), keep_dims=True)
        return mil.mul(powers, mil.real_div(1.0, total)) if by_reciprocal else mil.real_div(powers, total)

    module, inputs = module_of(by_hand, torch.randn(3, 5))
    before = evaluate(module, inputs, precision=DOUBLE)
    assert run_pass(module, Fp16Safe()).fired == {"softmax": 1}
    assert [op.name for op in module.main] == ["mil.softmax"]
    assert_same_numbers(before, evaluate(module, inputs, precision=DOUBLE), rtol=1e-10)

"""Activations as models spell them, through `default`: one op is left, and the numbers hold in fp32 and fp16."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anec
from anec.api.compiling import compile_source
from anec.check.metrics import compare
from anec.frontend import Source

# The spelling, and the op that is left of it.
SPELLED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "gelu_bert": (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), "nn.gelu"),
    "gelu_half_in": (lambda x: x * (0.5 + 0.5 * torch.erf(x * 0.70710678)), "nn.gelu"),
    "gelu_gpt2": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0)))), "nn.gelu",
    ),
    "gelu_fast": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))), "nn.gelu",
    ),
    "gelu_megatron": (
        lambda x: x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))), "nn.gelu",
    ),
    "gelu_cubed": (
        lambda x: 0.5 * (x * (torch.tanh(0.7978845608028654 * x + 0.035677408136300125 * (x * x * x)) + 1)), "nn.gelu",
    ),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), "nn.gelu"),
    "swish": (lambda x: x * x.sigmoid(), "nn.silu"),
    "silu_by_exp": (lambda x: x / (1 + torch.exp(-x)), "nn.silu"),
    "silu_by_reciprocal": (lambda x: x * (1 / (1 + torch.exp(-x))), "nn.silu"),
    "hard_swish": (lambda x: x * F.relu6(x + 3) / 6, "nn.hard_swish"),
    "hard_swish_paddle": (lambda x: x * torch.clamp(x + 3.0, min=0.0, max=6.0) / 6.0, "nn.hard_swish"),
    "hard_swish_by_hardtanh": (lambda x: x * (F.hardtanh(x + 3, 0.0, 6.0) / 6), "nn.hard_swish"),
    "hard_swish_scaled": (lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1), "nn.hard_swish"),
    "hard_sigmoid": (lambda x: F.relu6(x + 3) / 6, "nn.hard_sigmoid"),
    "hard_sigmoid_paddle": (lambda x: F.relu6(1.2 * x + 3.0) / 6.0, "nn.hard_sigmoid"),
    "hard_sigmoid_keras": (lambda x: (0.2 * x + 0.5).clamp(0, 1), "nn.hard_sigmoid"),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), "nn.mish"),
    "mish_by_log": (lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))), "nn.mish"),
    "softplus": (lambda x: torch.log(1 + torch.exp(x)), "nn.softplus"),
    "softplus_beta": (lambda x: torch.log1p(torch.exp(2.0 * x)) / 2.0, "nn.softplus"),
    "relu6": (lambda x: torch.clamp(x, 0, 6), "aten.clamp.default"),
    "relu6_by_min_max": (
        lambda x: torch.minimum(torch.maximum(x, torch.tensor(0.0)), torch.tensor(6.0)), "aten.clamp.default",
    ),
    "leaky_relu": (lambda x: torch.where(x > 0, x, 0.1 * x), "aten.leaky_relu.default"),
    "leaky_relu_by_max": (lambda x: torch.max(x, x * 0.01), "aten.leaky_relu.default"),
    "elu": (lambda x: torch.where(x > 0, x, 1.5 * (torch.exp(x) - 1)), "aten.elu.default"),
    "elu_by_expm1": (lambda x: torch.where(x < 0, torch.expm1(x), x), "aten.elu.default"),
    "log_sigmoid": (lambda x: torch.log(torch.sigmoid(x)), "nn.log_sigmoid"),
    "log_sigmoid_by_softplus": (lambda x: -F.softplus(-x), "nn.log_sigmoid"),
    "softsign": (lambda x: x / (1 + x.abs()), "nn.softsign"),
    "sigmoid": (lambda x: 1 / (1 + torch.exp(-x)), "aten.sigmoid.default"),
    "tanh": (
        lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)), "aten.tanh.default",
    ),
}  # fmt: skip
# The activation in a gated unit, beside the product with the other half.
GATED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "glu": (lambda a, b: a * torch.sigmoid(b), "aten.sigmoid.default"),
    "swiglu": (lambda a, b: a * torch.sigmoid(a) * b, "nn.silu"),
    "geglu": (lambda a, b: b * (a * 0.5 * (1 + torch.erf(a / math.sqrt(2)))), "nn.gelu"),
    "hard_swiglu": (lambda a, b: a * F.relu6(a + 3) / 6 * b, "nn.hard_swish"),
}


class Activations(nn.Module):
    """Each of one input; an output an activation."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: function(x) for name, (function, _) in SPELLED.items()}


class Gates(nn.Module):
    """Each of the two halves of one input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a, b = x.chunk(2, -1)
        return {name: function(a, b) for name, (function, _) in GATED.items()}


def left(model: nn.Module, x: Tensor) -> dict[str, list[str]]:
    """By output, the ops that are left of it behind `default`, every rewrite checked."""
    graph = compile_source(Source(model, (x,)), finish=False, check="rewrites").module.main
    found = {}
    for port, output in zip(graph.signature.outputs, graph.outputs, strict=True):
        ops, stack = [], [output]
        while stack:
            op = stack.pop().op
            if op is not None and not op.is_constant and op.defn.root != "chunk":
                ops.append(op.name)
                stack.extend(op.inputs)
        found[port.name] = ops
    return found


def test_one_op_is_left():
    assert left(Activations(), torch.randn(3, 7)) == {name: [op] for name, (_, op) in SPELLED.items()}


def test_the_activation_of_a_gated_unit():
    for name, ops in left(Gates(), torch.randn(3, 8)).items():
        assert sorted(ops) == sorted(["aten.mul.Tensor", GATED[name][1]]), name


MODELS = {"alone": Activations, "gated": Gates}


@functools.cache
def compiled(name: str, precision: str) -> anec.CompiledModel:
    return anec.compile(MODELS[name](), (torch.zeros(5, 40),), precision=precision)


@pytest.mark.parametrize("name", MODELS)
def test_numbers(name):
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 4
    for precision, rel, psnr in (("fp32", 1e-5, 90.0), ("fp16", 1.0, 50.0)):
        found = compiled(name, precision).run({"x": x.numpy()})
        for output, reference in MODELS[name]()(x).items():
            metric = compare(output, torch.from_numpy(found[output]), reference)
            assert metric.rel < rel, (precision, metric)
            assert metric.psnr > psnr, (precision, metric)


def test_what_overflows_as_it_is_written_does_not_in_float16():
    """Beyond 11 exp is infinite in float16, and the quotient of two infinities is no number."""
    x = torch.tensor([-60.0, -20.0, 12.0, 60.0]).repeat(5, 10)
    found = compiled("alone", "fp16").run({"x": x.numpy()})
    for name, reference in Activations()(x.double()).items():
        torch.testing.assert_close(torch.from_numpy(found[name]).double(), reference, rtol=4e-3, atol=4e-3, msg=name)

"""Batch norms beside convs and linears: none is left, or an offset where padding has none, and numbers hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import anec
from anec.api.compiling import compile_source
from anec.frontend import Source
from anec.reference.evaluate import evaluate
from anec.testing import DOUBLE, assert_legal, assert_same_numbers

BatchNorm = nn.BatchNorm2d


class Formula(nn.Module):
    """A function of the input and of modules."""

    def __init__(self, function: Callable[..., torch.Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """The model with statistics and weights as training leaves them, negative gammas among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(drawn.abs() + 0.1 if name.endswith("var") else drawn + 0.3 * drawn.sign())
    return model.double().eval()


def sequential(*parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*parts)


def formula(function: Callable[..., torch.Tensor], *parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Formula(function, *parts)


IMAGE, ROWS, STEPS = (4, 7, 6), (4,), (4, 7)
# What each is made of, the shape of one example, and the ops that compute something.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "conv": (sequential(BatchNorm(4), nn.Conv2d(4, 6, 3, groups=2)), IMAGE, "conv"),
    "padded conv": (sequential(BatchNorm(4), nn.Conv2d(4, 6, 3, padding=1, groups=2)), IMAGE, "add conv"),
    "padded conv, bare": (sequential(BatchNorm(4, affine=False), nn.Conv2d(4, 5, 3, padding=1)), IMAGE, "add conv"),
    "depthwise": (sequential(BatchNorm(4), nn.Conv2d(4, 8, 3, groups=4)), IMAGE, "conv"),
    "conv_transpose": (
        sequential(BatchNorm(4), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)),
        IMAGE,
        "add conv_transpose",
    ),
    "pointwise conv_transpose": (sequential(BatchNorm(4), nn.ConvTranspose2d(4, 6, 1, groups=2)), IMAGE, "conv_transpose"),
    "strided conv_transpose": (
        sequential(BatchNorm(4), nn.ConvTranspose2d(4, 6, 1, stride=2)), IMAGE, "add conv_transpose"),
    "behind conv_transpose": (
        sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), BatchNorm(6)), IMAGE, "conv_transpose"),
    "twice": (sequential(BatchNorm(4), BatchNorm(4)), IMAGE, "batch_norm"),
    "twice behind conv": (sequential(nn.Conv2d(4, 5, 3), BatchNorm(5), BatchNorm(5, affine=False)), IMAGE, "conv"),
    "numbers behind": (formula(lambda x, norm: norm(x) * 0.5 + 2.0, BatchNorm(4)), IMAGE, "batch_norm"),
    "layer scale behind": (
        formula(lambda x, norm: (1.0 - norm(x)) / norm.running_var[:, None, None], BatchNorm(4)), IMAGE, "batch_norm"),
    "numbers in front": (formula(lambda x, norm: norm(0.5 - x / 4), BatchNorm(4)), IMAGE, "batch_norm"),
    "between two norms": (
        formula(lambda x, a, b: b(a(x) * 3.0 - 1.0), BatchNorm(4), BatchNorm(4)), IMAGE, "batch_norm"),
    "flattened": (sequential(BatchNorm(4), nn.Flatten(), nn.Linear(168, 5)), IMAGE, "reshape linear"),
    "adaptive pool": (
        sequential(BatchNorm(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), IMAGE,
        "reduce_mean squeeze linear"),
    "mean": (formula(lambda x, norm, to: to(norm(x).mean((2, 3))), BatchNorm(4), nn.Linear(4, 5)), IMAGE,
             "reduce_mean linear"),
    "pool, flattened": (
        sequential(BatchNorm(4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5)), IMAGE, "avg_pool reshape linear"),
    "pool, conv": (sequential(BatchNorm(4), nn.AvgPool2d(2), nn.Conv2d(4, 5, 1)), IMAGE, "avg_pool conv"),
    "tokens": (
        formula(lambda x, norm, to: to(norm(x).flatten(2).transpose(1, 2)), BatchNorm(4), nn.Linear(4, 5)), IMAGE,
        "reshape transpose linear"),
    "channels last": (
        formula(lambda x, norm, to: to(norm(x).permute(0, 2, 3, 1)), BatchNorm(4), nn.Linear(4, 5)), IMAGE,
        "transpose matmul add"),
    "rows": (sequential(nn.BatchNorm1d(4), nn.Linear(4, 5)), ROWS, "linear"),
    "steps": (sequential(nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(28, 5)), STEPS, "reshape linear"),
    "behind rows": (sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), ROWS, "linear"),
    "behind steps": (
        formula(lambda x, to, norm: norm(to(x.transpose(1, 2)).transpose(1, 2)), nn.Linear(4, 5), nn.BatchNorm1d(5)),
        STEPS, "transpose linear transpose"),
    "behind a projection": (
        formula(lambda x, to, norm: norm(to(x).view(-1, 5, 3, 2)), nn.Linear(4, 30), BatchNorm(5)), ROWS,
        "linear reshape"),
    "behind channels last": (
        formula(lambda x, to, norm: norm(to(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), nn.Linear(4, 5), BatchNorm(5)),
        IMAGE, "transpose matmul add transpose"),
    "behind a pool": (sequential(nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), BatchNorm(5)), IMAGE, "conv reduce_mean"),
    "rows behind a pool": (
        sequential(nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(5)), IMAGE,
        "conv reduce_mean squeeze"),
    "behind a resize": (
        sequential(nn.Conv2d(4, 5, 3), nn.Upsample(scale_factor=2), BatchNorm(5)), IMAGE,
        "conv upsample_nearest_neighbor"),
    "behind a shuffle": (
        sequential(nn.Conv2d(4, 8, 3), nn.PixelShuffle(2), BatchNorm(2)), IMAGE, "conv pixel_shuffle"),
    "behind a concat": (
        formula(lambda x, a, b, norm: norm(torch.cat([a(x), b(x)], 1)),
                nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 6, 1, groups=2, bias=False), BatchNorm(9)),
        IMAGE, "conv conv concat"),
    "behind a concat of all kinds": (
        formula(lambda x, a, b, norm: norm(torch.cat([a(x), F.avg_pool2d(b(x), 3, 1), a.weight[:1, :2, :1, :1].expand(len(x), -1, 5, 4)], 1)),
                nn.Conv2d(4, 3, 3), nn.ConvTranspose2d(4, 4, 1, groups=2), BatchNorm(9)),
        IMAGE, "conv conv_transpose avg_pool concat"),
    "rows behind a concat": (
        formula(lambda x, a, b, norm: norm(torch.cat([a(x), b(x)], 1)) * 0.5,
                nn.Linear(4, 3), nn.Linear(4, 5), nn.BatchNorm1d(8)), ROWS, "linear linear concat"),
    "concat along another axis": (
        formula(lambda x, a, b, norm: norm(torch.cat([a(x), b(x)], 3)), nn.Conv2d(4, 3, 3), nn.Conv2d(4, 3, 3), BatchNorm(3)),
        IMAGE, "conv conv concat"),
    "behind a concat of norms": (
        formula(lambda x, a, b, norm: norm(torch.cat([a(x), b(x.relu())], 1)), BatchNorm(4), BatchNorm(4), BatchNorm(8)),
        IMAGE, "relu batch_norm batch_norm concat"),
    "rows twice": (sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4)), ROWS, "mul add"),
    # What does not fold, since it would be another function.
    "max pool": (
        sequential(BatchNorm(4), nn.MaxPool2d(2), nn.Conv2d(4, 5, 1)), IMAGE, "batch_norm max_pool conv"),
    "relu between": (sequential(BatchNorm(4), nn.ReLU(), nn.Conv2d(4, 5, 1)), IMAGE, "batch_norm relu conv"),
    "concat of an input": (
        formula(lambda x, a, norm: norm(torch.cat([a(x), x], 1)), nn.Conv2d(4, 3, 1), BatchNorm(7)),
        IMAGE, "conv concat batch_norm"),
    "concat used twice": (
        formula(lambda x, a, b, norm: (lambda y: norm(y) + y)(torch.cat([a(x), b(x)], 1)),
                nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1), BatchNorm(5)), IMAGE, "conv conv concat batch_norm add"),
    "counted padding": (
        sequential(nn.Conv2d(4, 5, 3), nn.AvgPool2d(3, padding=1), BatchNorm(5)), IMAGE, "conv avg_pool batch_norm"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("seed", "batch"), [(0, 1), (1, 2), (2, 3)])
def test_batch_norms(name: str, seed: int, batch: int) -> None:
    build, shape, wanted = CASES[name]
    model = randomized(build(), seed)
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    single = build().float().eval()
    single.load_state_dict({key: tensor.float() for key, tensor in model.state_dict().items()})
    passes = "default,lower-to-mil,mil-cleanup"
    module = compile_source(Source(single, (x.float(),)), passes=passes, finish=False, check="rewrites").module
    assert_legal(module)
    computing = " ".join(op.defn.root for op in module.main if not op.is_constant)
    assert computing == wanted
    model.load_state_dict({key: tensor.double() for key, tensor in single.state_dict().items()})
    with torch.no_grad():
        reference = model.double()(x)
    inputs: dict[str, Any] = {module.main.signature.inputs[0].name: x}
    found = evaluate(module, inputs, precision=DOUBLE)
    assert_same_numbers(dict.fromkeys(found, reference), found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["flattened", "adaptive pool", "tokens", "behind a projection", "padded conv"])
def test_flexible_batch(name: str) -> None:
    build, shape, wanted = CASES[name]
    model = randomized(build(), 3).float()
    given = "x" if isinstance(model, Formula) else "input"
    compiled = anec.compile(model, (torch.zeros(2, *shape),), shapes={given: [(1, 8), *shape]}, precision="fp32")
    assert " ".join(op.defn.root for op in compiled.module.main if not op.is_constant) == wanted
    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            reference = model(x)
        (found,) = compiled.run({given: x.numpy()}).values()
        torch.testing.assert_close(torch.from_numpy(found), reference, rtol=1e-4, atol=1e-5)

"""Decomposition: what stays whole, what becomes core ATen, what becomes functional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import anec
from anec.errors import AnecError
from anec.frontend import KEPT, Lifted, decompose, export, lift
from lifting import Call, Lift


def roots(found: Lifted) -> list[str]:
    return [op.name.removeprefix("aten.") for op in found.module.main]


IMAGE = (2, 4, 6, 9)
SERIES = (2, 4, 7)
KEPT_CASES: list[tuple[str, tuple[int, ...], Callable[[torch.Tensor], Any]]] = [
    ("softplus.default", IMAGE, lambda x: F.softplus(x, beta=2)),
    ("log_sigmoid.default", IMAGE, F.logsigmoid),
    ("silu.default", IMAGE, F.silu),
    ("mish.default", IMAGE, F.mish),
    ("glu.default", IMAGE, lambda x: F.glu(x, 1)),
    ("hardswish.default", IMAGE, F.hardswish),
    ("hardsigmoid.default", IMAGE, F.hardsigmoid),
    ("relu6.default", IMAGE, F.relu6),
    ("celu.default", IMAGE, F.celu),
    ("softshrink.default", IMAGE, F.softshrink),
    ("hardshrink.default", IMAGE, F.hardshrink),
    ("threshold.default", IMAGE, lambda x: F.threshold(x, 0.1, 20.0)),
    ("softmax.int", IMAGE, lambda x: x.softmax(1)),
    ("log_softmax.int", IMAGE, lambda x: x.log_softmax(-1)),
    ("logsumexp.default", IMAGE, lambda x: x.logsumexp(1)),
    ("linalg_vector_norm.default", IMAGE, lambda x: torch.linalg.vector_norm(x, dim=1)),
    ("layer_norm.default", IMAGE, lambda x: F.layer_norm(x, (9,))),
    ("group_norm.default", IMAGE, lambda x: F.group_norm(x, 2)),
    ("instance_norm.default", IMAGE, F.instance_norm),
    ("rms_norm.default", IMAGE, lambda x: F.rms_norm(x, (9,))),
    ("scaled_dot_product_attention.default", IMAGE, lambda x: F.scaled_dot_product_attention(x, x, x)),
    ("einsum.default", IMAGE, lambda x: torch.einsum("abcd,abed->abce", x, x)),
    ("matmul.default", IMAGE, lambda x: x @ x.transpose(-1, -2)),
    ("grid_sampler.default", IMAGE, lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)),
    ("upsample_bicubic2d.vec", IMAGE, lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    ("_upsample_bicubic2d_aa.vec", IMAGE, lambda x: F.interpolate(x, (3, 5), mode="bicubic", antialias=True)),
    ("_upsample_bilinear2d_aa.vec", IMAGE, lambda x: F.interpolate(x, (3, 5), mode="bilinear", antialias=True)),
    ("upsample_bilinear2d.vec", IMAGE, lambda x: F.interpolate(x, (7, 7), mode="bilinear", align_corners=True)),
    ("upsample_nearest2d.vec", IMAGE, lambda x: F.interpolate(x, scale_factor=2)),
    ("_upsample_nearest_exact2d.vec", IMAGE, lambda x: F.interpolate(x, (7, 7), mode="nearest-exact")),
    ("upsample_linear1d.vec", SERIES, lambda x: F.interpolate(x, 9, mode="linear")),
    ("upsample_nearest1d.vec", SERIES, lambda x: F.interpolate(x, 9)),
    ("_upsample_nearest_exact1d.vec", SERIES, lambda x: F.interpolate(x, 9, mode="nearest-exact")),
    ("upsample_trilinear3d.vec", (1, 2, 3, 4, 5), lambda x: F.interpolate(x, (4, 4, 4), mode="trilinear")),
    ("pixel_shuffle.default", IMAGE, lambda x: F.pixel_shuffle(x, 2)),
    ("pixel_unshuffle.default", (2, 4, 6, 8), lambda x: F.pixel_unshuffle(x, 2)),
    ("pad.default", IMAGE, lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect")),
    ("pad.default", IMAGE, lambda x: F.pad(x, (1, 2, 1, 0), mode="circular")),
    ("pad.default", IMAGE, lambda x: F.pad(x, (1, 2, 1, 0), mode="replicate")),
    ("roll.default", IMAGE, lambda x: x.roll((1, 2), (2, 3))),
    ("tril.default", IMAGE, lambda x: x.tril(1)),
    ("triu.default", IMAGE, lambda x: x.triu(-1)),
    ("stack.default", IMAGE, lambda x: torch.stack([x, x], 2)),
    ("adaptive_avg_pool1d.default", SERIES, lambda x: F.adaptive_avg_pool1d(x, 3)),
    ("adaptive_avg_pool2d.default", IMAGE, lambda x: F.adaptive_avg_pool2d(x, 1)),
    ("adaptive_avg_pool3d.default", (1, 2, 3, 4, 5), lambda x: F.adaptive_avg_pool3d(x, 2)),
    ("adaptive_max_pool1d.default", SERIES, lambda x: F.adaptive_max_pool1d(x, 3)),
    ("avg_pool1d.default", SERIES, lambda x: F.avg_pool1d(x, 2)),
    ("max_pool1d.default", SERIES, lambda x: F.max_pool1d(x, 2)),
    ("max_pool2d.default", IMAGE, lambda x: F.max_pool2d(x, 3, 2, 1)),
    ("max_pool3d.default", (1, 2, 3, 4, 5), lambda x: F.max_pool3d(x, 2)),
]


@pytest.mark.parametrize(("name", "shape", "function"), KEPT_CASES)
def test_composites_stay_whole(
    lifted: Lift, name: str, shape: tuple[int, ...], function: Callable[[torch.Tensor], Any]
) -> None:
    assert name in KEPT
    found = lifted(Call(function), torch.randn(shape))
    assert roots(found).count(name) == 1
    others = set(roots(found)) - {name}
    assert others <= {"permute.default", "slice.Tensor", "transpose.int"}, others


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_stay_whole(lifted: Lift, kind: Any, bidirectional: bool) -> None:
    model = nn.Sequential(kind(5, 3, num_layers=2, bidirectional=bidirectional, batch_first=True))
    found = lifted(model, torch.randn(2, 4, 5))
    assert len([name for name in roots(found) if name.endswith(".input")]) == 1
    assert len(found.module.main) <= 3


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: x.repeat_interleave(2, 1), "expand.default"),
        (lambda x: x.masked_fill(x > 0, torch.tensor(-1.0)), "where.self"),
        (lambda x: x.std(1), "var.correction"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu.default"),
        (F.elu, "elu.default"),
        (F.leaky_relu, "leaky_relu.default"),
    ],
)
def test_all_others_become_core_aten(lifted: Lift, function: Callable[[torch.Tensor], Any], wanted: str) -> None:
    assert wanted in roots(lifted(Call(function), torch.randn(IMAGE)))


def test_in_place_ops_become_functional(lifted: Lift) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y.relu_()
        view = y[:, 1:3]
        view.mul_(2)
        y[0] = 0
        return y

    found = lifted(Call(function), torch.randn(IMAGE))
    assert not [op for op in found.module.main if op.defn.root.endswith("_")]


def test_a_decomposed_program_passes_through() -> None:
    program = export(Call(F.softplus), (torch.ones(3),)).run_decompositions(torch.export.default_decompositions())
    assert decompose(program) is program
    assert "softplus" not in str(lift(program).module)


def test_a_program_with_in_place_ops_is_refused_by_lift() -> None:
    with pytest.raises(AnecError, match="writes in place") as caught:
        lift(export(Call(lambda x: x[1:].relu_()), (torch.ones(3),)))
    assert "decompose" in str(caught.value.hint)


def test_the_kept_set_is_data_with_reasons() -> None:
    assert all(len(why) > 20 for why in KEPT.values())
    known = [name for name in KEPT if hasattr(getattr(torch.ops.aten, name.split(".")[0], None), name.split(".")[1])]
    assert len(known) == len(KEPT), "every name exists in the torch these tests run with"
    program = export(Call(F.softplus), (torch.ones(3),))
    assert "softplus" not in str(lift(decompose(program, keep=())).module)
    assert "softplus" in str(lift(decompose(program, keep=["softplus.default", "not_an_op.default"])).module)


def test_vmap_of_ops_that_stay_leaves_nothing_behind(lifted: Callable[..., Any]) -> None:
    class Mapped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(lambda row: row * 2 + 1)(x)

    assert [op.name for op in lifted(Mapped(), torch.randn(2, 3)).module.main] == ["aten.mul.Tensor", "aten.add.Tensor"]


def test_vmap_inside_of_vmap(lifted: Callable[..., Any]) -> None:
    """Export keeps a wrapper of the outer level as a constant, which has no memory."""

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(torch.vmap(lambda row: self.weight @ row))(x)

    model, x = Nested(), torch.randn(2, 5, 3)
    assert not lifted(model, x).module.weights.keys() - {"weight"}
    (found,) = anec.compile(model, (x,), precision="fp32").run({"x": x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x).detach())


def test_an_identity_beyond_bytes() -> None:
    """Taken apart it is ranges of uint16, which torch does not compute."""

    class Rows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(300)[x]

    x = torch.tensor([3, 299])
    program = torch.export.export(Rows(), (x,))
    for model in (program, program.run_decompositions()):
        (found,) = anec.compile(model, (x,), precision="fp32").run({"x": x}).values()
        assert torch.equal(torch.as_tensor(found), Rows()(x))


def test_linspace_is_torchs_own() -> None:
    """Taken apart, its integers come of products in float32, which fall short of whole numbers."""

    class Spaced(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + torch.linspace(-3, 10, 50, dtype=torch.int64), x + torch.linspace(-1, 1, 50)

    x = torch.zeros(50)
    compiled = anec.compile(Spaced(), (x,), precision="fp32")
    for found, wanted in zip(compiled.run({"x": x}).values(), Spaced()(x), strict=True):
        assert torch.equal(torch.as_tensor(found), wanted)

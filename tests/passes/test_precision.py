"""precision: what float16 cannot hold stays in float32, and nothing else does."""

from __future__ import annotations

import json

import pytest
import torch

import anec
from anec.check.metrics import compare
from anec.errors import AnecError, UsageError
from anec.ir.facts import is_constant
from anec.ir.types import DType
from anec.passes.precision import META


class Kernel(torch.nn.Module):
    """A sum of squares beyond 65504 that a factor brings back, between layers that float16 serves well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(16, 16), torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = torch.exp(-((x - x.flip(0)) * 1000).pow(2).sum(-1, keepdim=True) / 1e8)
        hidden = torch.relu(self.first(x))
        return self.last(hidden * weight), hidden


class Deep(torch.nn.Module):
    def __init__(self, layers: int = 8) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x) * 2)
        return x


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def psnr(model: torch.nn.Module, compiled: anec.CompiledModel, x: torch.Tensor) -> float:
    wanted = model(x)
    found = compiled.run({"x": x}).values()
    pairs = zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True)
    return min(compare("y", torch.from_numpy(a), b).psnr for a, b in pairs)


def wide(compiled: anec.CompiledModel) -> list[str]:
    """The ops that compute in float32."""
    return [
        op.defn.root
        for op in compiled.module.main
        if op.results and op.result.tensor.dtype is DType.F32 and op.defn.root != "cast" and not is_constant(op.result)
    ]


@pytest.mark.parametrize("batch", [1, 4])
def test_what_overflows_stays(batch: int) -> None:
    model, x = Kernel().eval(), drawn(batch, 16)
    x = x if batch > 1 else x.repeat(2, 1) * torch.tensor([[1.0], [2.0]])
    assert not psnr(model, anec.compile(model, (x,)), x) >= 50
    compiled = anec.compile(model, (x,), precision="mixed", check="numerics")
    assert psnr(model, compiled, x) >= 50
    assert set(wide(compiled)) <= {"mul", "square", "reduce_sum", "reduce_mean", "sub"}
    assert "linear" not in wide(compiled)


def test_what_is_told() -> None:
    compiled = anec.compile(Kernel().eval(), (drawn(4, 16),), precision="mixed")
    report = next(done for done in compiled.report.passes if done.spec == "precision")
    assert len(report.notes) == 2
    assert "reaches" in report.notes[0]
    assert "test_precision.py:" in report.notes[0]
    assert "dB with" in report.notes[1]
    kept = json.loads(compiled.module.meta[META])
    assert kept
    assert {name for op in compiled.module.main for name in (r.name for r in op.results)} >= set(kept)


def test_nothing_stays_where_float16_does() -> None:
    compiled = anec.compile(Deep().eval(), (drawn(2, 16),), precision="mixed")
    assert wide(compiled) == []
    assert META not in compiled.module.meta


def test_rounding_that_adds_up() -> None:
    model, x = Deep().eval(), drawn(3, 16)
    plain = psnr(model, anec.compile(model, (x,)), x)
    asked = round(plain + 3, 1)
    compiled = anec.compile(model, (x,), passes=f"default,ane,precision{{min-psnr={asked}}}")
    assert psnr(model, compiled, x) >= asked
    assert 0 < len(wide(compiled)) < 24


HEAD = "anec 1\nmodule target=iOS18\n\n"
# States are float16 in any case.
STATE = """func main(%x: f32[4], %s: state<f32[4]>) -> (%y: f32[4]) {
  %a = mil.coreml_update_state(%s, %x) : f32[4]
  %y = mil.mul(%a, 3.0) : f32[4]
  return %y
}
"""


def test_out_of_reach() -> None:
    with pytest.raises(AnecError, match="float32 wherever it is possible reaches"):
        anec.opt(anec.read(HEAD + STATE), "precision{min-psnr=120}", inputs={"x": drawn(4)})
    anec.opt(anec.read(HEAD + STATE), "precision{min-psnr=60}", inputs={"x": drawn(4)})


def test_it_needs_inputs() -> None:
    exp = "func main(%x: f32[4]) -> (%y: f32[4]) {\n  %y = mil.exp(%x) : f32[4]\n  return %y\n}\n"
    with pytest.raises(UsageError, match="needs example inputs"):
        anec.opt(anec.read(HEAD + exp), "precision")

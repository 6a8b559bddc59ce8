"""Exporting: modes are kept, inputs stay apart, failures are explained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from anec.errors import AnecError, UsageError
from anec.frontend import Lifted, evaluating, export, from_torch

Lift = Callable[..., Lifted]


class Mixed(nn.Module):
    """Parts in different modes, as in fine-tuning with a frozen norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(x))


def test_modes_are_restored_one_by_one(lifted: Lift) -> None:
    model = Mixed()
    model.norm.eval()
    found = lifted(model, torch.randn(2, 3, 5, 4))
    assert (model.training, model.norm.training, model.drop.training) == (True, False, True)
    assert "the model was in training mode; it was compiled in evaluation mode" in found.module.main.signature.notes
    for op in found.module.main:
        assert op.attrs.get("training", False) is False
        assert op.attrs.get("train", False) is False
    assert "batch_norm" in found.module.main.first.defn.root


def test_modes_are_restored_behind_a_failure() -> None:
    class Fails(Mixed):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today")

    model = Fails()
    with pytest.raises(AnecError, match="not today"):
        export(model, (torch.ones(1),))
    assert model.training
    assert model.drop.training


def test_an_evaluated_model_gets_no_note(lifted: Lift) -> None:
    assert lifted(Mixed().eval(), torch.randn(1, 3, 2, 2)).module.main.signature.notes == []


def test_a_program_that_refuses_eval_can_be_exported_again(lifted: Lift) -> None:
    inner = torch.export.export(nn.Sequential(nn.Linear(3, 2)), (torch.ones(1, 3),)).module()
    with pytest.raises(NotImplementedError):
        inner.eval()
    inner.training = True
    found = from_torch(inner, torch.ones(1, 3))
    assert [op.name for op in found.module.main] == ["aten.linear.default"]
    assert inner.training


def test_gradients_are_restored() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 2))
    model[0].weight.requires_grad_(False)
    export(model, (torch.ones(2, 1, 3),))
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad
    assert model[1].weight_ih_l0.requires_grad


def test_evaluating_leaves_other_modules_alone() -> None:
    model, other = Mixed(), Mixed()
    with evaluating(model):
        assert not model.drop.training
        assert other.training


def test_a_tensor_passed_twice_stays_two_inputs(lifted: Lift) -> None:
    """torch.export alone folds both into one, and the other is ignored without a word."""

    class Two(nn.Module):
        def forward(self, x: torch.Tensor, ys: list[torch.Tensor], z: torch.Tensor | None = None) -> torch.Tensor:
            assert z is not None
            return x * 2 + ys[0] * 3 + ys[1] * 5 + z * 7

    x = torch.randn(4)
    found = lifted(Two(), (x, [x, x]), {"z": x})
    assert [port.name for port in found.module.main.signature.inputs] == ["x", "ys_0", "ys_1", "z"]
    ours = [torch.randn(4) for _ in range(4)]
    assert found.bind_inputs((ours[0], ours[1:3]), {"z": ours[3]})["ys_1"] is ours[2]


def test_the_fused_encoder_path_is_not_taken(lifted: Lift) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        found = from_torch(layer, torch.randn(1, 5, 8))
    names = {op.defn.root for op in found.module.main}
    assert "scaled_dot_product_attention" in names
    assert not any("encoder_layer" in name for name in names)
    assert torch.backends.mha.get_fastpath_enabled()


def test_inference_mode_outside_is_harmless(lifted: Lift) -> None:
    model = nn.Linear(3, 2).eval()
    with torch.inference_mode():
        assert len(from_torch(model, torch.ones(1, 3)).module.main) == 1


def test_no_grad_and_autocast_regions_are_inlined(lifted: Lift) -> None:
    class Regions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                y = x * 2
            with torch.autocast("cpu", enabled=False):
                y = y @ y
            with torch.autocast("cpu", dtype=torch.bfloat16):
                z = y @ y
            return z.float() + y

    found = lifted(Regions().eval(), torch.randn(3, 3))
    assert [op.defn.root for op in found.module.main].count("matmul") == 2
    assert "bf16" in {str(value.tensor.dtype) for value in found.module.main.values.values()}


def test_graph_modules_and_programs(lifted: Lift) -> None:
    class Add(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    traced = torch.fx.symbolic_trace(Add())
    assert [op.name for op in lifted(traced, torch.ones(2)).module.main] == ["aten.add.Tensor"]
    program = torch.export.export(Add(), (torch.ones(2),))
    assert export(program) is program
    assert list(from_torch(program).inputs) == ["x"]
    with pytest.raises(UsageError, match="exported already"):
        export(program, dynamic_shapes={"x": {0: Dim("n")}})


@pytest.mark.parametrize(("model", "message"), [(nn.ReLU, "a class; pass an instance"), (len, "a builtin")])
def test_what_is_no_model(model: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export(model)


# -- failures ------------------------------------------------------------------------------------------


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class Loop(nn.Module):
    def forward(self, x: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.ones(int(h), int(w)) for h, w in sizes]) + x


class Shapes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.ones(7, 7)


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.numpy() + 1


class Returns(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"x": x, "other": object()}


@pytest.mark.parametrize(
    ("model", "args", "reason", "line", "hint"),
    [
        (Branch(), (torch.ones(2, 3),), "data-dependent", "if x.sum() > 0:", "--bind"),
        (Loop(), (torch.ones(1), torch.tensor([[1, 2]])), "", "torch.cat", "--bind"),
        (Shapes(), (torch.ones(2, 3),), "reduction dim", "return x @ torch.ones(7, 7)", "runs by itself"),
        (Numpy(), (torch.ones(2, 3),), "numpy", "return x.numpy() + 1", "--bind"),
        (Returns(), (torch.ones(2, 3),), "not a known type", None, "registered dataclass"),
        (Shapes(), (torch.ones(2, 3), torch.ones(2)), "too many positional", None, "do not fit forward"),
        (Shapes(), (object(),), "Unsupported input type", None, "register_dataclass"),
    ],
)
def test_failures_are_explained(
    model: nn.Module, args: tuple[Any, ...], reason: str, line: str | None, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AnecError, match=r"torch\.export failed") as caught:
        export(model, args)
    error = caught.value
    assert reason in error.message
    assert "\n" not in error.message
    assert hint in str(error.hint)
    if line is None:
        assert error.where is None
    else:
        assert error.where is not None
        assert line in error.where
        assert Path(__file__).name in error.where
    assert "def forward" not in capfd.readouterr().err, "torch's own dump of the graph reached the terminal"


def test_what_the_model_prints_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    class Talks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("working", file=sys.stderr)
            return x + 1

    export(Talks(), (torch.ones(1),))
    assert "working" in capfd.readouterr().err


def test_torchscript_is_refused() -> None:
    scripted = torch.jit.trace(nn.ReLU(), torch.ones(2))
    with pytest.raises(AnecError) as caught:
        export(scripted, (torch.ones(2),))
    assert "TorchScript" in str(caught.value.hint)
    with pytest.raises(AnecError) as caught:
        export(nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.Sequential(nn.ReLU()))), (torch.ones(2),))
    assert "1 is TorchScript" in str(caught.value.hint)

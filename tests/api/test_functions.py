"""Several functions of one model in one package, and bound inputs through the whole compilation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import anec
from anec.api.functions import as_shape
from anec.errors import AnecError, CheckError, UnsupportedError, UsageError


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(64, 256)
        self.back = nn.Linear(256, 64)

    def forward(self, x: torch.Tensor, grid: torch.Tensor, scale: int = 1) -> torch.Tensor:
        for t, h, w in grid:
            x = x + torch.arange(h * w).reshape(-1, 1)[: x.shape[0]] * t
        return self.back(torch.relu(self.wide(x))) * scale


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model().eval()


def call() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 64), torch.tensor([[1, 2, 2]])


FUNCTIONS: dict[str, dict[str, Any]] = {
    "small": {"grid": [[1, 2, 2]]},
    "large": {"grid": [[1, 2, 3], [2, 1, 6]], "x": "6x64", "scale": 3},
}


def weights_size(package: Path) -> int:
    return (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size


def test_one_function_with_a_bound_input(model: Model, tmp_path: Path) -> None:
    compiled = anec.compile(model, call(), bind={"grid": [[2, 2, 2]]}, precision="fp32", check="all")
    compiled.save(tmp_path / "x.mlpackage")
    loaded = anec.load(tmp_path / "x.mlpackage")
    assert loaded.input_names == ["x"]
    assert json.loads(loaded.module.meta["bound"]) == {"grid": "[[2, 2, 2]]"}
    assert "grid is bound to [[2, 2, 2]]" in compiled.report.notes
    x = torch.randn(4, 64)
    with torch.no_grad():
        wanted = model(x, torch.tensor([[2, 2, 2]]))
    np.testing.assert_allclose(loaded.run({"x": x})["output"], wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def package(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "two.mlpackage"
    torch.manual_seed(0)
    compiled = anec.compile(model, call(), functions=FUNCTIONS, precision="fp32", check="numerics")
    assert sorted(compiled.example_inputs) == ["large/x", "small/x"]
    assert "large: scale is bound to 3" in compiled.report.notes
    compiled.save(path)
    return path


def test_each_function_is_its_own(model: Model, package: Path) -> None:
    loaded = anec.load(package)
    assert list(loaded.module.functions) == ["small", "large"]
    assert json.loads(loaded.module.meta["bound"])["large"] == {"grid": "[[1, 2, 3], [2, 1, 6]]", "scale": "3"}
    for name, length, scale in (("small", 4, 1), ("large", 6, 3)):
        x = torch.randn(length, 64)
        with torch.no_grad():
            wanted = model(x, torch.tensor(FUNCTIONS[name]["grid"]), scale)
        found = loaded.run({"x": x}, function=name)["output"]
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_functions_share_their_weights(model: Model, package: Path, tmp_path: Path) -> None:
    anec.compile(model, call(), bind=FUNCTIONS["small"], precision="fp32").save(tmp_path / "one.mlpackage")
    one, two = weights_size(tmp_path / "one.mlpackage"), weights_size(package)
    largest = model.wide.weight.nbytes
    # `scale` is folded into the second layer of `large`, which so has a weight of its own.
    assert two - one < largest + 4096
    found = anec.load(package).module
    matrices = {
        function: {
            w.tensor().data_ptr() for value in graph.weights.values() if (w := value.weight) and w.type.size > 4096
        }
        for function, graph in found.functions.items()
    }
    assert matrices["small"] & matrices["large"]


def test_names_of_functions_and_inputs_are_checked(model: Model, package: Path) -> None:
    loaded = anec.load(package)
    with pytest.raises(UsageError, match="which function") as caught:
        loaded.run({"x": torch.zeros(4, 64)})
    assert "small, large" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no function 'middle'"):
        loaded.run({}, function="middle")
    assert "small(x: f32[4,64])" in repr(loaded)
    with pytest.raises(UsageError, match="not a legal function name"):
        anec.compile(model, call(), functions={"2x": {}})
    with pytest.raises(UnsupportedError, match="small, large need iOS18"):
        anec.compile(model, call(), functions=FUNCTIONS, target="iOS17")
    with pytest.raises(UsageError, match="function large: there is no input 'gird' to bind"):
        anec.compile(model, call(), functions={"small": FUNCTIONS["small"], "large": {"gird": 1}})
    with pytest.raises(AnecError, match="function large: ") as unbound:
        anec.compile(model, call(), functions={"small": FUNCTIONS["small"], "large": {}})
    assert "--bind grid=[[1,2,2]]" in str(unbound.value.hint)


def test_a_program_takes_no_other_shapes() -> None:
    program = torch.export.export(nn.ReLU(), (torch.ones(2),))
    with pytest.raises(UsageError, match="exported already"):
        anec.compile(program, functions={"a": {"input": "3x"}})
    assert anec.compile(program, functions={"main": {}}, target="iOS15").input_names == ["input"]


@pytest.mark.parametrize(
    ("value", "shape"),
    [("784x588", (784, 588)), ("64x", (64,)), (torch.Size([3, 4]), (3, 4)), (64, None), ("mean", None), ([3, 4], None)],
)
def test_what_is_a_shape(value: Any, shape: tuple[int, ...] | None) -> None:
    assert as_shape(value) == shape


# -- checks look at every function ---------------------------------------------------------------------


def spoil(module: anec.Module, function: str) -> None:
    """Scale the output of one function."""
    from anec.ir.build import Builder

    graph = module.functions[function]
    before = graph.outputs[0]
    with Builder(graph).active():
        graph.outputs[0] = anec.mil.mul(before, 1.5)


@pytest.mark.parametrize("function", ["small", "large"])
def test_checks_look_at_every_function(model: Model, function: str) -> None:
    from anec.check.numerics import first_difference, run_functions
    from anec.pipeline.checks import CheckNumerics, MeasureLoss
    from anec.pipeline.clone import clone
    from anec.pipeline.manager import PassReport

    compiled = anec.compile(model, call(), functions=FUNCTIONS, precision="fp32")
    module, inputs = compiled.module, compiled.example_inputs
    assert sorted(run_functions(module, inputs)) == ["large/output", "small/output"]
    wrong = clone(module)
    spoil(wrong, function)

    class Rough(anec.Pass):
        name = "rough"
        fidelity = anec.Lossy("on purpose", at_least=60.0)

    class Same(anec.Pass):
        name = "same"

    numerics, loss = CheckNumerics(inputs), MeasureLoss(inputs)
    numerics.start(module, ())
    with pytest.raises(CheckError, match=f"'{function}/output' is off"):
        numerics.after(Same(), PassReport(1, "same", changed=True), wrong)
    loss.before(Rough(), 1, module)
    with pytest.raises(CheckError, match="loses too much"):
        loss.after(Rough(), PassReport(1, "rough", changed=True), wrong)
    assert first_difference(module, clone(module), inputs, lambda metric: metric.rel <= 1e-9) is None


def test_bare_names_are_for_every_function(model: Model) -> None:
    from anec.check.numerics import inputs_of

    module = anec.compile(model, call(), functions=FUNCTIONS, precision="fp32").module
    x, other = torch.zeros(4, 64), torch.zeros(6, 64)
    assert inputs_of(module, "small", {"x": x, "large/x": other})["x"] is x
    assert inputs_of(module, "large", {"x": x, "large/x": other})["x"] is other
    assert inputs_of(module, "small", {"large/x": other}) == {}

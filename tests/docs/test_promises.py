"""Sentences of the pages that no command shows by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import anec
from anec.errors import UsageError
from anec.pipeline import registry

ROOT = Path(__file__).parents[2]


def sigmoid_products(*slopes: float) -> str:
    """IR text of a chain of x * sigmoid(slope * x)."""
    lines, last = [], "x"
    for index, slope in enumerate(slopes):
        lines += [
            f"  %a{index} = mil.mul(%{last}, {slope}) : f32[4]",
            f"  %b{index} = mil.sigmoid(%a{index}) : f32[4]",
            f"  %c{index} = mil.mul(%b{index}, %{last}) : f32[4]",
        ]
        last = f"c{index}"
    head = ["anec 1", "module target=iOS18", "", "func main(%x: f32[4]) -> (%y: f32[4]) {"]
    return "\n".join([*head, *lines, f"  return %{last}", "}"])


@pytest.mark.parametrize(
    ("slopes", "fired", "missed"), [((1.702,), 1, False), ((1.702, 1.5), 1, True), ((1.5,), 0, True)]
)
def test_a_near_miss_is_told_where_the_rule_did_not_fire(slopes: tuple[float, ...], fired: int, missed: bool) -> None:
    from anec.api.text import optimize

    registry.load_plugin(str(ROOT / "examples" / "plugin" / "fuse_gelu.py"))
    _, report = optimize(anec.read(sigmoid_products(*slopes)), "fuse-gelu")
    (done,) = report.passes
    assert done.fired.get("gelu_sigmoid", 0) == fired
    assert ("wanted constant 1.702, got 1.5" in done.misses.get("gelu_sigmoid", "")) == missed
    if not missed:
        assert "gelu_sigmoid" not in done.misses


def test_to_fp16_that_was_typed_is_not_undone_by_finish() -> None:
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sigmoid()).eval(), torch.randn(2, 4)

    def dtypes(passes: str) -> dict[str, str]:
        module = anec.compile(model, (x,), passes=passes).module
        return {op.name: str(op.result.tensor.dtype) for op in module.main if op.name != "mil.cast"}

    assert dtypes("default,ane") == {"mil.linear": "f16", "mil.sigmoid": "f16"}
    assert dtypes("default,ane,to-fp16{keep=[sigmoid]}") == {"mil.linear": "f16", "mil.sigmoid": "f32"}


def test_an_unknown_pass_is_hinted_to_pipelines_too() -> None:
    with pytest.raises(UsageError) as caught:
        anec.opt(anec.read(sigmoid_products(1.5)), "defualt")
    assert "'default'" in (caught.value.hint or "")


def test_the_model_keeps_its_mode_and_its_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout()).train()
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    compiled = anec.compile(model, (torch.randn(2, 4),), passes="default,ane")
    assert model.training
    assert model[1].training
    for name, parameter in model.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])
    held = {weight.tensor().data_ptr() for weight in compiled.module.weights.values()}
    assert held <= {pointer for pointer, _ in before.values()}


def test_importing_anec_loads_neither_torch_nor_coremltools() -> None:
    import subprocess
    import sys

    code = "import sys, anec; anec.mil.add; print(sorted({'torch', 'coremltools'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

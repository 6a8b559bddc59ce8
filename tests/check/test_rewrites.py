"""Level 1: a right rule passes, a wrong one is blamed, what cannot be checked is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anec
from anec import Pass, Value, mil, register, rewrite, var
from anec.check import rewrites as checking
from anec.check.fidelity import Close, Lossy
from anec.errors import CheckError
from anec.ir.graph import Module
from anec.pipeline.checks import CheckRewrites
from anec.pipeline.manager import Manager, Report
from anec.pipeline.spec import build
from rewriting import module_of

x, y = var("x"), var("y")


def check(module: Module, *rules: Any, inputs: Any = None, **settings: Any) -> dict[str, Any]:
    """Run the rules as one pass under the check; what the report says of it."""
    made = type("Made", (Pass,), {"name": "made", "rules": rules, "__doc__": "Made.", **settings})
    register(made)
    try:
        report: Report = Manager([CheckRewrites()], inputs).run(module, build("made", {}))
    finally:
        anec.pipeline.registry._PASSES.pop("made")  # type: ignore[attr-defined]
    return dict(report.checks["rewrites"])


def rule(pattern: Any, build_new: Any, name: str = "rule", **settings: Any) -> Any:
    return rewrite(pattern, name=name, **settings)(build_new)


DOUBLE = rule(mil.add(x, x), lambda x: mil.mul(x, 2.0))


def test_a_right_rule_passes() -> None:
    found = check(module_of(lambda a: mil.relu(mil.add(a, a))), DOUBLE)
    assert found == {"checked": 1, "unchecked": {}}


@pytest.mark.parametrize("dtype", ["f16", "f32", "i32"])
def test_a_wrong_rule_is_blamed(dtype: str) -> None:
    wrong = rule(mil.add(x, y), lambda x, y: mil.sub(x, y), name="wrong")
    module = module_of(lambda a, b: mil.abs(mil.add(a, b)), f"{dtype}[2,3]", f"{dtype}[2,3]", line="net.py:12")
    with pytest.raises(CheckError, match="the rule wrong changes the numbers at %add: ") as caught:
        check(module, wrong)
    error = caught.value
    assert (error.rule, error.pass_name, error.where) == ("wrong", "made", "net.py:12 (net)")
    lines = (error.window or "").split("\n")
    assert lines[0] == "before:"
    assert lines[1].startswith("%add = mil.add(%x0, %x1)")
    assert lines[lines.index("after:") + 1].startswith("%add_sub = mil.sub(%x0, %x1)")
    assert any(line.startswith("%x0 = (2, 3) [") for line in lines)
    assert "test_rewrites.py:" in (error.hint or "")


def test_rounding_is_no_error() -> None:
    """In float64 both sides are equal, though in float16 they round differently."""
    spread = rule(mil.mul(mil.add(x, y), 3.0), lambda x, y: mil.add(mil.mul(x, 3.0), mil.mul(y, 3.0)))
    found = check(module_of(lambda a, b: mil.mul(mil.add(a, b), 3.0), "f16[4]", "f16[4]"), spread)
    assert found["checked"] == 1


def test_edge_values_are_tried() -> None:
    """Right for plain draws, wrong at a tie: rounding half up is not rounding half to even."""
    half_up = rule(mil.round(x), lambda x: mil.floor(mil.add(x, 0.5)), name="half_up")
    with pytest.raises(CheckError, match="half_up"):
        check(module_of(mil.round), half_up)
    corner = rule(mil.relu6(x), lambda x: mil.clip(x, alpha=0.0, beta=6.0000001), name="corner")
    with pytest.raises(CheckError, match="corner"):
        check(module_of(mil.relu6), corner)


def test_the_domain_of_a_rule_is_kept() -> None:
    pattern, build_new = mil.abs(x), lambda x: mil.identity(x)
    with pytest.raises(CheckError):
        check(module_of(mil.abs), rule(pattern, build_new))
    assert check(module_of(mil.abs), rule(pattern, build_new, domain={"x": (0.0, 100.0)}))["checked"] == 1


def test_what_is_known_of_a_value_is_kept() -> None:
    """Behind a relu, abs changes nothing."""
    drop = rule(mil.abs(x), lambda x: mil.identity(x))
    assert check(module_of(lambda a: mil.abs(mil.relu(a))), drop)["checked"] == 1
    with pytest.raises(CheckError):
        check(module_of(lambda a: mil.abs(mil.tanh(a))), drop)


class TenLargest(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = (x * 2).topk(10)
        return found.values, found.indices


class Quantized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x * 5).to(torch.int8)


class SmallGroups(torch.nn.Module):
    """Groups of two numbers, which are alike for some draws."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.reshape(2, 36, 5, 2)[:, :, :1]
        return torch.nn.functional.group_norm(x, 36), torch.nn.functional.group_norm(x, 18, eps=1e-6)


@pytest.mark.parametrize("model", [TenLargest(), Quantized(), SmallGroups()])
def test_what_torch_does_not_promise_is_not_drawn(model: torch.nn.Module) -> None:
    """The order of equal elements, what a float beyond an integer's range converts to, and 65504 less itself."""
    compiled = anec.compile(model, (torch.randn(2, 360),), check="rewrites", precision="fp32")
    counts = compiled.report.as_json()["checks"]["rewrites"]
    assert counts["checked"] >= 2
    assert not counts["unchecked"]


def test_special_values_only_where_the_rule_says_so() -> None:
    """x - x is 0, but not for infinity."""
    pattern, build_new = mil.sub(x, x), lambda x: mil.mul(mil.clip(x, alpha=-1.0, beta=1.0), 0.0)
    assert check(module_of(lambda a: mil.sub(a, a)), rule(pattern, build_new))["checked"] == 1
    with pytest.raises(CheckError, match="NaN or infinity at other places"):
        check(module_of(lambda a: mil.sub(a, a)), rule(pattern, build_new, special=True))
    right = rule(mil.relu(mil.relu(x)), lambda x: mil.relu(x), special=True)
    assert check(module_of(lambda a: mil.relu(mil.relu(a))), right)["checked"] == 1


def test_a_result_that_is_not_finite_where_it_was() -> None:
    inverse = rule(mil.mul(x, y), lambda x, y: mil.real_div(x, mil.real_div(y, mil.square(y))), name="inverse")
    with pytest.raises(CheckError, match="NaN or infinity where the original is finite"):
        check(module_of(lambda a, b: mil.mul(a, b), "f32[40]", "f32[40]"), inverse)


def test_negative_whole_numbers_are_drawn() -> None:
    truncated = rule(mil.floor_div(x, y), lambda x, y: mil.cast(mil.real_div(x, y), dtype="int32"), name="truncated")
    module = module_of(lambda a, b: mil.floor_div(a, b), "i32[40]", "i32[40]")
    with pytest.raises(CheckError, match="values differ"):
        check(module, truncated)


def test_close_passes_have_their_tolerance() -> None:
    nearly = rule(mil.tanh(x), lambda x: mil.mul(mil.clip(mil.sinh(x), alpha=-1.0, beta=1.0), 0.0), name="nearly")
    with pytest.raises(CheckError, match=r"beyond close \(rtol 0.001, atol 0\): off by"):
        check(module_of(mil.tanh), nearly, fidelity=Close(1e-3))
    slightly = rule(mil.softsign(x), lambda x: mil.mul(mil.real_div(x, mil.add(mil.abs(x), 1.0)), 1.0001))
    assert check(module_of(mil.softsign), slightly, fidelity=Close(1e-3))["checked"] == 1
    with pytest.raises(CheckError, match=r"rel .*, wanted at most 1e-10"):
        check(module_of(mil.softsign), slightly)


def test_constants_keep_their_numbers() -> None:
    """Right for this weight, which is 2 everywhere, and for no other."""
    from anec.ir.build import Builder
    from anec.ir.types import DType, TensorType
    from anec.ir.weights import TensorData, Weight

    for number, right in ((2.0, True), (3.0, False)):
        module = module_of(mil.relu, "f32[4]")
        graph = module.main
        data = TensorData(torch.full((4,), number))
        w = graph.add_weight(module.add_weight(Weight("w", TensorType(DType.F32, (4,)), data)))
        with Builder(graph).active():
            graph.outputs = [mil.mul(graph.inputs[0], mil.mul(w, 1.0))]
        twice = rule(mil.mul(x, mil.mul(y, 1.0)), lambda x: mil.add(x, x), name="twice")
        if right:
            assert check(module, twice)["checked"] == 1
        else:
            with pytest.raises(CheckError):
                check(module, twice)


def test_several_results_and_roots() -> None:
    pair = rewrite(mil.mul(x, 2.0), mil.mul(x, 3.0), name="pair")(lambda x: (mil.add(x, x), mil.add(mil.add(x, x), x)))
    module = module_of(lambda a: (mil.mul(a, 2.0), mil.mul(a, 3.0)))
    assert check(module, pair)["checked"] == 1
    swapped = rewrite(mil.mul(x, 2.0), mil.mul(x, 3.0), name="swapped")(lambda x: (mil.add(mil.add(x, x), x), mil.add(x, x)))
    with pytest.raises(CheckError, match="at %mul: "):
        check(module_of(lambda a: (mil.mul(a, 2.0), mil.mul(a, 3.0))), swapped)


def test_a_value_found_elsewhere() -> None:
    """A rule may give a value that another op makes already."""

    @rewrite(mil.mul(x, 2.0), name="reuse")
    def reuse(op: Any, x: Value) -> Value:
        return next(user.result for user in x.users if user.name == "mil.add" and user.is_before(op))

    module = module_of(lambda a: (mil.add(a, a), mil.mul(a, 2.0)))
    assert check(module, reuse)["checked"] == 1
    with pytest.raises(CheckError):
        check(module_of(lambda a: (mil.add(a, 1.0), mil.mul(a, 2.0))), reuse)


# -- unchecked -----------------------------------------------------------------------------------------


def test_what_is_too_large_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "ELEMENT_LIMIT", 10)
    found = check(module_of(lambda a: mil.add(a, a), "f32[16]"), DOUBLE)
    assert found == {"checked": 0, "unchecked": {"too large": 1}}


def test_symbolic_shapes_are_counted() -> None:
    module = anec.read(
        "anec 1\nmodule target=iOS18\ndims S in 1..8\n\n"
        "func main(%x: f32[S]) -> (%y: f32[S]) {\n  %y = mil.add(%x, %x) : f32[S]\n  return %y\n}\n"
    )
    assert check(module, DOUBLE) == {"checked": 0, "unchecked": {"symbolic shape": 1}}


def test_states_are_counted() -> None:
    module = anec.read(
        'anec 1\nmodule target=iOS18\n\nfunc main(%s: state<f16[2]> {kind="state"}) -> (%y: f16[2]) {\n'
        "  %y = nn.read_state(%s) : f16[2]\n  return %y\n}\n"
    )
    lower = rewrite(anec.nn.read_state, name="lower")(lambda op: mil.read_state(op.value("state")))
    assert check(module, lower) == {"checked": 0, "unchecked": {"state or randomness": 1}}


def test_ops_without_a_kernel_are_counted() -> None:
    from anec.ir.opdef import OpDef, Param

    unknown = OpDef("mil.no_kernel_at_all", (Param("x"),), infer=lambda op: (op.value("x").type,))
    found = check(module_of(mil.relu), rule(mil.relu(x), lambda x: unknown(x)))
    assert found["checked"] == 0
    ((reason, times),) = found["unchecked"].items()
    assert reason.startswith("not runnable: mil.no_kernel_at_all has no kernel")
    assert times == 1


def test_lossy_passes_are_counted() -> None:
    wrong = rule(mil.add(x, y), lambda x, y: mil.sub(x, y))
    module = module_of(lambda a: mil.add(a, mil.relu(a)))
    found = check(module, wrong, fidelity=Lossy("on purpose"), inputs={"x0": torch.ones(2, 4)})
    assert found == {"checked": 0, "unchecked": {"lossy pass": 1}}

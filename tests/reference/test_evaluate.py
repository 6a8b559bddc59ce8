"""The evaluator: memory, precision, states, constants, errors."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch

import anec
from anec import aten, mil, nn
from anec.dialects import registry
from anec.errors import AnecError, UnsupportedError
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op
from anec.ir.opdef import OpDef, Param
from anec.ir.parser import parse_module
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.reference.call import DECLARED, DOUBLE, PESSIMISTIC, PRECISIONS
from anec.reference.evaluate import Evaluator, evaluate, evaluate_constant
from rewriting import module_of

# -- memory --------------------------------------------------------------------------------------------


def test_values_are_freed_at_their_last_use() -> None:
    alive: dict[str, Any] = {}
    most = 0

    def watch(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        nonlocal most
        for value, result in zip(op.results, results, strict=True):
            alive[value.name] = weakref.ref(result)
        most = max(most, sum(ref() is not None for ref in alive.values()))

    def program(a: Any) -> Any:
        kept = mil.tanh(a)
        for _ in range(10):
            a = mil.relu(mil.add(a, 1.0))
        return mil.add(a, kept)

    module = module_of(program)
    outputs = evaluate(module, {"x0": torch.rand(2, 4)}, observer=watch)
    assert most <= 3
    assert {name for name, ref in alive.items() if ref() is not None} == {module.main.outputs[0].name}
    assert list(outputs) == ["y0"]


def test_unused_results_are_freed_at_once() -> None:
    seen: list[Any] = []

    def watch(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        if op.name == "mil.relu":
            assert seen[1]() is None
        seen.extend(weakref.ref(result) for result in results)

    module = module_of(lambda a: mil.relu(mil.split.many(a, num_splits=2, axis=1)[0]))
    evaluate(module, {"x0": torch.rand(2, 4)}, observer=watch)
    assert len(seen) == 3


def test_inputs_are_not_changed() -> None:
    given = torch.rand(2, 4)
    before = given.clone()
    module = module_of(lambda a: mil.relu(mil.sub(a, 0.5)))
    evaluate(module, {"x0": given})
    assert torch.equal(given, before)


# -- precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "numpy_op"),
    [(mil.add, np.add), (mil.sub, np.subtract), (mil.mul, np.multiply), (mil.real_div, np.divide), (mil.maximum, np.maximum)],
    ids=["add", "sub", "mul", "real_div", "maximum"],
)
def test_float16_rounds_as_numpy_does(op: OpDef, numpy_op: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=400).astype(np.float16) * np.float16(50) for _ in range(2))
    module = module_of(op, "f16[400]", "f16[400]")
    found = evaluate(module, {"x0": torch.from_numpy(a), "x1": torch.from_numpy(b)})["y0"]
    assert found.dtype is torch.float16
    np.testing.assert_array_equal(found.numpy(), numpy_op(a, b))


def test_each_op_rounds_once() -> None:
    """1 + 2**-11 rounds back to 1 in float16, before the next op sees it."""
    module = module_of(lambda a: mil.sub(mil.add(a, 2.0**-11), 1.0), "f16[1]")
    inputs = {"x0": torch.ones(1)}
    assert evaluate(module, inputs)["y0"].item() == 0.0
    assert evaluate(module, inputs, precision=DOUBLE)["y0"].item() == 2.0**-11


def test_literals_round_as_the_program_has_them() -> None:
    module = module_of(lambda a: mil.mul(a, 0.1), "f16[1]")
    found = evaluate(module, {"x0": torch.ones(1)})["y0"]
    assert found.item() == float(np.float16(0.1))
    assert evaluate(module, {"x0": torch.ones(1)}, precision=DOUBLE)["y0"].item() == 0.1


def test_sums_accumulate_wide_and_pessimistic_ones_do_not() -> None:
    """4096 ones: float16 counts only to 2048."""
    module = module_of(lambda a: mil.reduce_sum(mil.mul(a, 1.0)), "f16[4096]")
    inputs = {"x0": torch.ones(4096)}
    assert evaluate(module, inputs, precision=DECLARED)["y0"].item() == 4096
    mean = module_of(lambda a: mil.layer_norm(a, axes=[-1]), "f16[1,512]")
    given = {"x0": (torch.arange(512.0) / 64 + 30).half().reshape(1, 512)}
    results = {name: evaluate(mean, given, precision=p)["y0"].double() for name, p in PRECISIONS.items()}
    exact = results["double"]
    declared, pessimistic = ((results[name] - exact).abs().max().item() for name in ("declared", "pessimistic"))
    assert declared < 2e-3
    assert pessimistic > 4 * declared


def test_pessimistic_leaves_float32_alone() -> None:
    module = module_of(lambda a: mil.softmax(a, axis=-1), "f32[1,64]")
    given = {"x0": torch.randn(1, 64)}
    assert torch.equal(evaluate(module, given)["y0"], evaluate(module, given, precision=PESSIMISTIC)["y0"])


def test_double_holds_floats_wide_and_the_rest_as_declared() -> None:
    module = module_of(lambda a: (mil.tanh(a), mil.cast(a, dtype="int32"), mil.greater(a, 0.0)), "f16[3]")
    found = evaluate(module, {"x0": torch.tensor([1.5, -2.5, 0.0])}, precision=DOUBLE)
    assert [t.dtype for t in found.values()] == [torch.float64, torch.int32, torch.bool]
    assert torch.get_default_dtype() is torch.float32


def test_torch_ops_run_as_torch_runs_them() -> None:
    module = module_of(lambda a, b: aten.div.Tensor_mode(a, b, rounding_mode="floor"), "i64[4]", "i64[4]")
    inputs = {"x0": torch.tensor([7, -7, 7, -7]), "x1": torch.tensor([2, 2, -2, -2])}
    assert evaluate(module, inputs)["y0"].tolist() == [3, -4, -4, 3]


def test_arguments_of_torch_ops_reach_their_parameters() -> None:
    """Also where one in the middle is left out, or torch wants it by keyword."""
    module = module_of(lambda a: (aten.elu.default(a, 0.7, 1.3, 0.4), aten.add.Tensor(a, a, alpha=2)), "f32[5]")
    given = torch.linspace(-2, 2, 5)
    found = evaluate(module, {"x0": given}, precision=DOUBLE)
    torch.testing.assert_close(found["y0"], torch.ops.aten.elu.default(given.double(), 0.7, 1.3, 0.4))
    torch.testing.assert_close(found["y1"], given.double() * 3)
    rounded = module_of(lambda a: aten.clamp.default(a, max=1.0), "f32[5]")
    assert evaluate(rounded, {"x0": given})["y0"].tolist() == [-2, -1, 0, 1, 1]


# -- states --------------------------------------------------------------------------------------------

COUNTER = """anec 1
module target=iOS18

func main(%x: f32[2], %total: state<f16[2]> {kind="state"}) -> (%before: f16[2], %after: f16[2]) {
  %old = nn.read_state(%total) : f16[2]
  %half = mil.cast(%x) {dtype="fp16"} : f16[2]
  %new = mil.add(%old, %half) : f16[2]
  nn.write_state(%total, %new)
  %again = nn.read_state(%total) : f16[2]
  return %old, %again
}
"""


def test_states_live_from_call_to_call() -> None:
    module = parse_module(COUNTER, registry)
    state: dict[str, torch.Tensor] = {}
    inputs = {"x": torch.tensor([1.0, 2.0])}
    for call in range(1, 4):
        outputs = evaluate(module, inputs, state=state)
        assert outputs["before"].tolist() == [call - 1, 2 * (call - 1)]
        assert outputs["after"].tolist() == [call, 2 * call]
    assert state["total"].dtype is torch.float16
    assert evaluate(module, inputs)["before"].tolist() == [0, 0], "absent states start as zeros"


def test_a_state_may_be_given() -> None:
    module = parse_module(COUNTER, registry)
    given = torch.tensor([5.0, 5.0])
    state = {"total": given}
    assert evaluate(module, {"x": torch.zeros(2)}, state=state)["before"].tolist() == [5, 5]
    assert given.tolist() == [5, 5]


def test_core_ml_states_run_alike() -> None:
    text = COUNTER.replace("nn.read_state", "mil.read_state").replace(
        "  nn.write_state(%total, %new)\n  %again = mil.read_state(%total) : f16[2]\n",
        "  %again = mil.coreml_update_state(%total, %new) : f16[2]\n",
    )
    module = parse_module(text, registry)
    state: dict[str, torch.Tensor] = {}
    for _ in range(2):
        outputs = evaluate(module, {"x": torch.ones(2)}, state=state)
    assert (outputs["before"].tolist(), outputs["after"].tolist()) == ([1, 1], [2, 2])


# -- functions and boundaries --------------------------------------------------------------------------


def test_functions_by_name() -> None:
    module = module_of(mil.relu)
    module.functions["half"] = module_of(lambda a: mil.mul(a, 0.5)).main
    assert evaluate(module, {"x0": torch.ones(2, 4)}, function="half")["y0"][0, 0].item() == 0.5
    with pytest.raises(AnecError, match="there is no function 'third'") as caught:
        evaluate(module, {}, function="third")
    assert caught.value.hint == "known: main, half"


def test_a_missing_input() -> None:
    module = module_of(lambda a, b: mil.add(a, b), "f32[2]", "f32[2]")
    with pytest.raises(AnecError, match="the input 'x1' is missing") as caught:
        evaluate(module, {"x0": torch.ones(2)})
    assert caught.value.hint == "inputs: x0, x1"


def test_an_input_or_constant_may_be_an_output() -> None:
    module = module_of(lambda a: (a, mil.relu(a), a))
    outputs = evaluate(module, {"x0": -torch.ones(2, 4)})
    assert outputs["y0"][0, 0].item() == outputs["y2"][0, 0].item() == -1
    weight = module.add_weight(Weight("w", TensorType(DType.F32, (2,)), TensorData(torch.ones(2))))
    module.main.outputs = [module.main.add_weight(weight)]
    module.main.signature.outputs = []
    assert evaluate(module, {"x0": torch.ones(2, 4)})["output0"].tolist() == [1, 1]


# -- constants -----------------------------------------------------------------------------------------


def test_constant_expressions() -> None:
    module = Module({"main": Graph("main")})
    graph = module.main
    data = TensorData(torch.tensor([0.1, 0.2], dtype=torch.float64))
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    w = graph.add_weight(module.add_weight(Weight("w", TensorType(DType.F64, (2,)), data)))
    with Builder(graph).active():
        half = aten._to_copy.default(aten.mul.Tensor(w, 2.0), dtype=DType.F16)
        mixed = mil.add(x, 1.0)
    assert evaluate_constant(w, module).data_ptr() == data.tensor().data_ptr()
    folded = evaluate_constant(half, module)
    assert folded.dtype is torch.float16
    assert folded.tolist() == torch.tensor([0.2, 0.4]).half().tolist()
    with pytest.raises(AnecError, match="%add is not constant"):
        evaluate_constant(mixed, module)


# -- symbolic sizes ------------------------------------------------------------------------------------

SYMBOLIC = """anec 1
module target=iOS18
dims S in 1..64, T in 1..64

func main(%x: f32[S,6], %z: f32[2*T]) -> (%y: f32[2*S,3], %w: f32[T,2]) {
  %y = aten.view.default(%x) {size=[(2*S), 3]} : f32[2*S,3]
  %w = mil.reshape(%z, [(T), 2]) : f32[T,2]
  return %y, %w
}
"""


def test_symbols_take_the_sizes_of_the_inputs() -> None:
    module = parse_module(SYMBOLIC, registry)
    for s, t in ((2, 3), (5, 1)):
        outputs = evaluate(module, {"x": torch.rand(s, 6), "z": torch.rand(2 * t)})
        assert (tuple(outputs["y"].shape), tuple(outputs["w"].shape)) == ((2 * s, 3), (t, 2))


# -- errors --------------------------------------------------------------------------------------------


def test_errors_name_op_and_source_line() -> None:
    module = module_of(lambda a, b: mil.add(a, mil.relu(b)), "f32[2]", "f32[2]", line="net.py:30")
    with pytest.raises(AnecError, match="mil.add failed: ") as caught:
        evaluate(module, {"x0": torch.ones(2), "x1": torch.ones(3)})
    assert caught.value.where == "net.py:30 (net)"
    assert "mil.add(%x0, %relu)" in (caught.value.window or "")


def test_an_op_without_a_kernel() -> None:
    unknown = OpDef("mil.nothing_like_it", (Param("x"),), infer=lambda op: (op.value("x").type,))
    module = module_of(unknown, line="net.py:3")
    with pytest.raises(UnsupportedError, match="mil.nothing_like_it has no kernel"):
        evaluate(module, {"x0": torch.ones(2, 4)})


def test_a_kernel_with_the_wrong_number_of_results() -> None:
    module = module_of(lambda a: mil.split.many(a, num_splits=2, axis=1))
    op = module.main.first
    assert op is not None
    op.results.pop()
    module.main.outputs.pop()
    module.main.signature.outputs.pop()
    with pytest.raises(AnecError, match="mil.split gave 2 results, not 1"):
        evaluate(module, {"x0": torch.ones(2, 4)})


def test_a_state_that_is_none() -> None:
    module = module_of(mil.relu)
    with Builder(module.main).active():
        module.main.outputs = [nn.read_state.build((module.main.outputs[0],), {}).result]
    with pytest.raises(AnecError, match="%relu is no state of this function"):
        evaluate(module, {"x0": torch.ones(2, 4)})


def test_a_value_from_nowhere() -> None:
    module = module_of(mil.relu)
    with pytest.raises(AnecError, match="%x0 has no value here"):
        Evaluator(module, module.main).run_ops(list(module.main.ops()), {}, keep=set())


def test_precisions_by_name() -> None:
    assert set(PRECISIONS) == {"declared", "double", "pessimistic"}
    assert anec.read(COUNTER).main.states()

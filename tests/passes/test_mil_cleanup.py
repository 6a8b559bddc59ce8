"""mil-cleanup: every rule fires where it should and nowhere else, on every target and shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import golden
from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.passes.mil_cleanup import MilCleanup, stretched
from anec.reference.evaluate import evaluate
from anec.testing import assert_legal, run_pass

CASES = golden.cases("mil-cleanup")
FIRING = [path for path in CASES if not path.stem.endswith(".not")]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    if path in FIRING:
        assert path.stem in outcome.fired, outcome.reasons


def test_every_rule_has_goldens() -> None:
    stems = {path.stem for path in CASES}
    for rule in MilCleanup.rules:
        assert {rule.name, f"{rule.name}.not"} <= stems


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17"])
@pytest.mark.parametrize("path", FIRING, ids=lambda path: path.stem)
def test_what_was_legal_stays_legal(path: Path, target: str) -> None:
    source = path.read_text(encoding="utf-8").partition(f"\n{golden.SEPARATOR}\n")[0]
    module = golden.read(source.replace("target=iOS18", f"target={target}"))
    try:
        assert_legal(module)
    except (AssertionError, AnecError) as error:
        pytest.skip(f"the input is not legal there: {error}")
    run_pass(module, MilCleanup())
    assert_legal(module)


class Net:
    """A module with one input, built op by op."""

    def __init__(self, shape: tuple[int, ...], dtype: DType = DType.F32) -> None:
        self.module, self.dtype = Module(), dtype
        self.graph = self.module.functions["main"] = Graph("main")
        self.x = self.graph.add_input("x", TensorType(dtype, shape))
        self.graph.signature.inputs = [Port("x", self.x.type)]

    def weight(self, name: str, *shape: int) -> Value:
        type_ = TensorType(self.dtype, shape)
        weight = self.module.add_weight(Weight(name, type_, TensorData(golden.numbers(name, type_))))
        return self.graph.add_weight(weight)

    def finish(self, value: Value) -> Module:
        self.graph.outputs = [value]
        self.graph.signature.outputs = [Port("y", value.type)]
        return self.module


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("space", [(7,), (5, 6), (3, 4, 5)], ids=len)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_batch_norm_scale_and_offset_fold(
    transposed: bool, space: tuple[int, ...], groups: int, biased: bool, dtype: DType
) -> None:
    net = Net((2, 4, *space), dtype)
    kernel = (2,) * len(space)
    column = (6, *(1,) * len(space))
    with Builder(net.graph, name="y").active():
        bias = net.weight("bias", 6) if biased else None
        if transposed:
            y = mil.conv_transpose(net.x, net.weight("w", 4, 6 // groups, *kernel), bias, groups=groups)
        else:
            y = mil.conv(net.x, net.weight("w", 6, 4 // groups, *kernel), bias, groups=groups, pad_type="valid")
        vectors = [net.weight(name, 6) for name in ("mean", "variance", "gamma", "beta")]
        y = mil.batch_norm(y, *vectors, epsilon=1e-3)
        y = mil.sub(net.weight("offset", *column), y)
        y = mil.real_div(y, net.weight("variance_scale", *column))
        y = mil.add(y, 0.25)
    outcome = golden.run(net.finish(y), MilCleanup())
    assert outcome.fired.keys() >= {"fold_batch_norm", "fold_offset", "fold_scale"}
    kept = [op.name for op in outcome.module.ops() if net.graph.outputs[0].op is op]
    assert kept == ["mil.conv_transpose" if transposed else "mil.conv"]
    assert net.x.users == [net.graph.outputs[0].op]


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("space", [(7,), (5, 6), (3, 4, 5)], ids=len)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_block_of_branches_is_one_conv(batch: int, space: tuple[int, ...], groups: int, dtype: DType) -> None:
    """RepVGG's block: a window, one tap and the operand, each normalized, then a number of another block."""
    net = Net((batch, 4, *space), dtype)
    axes = len(space)

    def normalized(x: Value, name: str) -> Value:
        return mil.batch_norm(x, *(net.weight(f"{kind}_{name}", 4) for kind in ("mean", "variance", "gamma", "beta")))

    with Builder(net.graph, name="y").active():
        wide = net.weight("wide", 4, 4 // groups, *(3,) * axes)
        narrow = net.weight("narrow", 4, 4 // groups, *(1,) * axes)
        y = normalized(mil.conv(net.x, wide, pad_type="custom", pad=(1,) * (2 * axes), groups=groups), "a")
        y = mil.add(y, normalized(mil.conv(net.x, narrow, pad_type="valid", groups=groups), "b"))
        y = mil.mul(mil.add(y, normalized(net.x, "c")), 0.5)
    outcome = golden.run(net.finish(y), MilCleanup())
    assert outcome.fired.keys() >= {"fold_batch_norm", "join_convs", "join_identity", "fold_scale"}
    assert [op.name for op in net.x.users] == ["mil.conv"]
    assert net.graph.outputs[0].op is net.x.users[0]


def test_a_bias_that_cancels_the_mean_is_no_error() -> None:
    """Before the fold float64 itself loses digits to ``x + 1 - 1``; the check must not blame the rule."""
    net = Net((1, 2, 4, 4))
    with Builder(net.graph, name="y").active():
        y = mil.conv(net.x, net.weight("w", 3, 2, 2, 2), net.weight("ones_bias", 3), pad_type="valid")
        y = mil.batch_norm(y, net.weight("ones_mean", 3), net.weight("variance", 3))
    assert "fold_batch_norm" in golden.run(net.finish(y), MilCleanup()).fired


def test_weights_are_never_copied() -> None:
    net = Net((1, 4, 5, 6))
    with Builder(net.graph, name="y").active():
        y = mil.conv(net.x, net.weight("w", 6, 4, 3, 3), pad_type="valid")
        y = mil.batch_norm(y, *(net.weight(name, 6) for name in ("mean", "variance", "gamma", "beta")))
        y = mil.matmul(mil.reshape(y, (1, 6, 12)), net.weight("m", 12, 5))
    module = net.finish(y)
    before = {name: weight.tensor().data_ptr() for name, weight in module.weights.items()}
    run_pass(module, MilCleanup())
    assert {name: weight.tensor().data_ptr() for name, weight in module.weights.items()} == before


def test_compressed_weights_are_left_alone() -> None:
    text = """anec 1
module target=iOS18

func main(%x: f32[2,4]) -> (%y: f32[2,3]) {
  %data = weight "data" : i8[3,4]
  %scale = weight "variance" : f32[1,1]
  %w = mil.constexpr_blockwise_shift_scale(%data, %scale) : f32[3,4]
  %t = mil.linear(%x, %w) : f32[2,3]
  %y = mil.mul(%t, 2.0) : f32[2,3]
  return %y
}
"""
    outcome = golden.run(golden.read(text), MilCleanup())
    assert golden.text_of(outcome.module) == text


SYMBOLIC = """anec 1
module target=iOS18
dims S in 1..64

func main(%x: f32[S,4,1]) -> (%a: f32[S,4], %b: f32[4,S,1], %c: f32[1,S,4,1], %d: f32[S,3]) {
  %w = weight "w" : f32[3,4]
  %v1 = mil.identity(%x) : f32[S,4,1]
  %v2 = mil.slice_by_index(%v1, [0, 0, 0], [0, 4, 1]) {end_mask=[true, false, false]} : f32[S,4,1]
  %v3 = mil.add(%v2, 0.0) : f32[S,4,1]
  %v4 = mil.expand_dims(%v3) {axes=[0]} : f32[1,S,4,1]
  %v5 = mil.squeeze(%v4) {axes=[0, 3]} : f32[S,4]
  %a = mil.exp(%v5) : f32[S,4]
  %v6 = mil.transpose(%v3) {perm=[2, 0, 1]} : f32[1,S,4]
  %b = mil.transpose(%v6) {perm=[2, 1, 0]} : f32[4,S,1]
  %v7 = mil.concat([%v4]) {axis=1} : f32[1,S,4,1]
  %c = mil.relu(%v7) : f32[1,S,4,1]
  %v8 = mil.linear(%v5, %w) : f32[S,3]
  %v9 = mil.mul(%v8, 2.0) : f32[S,3]
  %d = mil.add(%v9, 0.5) : f32[S,3]
  return %a, %b, %c, %d
}
"""

SETTLED = """anec 1
module target=iOS18
dims S in 1..64

func main(%x: f32[S,4,1]) -> (%a: f32[S,4], %b: f32[4,S,1], %c: f32[1,S,4,1], %d: f32[S,3]) {
  %w = weight "w" : f32[3,4]
  %v4 = mil.expand_dims(%x) {axes=[0]} : f32[1,S,4,1]
  %v5 = mil.squeeze(%x) {axes=[2]} : f32[S,4]
  %a = mil.exp(%v5) : f32[S,4]
  %b = mil.transpose(%x) {perm=[1, 0, 2]} : f32[4,S,1]
  %c = mil.relu(%v4) : f32[1,S,4,1]
  %v9_mul = mil.mul(%w, 2.0) : f32[3,4]
  %d_tile = mil.tile([0.5]:f32, [3]) : f32[3]
  %d = mil.linear(%v5, %v9_mul, %d_tile) : f32[S,3]
  return %a, %b, %c, %d
}
"""


def test_symbolic_shapes() -> None:
    module = golden.read(SYMBOLIC)
    inputs = {"x": torch.randn(3, 4, 1)}
    before = evaluate(module, inputs)
    run_pass(module, MilCleanup())
    assert golden.text_of(module) == SETTLED
    for name, found in evaluate(module, inputs).items():
        torch.testing.assert_close(found, before[name])


def test_constants_of_wide_integers_are_moved_behind_their_cast() -> None:
    """Core ML has no int64, so nothing but the cast may take such a weight."""
    text = """anec 1
module target=iOS18

func main(%x: i32[2,7,1]) -> (%y: bool[2,5,7]) {
  %bins = weight "bins" : i64[1,5]
  %narrow = mil.cast(%bins) {dtype="int32"} : i32[1,5]
  %equal = mil.equal(%x, %narrow) : bool[2,7,5]
  %y = mil.transpose(%equal) {perm=[0, 2, 1]} : bool[2,5,7]
  return %y
}
"""

    class Alone(MilCleanup):
        rules = (*stretched.RULES,)

    module = golden.read(text)
    bins = module.main.weights["bins"]
    assert "move_before_broadcast" in golden.run(module, Alone()).fired
    assert [op.name for op in bins.users] == ["mil.cast"]

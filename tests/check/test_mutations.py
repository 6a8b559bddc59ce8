"""Real rules, made wrong in one place each: the check of rewrites must blame rule and site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import golden
from anec import Context, Pass, Value, mil
from anec.check.fidelity import EXACT
from anec.errors import CheckError
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op
from anec.passes.attention_masks import finite
from anec.passes.lower_to_mil import families
from anec.passes.mil_cleanup import affine, branches, chains, elementwise, inputs, pads, transposes
from anec.passes.raise_nn import activations
from anec.pipeline import registry
from anec.pipeline.checks import CheckRewrites
from anec.pipeline.instruments import Verify
from anec.pipeline.manager import Manager
from anec.pipeline.spec import Step
from anec.rewrite import Rule
from anec.rewrite.driver import find_rule
from anec.testing import module_of, single_op

# Changes created ops, or gives another result.
Edit = Callable[[list[Op]], "Value | None"]


def one(ops: list[Op], root: str) -> Op:
    """The first created op of this kind."""
    return next(op for op in ops if op.defn.root == root)


def attr(root: str, name: str, value: Any) -> Edit:
    """Another value of an attribute."""
    return lambda ops: one(ops, root).set_attr(name, value)


def swap(root: str) -> Edit:
    """The first two operands the other way round."""

    def edit(ops: list[Op]) -> None:
        op = one(ops, root)
        first, second = op.operands[:2]
        op.set_operand(0, second)
        op.set_operand(1, first)

    return edit


def number(root: str, change: Callable[[Any], Any]) -> Edit:
    """Another number in the first literal operand, or in the list it holds."""

    def edit(ops: list[Op]) -> None:
        op = one(ops, root)
        index, literal = next((i, o) for i, o in enumerate(op.operands) if isinstance(o, Literal))
        op.set_operand(index, Literal(change(literal.value), literal.dtype))

    return edit


def skip(root: str) -> Edit:
    """The op left out: its users take its operand."""

    def edit(ops: list[Op]) -> Value | None:
        op = one(ops, root)
        assert op.graph is not None
        if not op.result.uses:
            return op.inputs[0]
        op.graph.replace(op.result, op.inputs[0])
        return None

    return edit


def moved_slice(ops: list[Op]) -> None:
    """One row further on."""
    one(ops, "slice_by_index").set_operand(1, Literal((2, 0)))
    one(ops, "slice_by_index").set_operand(2, Literal((5, 0)))


def truncating(mod: Op) -> Value:
    """C's remainder: it has the sign of x, not that of y."""
    x, y = mod.inputs
    return mil.select(mil.less(x, 0), mil.sub(mod.result, y), mod.result)


def mutated(rule: Rule, edit: Edit) -> Rule:
    """The rule, with what it builds changed before anybody sees it."""

    def function(**arguments: Any) -> Any:
        result = rule.function(**arguments)
        return edit(Builder.current("mutation").created) or result

    return replace(rule, function=function)


def lowering(name: str) -> Rule:
    return find_rule(families.rules(), name)


def op(name: str, *args: Any, weights: tuple[str, ...] = (), **kwargs: Any) -> Module:
    return single_op(name, *args, weights=weights, **kwargs)[0]


def ops_of(function: Callable[..., Value], *tensors: torch.Tensor, weights: tuple[int, ...] = ()) -> Module:
    return module_of(function, *tensors, weights=weights)[0]


def whole(*shape: int, low: int = -5) -> torch.Tensor:
    return torch.randint(low, 6, shape).int()


@dataclass(frozen=True)
class Case:
    """A rule, a module it fires on, and a mistake."""

    title: str
    rule: Callable[[], Rule]
    module: Callable[[], Module]
    edit: Edit
    pass_name: str = ""
    site: str = ""


def of(name: str, rule: str, edit: Edit, *, site: str = "") -> Case:
    """A rule of a pass, on the golden file that shows it; ``site`` is where, if not at the first output."""
    source = (golden.FOLDER / name / f"{rule}.anec").read_text(encoding="utf-8")
    text = source.partition(f"\n{golden.SEPARATOR}\n")[0]
    rules = registry.find(name).rules
    return Case(f"{name}: {rule}", lambda: find_rule(rules, rule), lambda: golden.read(text), edit, name, site)


# As in DeBERTa: a computed bias behind a view, in which a draw of 65504 would show what 40000 hides.
BIASED = """anec 1
module target=iOS18

func main(%q: f32[1,2,5,8], %k: f32[1,2,7,8], %keep: bool[1,1,1,7], %a: f32[2,5,3], %b: f32[2,3,7]) -> (%y: f32[1,2,5,8]) {
  %bias = aten.bmm.default(%a, %b) : f32[2,5,7]
  %low = aten.where.Scalar(%keep) {self=0.0, other=-3.4028234663852886e38} : f32[1,1,1,7]
  %wide = aten.expand.default(%low) {size=[1, 2, 5, 7]} : f32[1,2,5,7]
  %flat = aten.view.default(%wide) {size=[2, 5, 7]} : f32[2,5,7]
  %sum = aten.add.Tensor(%flat, %bias) : f32[2,5,7]
  %four = aten.view.default(%sum) {size=[1, 2, 5, 7]} : f32[1,2,5,7]
  %mask = aten.clamp_min.default(%four) {min=-40000.0} : f32[1,2,5,7]
  %highest = aten.amax.default(%mask) {dim=[-1], keepdim=true} : f32[1,2,5,1]
  %above = aten.gt.Scalar(%highest) {other=-20000.0} : bool[1,2,5,1]
  %seen = aten._to_copy.default(%above) {dtype=f32} : f32[1,2,5,1]
  %query = aten.mul.Tensor(%q, %seen) : f32[1,2,5,8]
  %y = nn.attention(%query, %k, %k, %mask) : f32[1,2,5,8]
  return %y
}
"""
r = torch.rand
PADS = dict(stride=[1, 1], padding=[1, 1])
CASES = [
    Case("wrong axis", lambda: lowering("softmax"), lambda: op("aten.softmax.int", r(4, 4), 1), attr("softmax", "axis", 0)),
    Case("swapped operands", lambda: lowering("sub"), lambda: op("aten.sub.Tensor", r(3, 4), r(3, 4)), swap("sub")),
    Case("dropped epsilon", lambda: lowering("lower_layer_norm"),
         lambda: op("nn.layer_norm", r(2, 5), r(5), r(5), weights=("weight", "bias"), axes=[-1], epsilon=1e-5),
         attr("layer_norm", "epsilon", 1e-12)),
    Case("another approximation", lambda: lowering("lower_gelu"), lambda: op("nn.gelu", r(2, 5)),
         attr("gelu", "mode", "TANH_APPROXIMATION")),
    Case("pad off by one", lambda: lowering("convolution"),
         lambda: op("aten.conv2d.default", r(1, 2, 6, 6), r(3, 2, 3, 3), r(3), weights=("weight", "bias"), **PADS),
         attr("conv", "pad", (0, 2, 1, 1))),
    Case("padding not counted", lambda: lowering("avg_pool"),
         lambda: op("aten.avg_pool2d.default", r(1, 2, 6, 6), [3, 3], [2, 2], [1, 1]),
         attr("avg_pool", "exclude_padding_from_average", True)),
    Case("wrong permutation", lambda: lowering("permute"), lambda: op("aten.transpose.int", r(3, 3, 3), 0, 1),
         attr("transpose", "perm", (2, 1, 0))),
    Case("slice off by one", lambda: lowering("slice_"), lambda: op("aten.slice.Tensor", r(6, 3), 0, 1, 4),
         moved_slice),
    Case("pieces in another order", lambda: lowering("cat"), lambda: op("aten.cat.default", [r(2, 3), r(2, 3)], 0),
         swap("concat")),
    Case("mean over the wrong axis", lambda: lowering("lower_mean"), lambda: op("aten.mean.dim", r(3, 3), [0]),
         attr("reduce_mean", "axes", (1,))),
    Case("branches swapped", lambda: lowering("div_mode"),
         lambda: op("aten.div.Tensor_mode", r(3, 3), r(3, 3), rounding_mode="trunc"),
         lambda ops: one(ops, "less").set_operand(1, Literal(0.5))),
    Case("missing correction", lambda: lowering("variance"),
         lambda: op("aten.var.correction", r(3, 4), [1], correction=1), skip("mul")),
    Case("wrong constant", lambda: lowering("variance"),
         lambda: op("aten.var.correction", r(3, 4), [1], correction=1), number("mul", lambda n: n * (1 + 1e-8))),
    Case("division of whole numbers that rounds to zero", lambda: lowering("remainder"),
         lambda: op("aten.remainder.Tensor", whole(3, 3), whole(3, 3, low=1)),
         lambda ops: truncating(one(ops, "mod"))),
    Case("bound off by one unit", lambda: lowering("clamp"), lambda: op("aten.hardtanh.default", r(3, 4), -0.5, 0.5),
         attr("clip", "beta", 0.5000001)),
    Case("transposes composed the wrong way round", lambda: transposes.merge_transposes,
         lambda: ops_of(lambda a: mil.transpose(mil.transpose(a, perm=[1, 2, 0]), perm=[1, 0, 2]), r(3, 3, 3)),
         attr("transpose", "perm", (1, 0, 2))),
    Case("pad on the other side", lambda: pads.pad_in_conv,
         lambda: ops_of(lambda a, w: mil.conv(mil.pad(a, [0, 0, 0, 0, 1, 0, 1, 0]), w), r(1, 2, 5, 5), r(3, 2, 3, 3), weights=(1,)),
         attr("conv", "pad", (0, 1, 0, 1))),
    Case("factors added", lambda: elementwise.merge_scales,
         lambda: ops_of(lambda a: mil.mul(mil.mul(a, 2.0), 5.0), r(3, 4)), number("mul", lambda n: 7.0)),
    Case("batch norm without its mean", lambda: affine.fold_batch_norm,
         lambda: ops_of(lambda a, w, m, v: mil.batch_norm(mil.conv(a, w), m, v, epsilon=1e-3), r(1, 2, 4, 4), r(3, 2, 1, 1), r(3), r(3) + 0.5,
                        weights=(1, 2, 3)), number("mul", lambda n: n * 0.5)),
    Case("other form of gelu", lambda: activations.raise_gelu, lambda: op("aten.gelu.default", r(2, 3), approximate="tanh"),
         attr("gelu", "approximate", "none")),
    Case("logarithm of another sum", lambda: lowering("lower_log1p"), lambda: op("aten.log1p.default", r(3, 4)),
         attr("log", "epsilon", 1.0 + 1e-7)),
    Case("difference of convs the other way round", lambda: branches.join_convs,
         lambda: ops_of(lambda a, w, v: mil.sub(mil.conv(a, w), mil.conv(a, v)), r(1, 2, 4, 4), r(3, 2, 3, 3), r(3, 2, 3, 3), weights=(1, 2)),
         swap("sub")),
    Case("tap beside the element itself", lambda: branches.join_identity,
         lambda: ops_of(lambda a, w: mil.add(mil.conv(a, w, pad_type="custom", pad=[1, 1, 1, 1]), a), r(1, 3, 4, 4), r(3, 3, 3, 3), weights=(1,)),
         number("pad", lambda n: (0, 0, 0, 0, 2, 0, 1, 1))),
    Case("inner bias forgotten", lambda: chains.join_linear_chain,
         lambda: ops_of(lambda a, w, b, v: mil.linear(mil.linear(a, w, b), v), r(2, 3), r(8, 3), r(8), r(2, 8), weights=(1, 2, 3)),
         lambda ops: mil.linear(ops[-1].inputs[0], ops[-1].inputs[1])),
    Case("offset of the other sign", lambda: inputs.fold_input_offset,
         lambda: ops_of(lambda a, w: mil.linear(mil.sub(a, 0.5), w), r(2, 3), r(4, 3), weights=(1,)), number("mul", lambda n: -n)),
    Case("scale of the wrong side", lambda: inputs.fold_input_scale,
         lambda: ops_of(lambda a, w, s: mil.linear(mil.mul(a, s), w), r(2, 3), r(3, 3), r(3), weights=(1, 2)),
         number("reshape", lambda n: (3, 1))),
    of("canonicalize", "merge_clamps", attr("clamp", "max", 4.5)),
    of("canonicalize", "fill_alone", attr("full", "fill_value", 1)),
    of("canonicalize", "flatten_cat", swap("cat"), site="_2"),
    of("custom-norms", "layer_norm", attr("layer_norm", "epsilon", 1e-5)),
    of("custom-norms", "rms_norm", attr("rms_norm", "epsilon", 1e-5)),
    of("custom-norms", "group_norm", attr("group_norm", "groups", 1)),
    of("custom-norms", "instance_norm", attr("instance_norm", "epsilon", 2e-3)),
    of("custom-norms", "l2_norm", attr("l2_norm", "epsilon", 1e-3)),
    of("custom-norms", "absorb_shift", attr("group_norm", "groups", 2)),
    of("custom-norms", "unite_scales", number("mul", lambda n: n + 0.1)),
    of("activations", "gelu", attr("gelu", "approximate", "none")),
    of("activations", "elu", attr("elu", "alpha", 1.0)),
    of("activations", "hard_sigmoid", attr("hard_sigmoid", "beta", 0.45)),
    of("activations", "leaky_relu", attr("leaky_relu", "negative_slope", 0.01)),
    of("activations", "softplus_of_beta", attr("softplus", "beta", 2.0)),
    of("activations", "clamp", attr("clamp", "max", 0.75)),
    of("attention", "attention", attr("attention", "scale", 0.5)),
    of("attention", "softmax_by_hand", attr("softmax", "dim", -2)),
    of("static-attention-mask", "padding_mask", number("mul", lambda n: n * 1e-4)),
    of("static-attention-mask", "causal_and_computed", skip("add")),
    Case("mask that hides too little", lambda: finite.finite_mask, lambda: golden.read(BIASED),
         number("mul", lambda n: n * 1e-4), "static-attention-mask"),
    Case("mask without what stands beside it", lambda: finite.finite_mask, lambda: golden.read(BIASED), skip("add"), "static-attention-mask"),
    of("mil-cleanup", "fold_into_pieces", swap("concat")),
    of("bicubic", "by_constant_maps", skip("matmul")),
    of("grid-sample", "sample_grid", attr("resample", "padding_mode", "reflection")),
]  # fmt: skip


def check(rule: Rule, module: Module, of_pass: str = "") -> CheckRewrites:
    """Run a pass of this rule, with the options and fidelity of another, under the check."""
    opts = registry.find(of_pass)() if of_pass else None

    @dataclass
    class OneRule(Pass):
        """Applies the rule of a test."""

        name = "one-rule"
        fidelity = EXACT if opts is None else opts.fidelity

        def run(self, graph: Graph, ctx: Context) -> None:
            ctx.rewrite([rule], opts=opts, narrow=True)

    checking = CheckRewrites()
    Manager([Verify(), checking]).run(module, (Step(OneRule()),))
    return checking


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_rule_as_it_is_passes(case: Case) -> None:
    rule = case.rule()
    checking = check(rule, case.module(), case.pass_name)
    assert checking.counts.checked >= 1, f"{rule.name} did not fire"
    assert not checking.counts.unchecked


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_mutated_rule_is_caught(case: Case) -> None:
    rule = case.rule()
    module = case.module()
    site = case.site or module.main.outputs[0].name
    with pytest.raises(CheckError) as caught:
        check(mutated(rule, case.edit), module, case.pass_name)
    error = caught.value
    assert error.rule == rule.name
    assert error.pass_name == "one-rule"
    assert error.message.startswith(f"the rule {rule.name} changes the numbers at %{site}: ")
    assert error.window is not None
    assert error.window.startswith("before:\n")
    assert "\nafter:\n" in error.window
    assert "\nwith:\n%" in error.window
    assert error.hint == f"the rule stands at {rule.place}"

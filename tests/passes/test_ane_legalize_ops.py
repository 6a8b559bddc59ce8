"""ane-legalize, its lookups, copies, arithmetic and islands of bools: where they fire, and with which numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import pad

import anec
import golden
from anec.ane import predict
from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.ir.weights import torch_dtype
from anec.passes.ane_legalize import (
    AneLegalize,
    arithmetic,
    computed_weights,
    copies,
    islands,
    lookups,
    shears,
    tables,
    upsampling,
)
from anec.reference.evaluate import evaluate
from anec.testing import assert_legal, module_of, run_pass, single_op

RULES = {
    rule.name
    for module in (computed_weights, lookups, shears, tables, copies, arithmetic, islands, upsampling)
    for rule in module.RULES
}
CASES = [path for path in golden.cases("ane-legalize") if path.stem.split(".")[0] in RULES]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    outcome = golden.check(path)
    name, *kind = path.stem.split(".")
    if kind[:1] != ["not"]:
        assert name in outcome.fired, outcome.reasons


def test_every_rule_has_goldens() -> None:
    stems = {path.stem for path in CASES}
    for name in RULES:
        assert {name, f"{name}.not"} <= stems


FIRING = [path for path in CASES if path.stem.split(".")[1:2] != ["not"]]


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
@pytest.mark.parametrize("path", FIRING, ids=lambda path: path.stem)
def test_what_was_legal_stays_legal(path: Path, target: str) -> None:
    source = path.read_text(encoding="utf-8").partition(f"\n{golden.SEPARATOR}\n")[0]
    module = golden.read(source.replace("target=iOS18", f"target={target}"))
    assert_legal(module)
    run_pass(module, golden.pass_of(path, source))
    assert_legal(module)


class Relative(torch.nn.Module):
    """Scores by distance, as DeBERTa and ProphetNet look them up; distances beyond the table are clamped."""

    def __init__(self, span: int) -> None:
        super().__init__()
        self.span, self.table = span, torch.nn.Linear(16, 2 * span)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = torch.arange(x.shape[1])
        index = (at[:, None] - at[None, :] + self.span).clamp(0, 2 * self.span - 1)
        return self.table(x).gather(-1, index.expand(x.shape[0], -1, -1))


class Module(torch.nn.Module):
    """A function between two convolutions, so that what it computes is in the middle of the program."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], channels: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.before = torch.nn.Conv2d(4, channels, 3, padding=1)
        probe = function(torch.zeros(1, channels, 8, 10))
        self.after = torch.nn.Conv2d(probe.shape[1], 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.function(self.before(x)))


_ORDER = torch.randperm(24, generator=torch.Generator().manual_seed(1)).tolist()


def _dynamic(x: torch.Tensor) -> torch.Tensor:
    """A kernel for each image of the batch, the batch in the groups; the same kernel spreads the result."""
    batch, channels = x.shape[:2]
    weight = torch.tanh(x[:, :, :3, :3]).unsqueeze(1) * torch.linspace(0.5, 1, 6).reshape(1, 6, 1, 1, 1)
    rows = torch.conv2d(
        x.reshape(1, -1, *x.shape[2:]), weight.reshape(-1, channels, 3, 3), stride=2, padding=1, groups=batch
    )
    return torch.conv_transpose2d(rows, weight.reshape(-1, channels, 3, 3), stride=2, groups=batch)


FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], set[str]]] = {
    "computed weights": (_dynamic, {"conv", "conv_transpose"}),
    "few channels": (lambda x: x[:, [0, 1, 5, 4, 2, 2]], {"gather"}),
    "many channels": (lambda x: x.repeat(1, 4, 1, 1)[:, _ORDER], {"gather"}),
    "columns": (lambda x: x[..., [0, 3, 1, 4, 2, 9, 0, 8, 1, 7, 3, 3, 2, 6, 0]], {"gather"}),
    "reflected": (lambda x: pad(x, (3, 2, 1, 2), mode="reflect"), {"pad"}),
    "replicated": (lambda x: pad(x, (1, 0, 4, 1), mode="replicate"), {"pad"}),
    "channels of zeros": (lambda x: pad(x, (0, 0, 0, 0, 1, 3)), {"pad"}),
    "running sum of channels": (lambda x: x.cumsum(1), {"cumsum"}),
    "running sum of rows": (lambda x: x.cumsum(-1), {"cumsum"}),
    "product": (lambda x: x.prod(-1, keepdim=True) + x, {"reduce_prod"}),
    "triangle": (lambda x: x[..., :8].tril(), {"band_part"}),
    "softplus": (torch.nn.functional.softplus, {"greater", "select"}),
    "angle": (lambda x: torch.acos(torch.tanh(x)) + torch.asin(torch.tanh(x)), {"acos", "asin"}),
    "thresholds": (lambda x: ((x > 0.1) & (x <= 0.6) | ~(x >= -0.2)).float() * x, {"cast", "greater", "logical_and"}),
    "choice": (lambda x: torch.where(x > 0.1, torch.tanh(x), torch.sigmoid(x) * 2), {"greater", "select"}),
    "equal to the largest": (lambda x: x * (x == x.amax(1, keepdim=True)), {"equal", "cast"}),
}


def _refused(compiled: anec.CompiledModel, generation: str = "M1") -> set[str]:
    """The ops that the rules keep off the Neural Engine."""
    (function,) = predict(compiled.module, generation).functions
    found = [p for p in function.placements if any(finding.rule.rejects for finding in p.findings)]
    return {placement.op.defn.root for placement in found} - {"cast"} | {
        "cast" for p in found if p.op.defn.root == "cast" and "bool" in str([v.type for v in p.op.inputs])
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_was_refused_is_taken(name: str) -> None:
    function, roots = FUNCTIONS[name]
    model = Module(function).eval()
    x = torch.randn(1, 4, 8, 10, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = model(x)
    before = anec.compile(model, (x,), passes="default,ane,-ane-legalize")
    assert roots <= _refused(before), "the hardware takes it as it was"
    for precision, allowed in (("fp32", 1e-5), ("fp16", 1e-2)):
        after = anec.compile(model, (x,), passes="default,ane", precision=precision)
        (found,) = after.run({after.input_names[0]: x}).values()
        error = (torch.as_tensor(found) - wanted).abs().max() / wanted.abs().max()
        assert error <= allowed
    assert not _refused(after), "the clean-up behind it has undone it"


@pytest.mark.parametrize("span", [4, 40])
def test_relative_positions(span: int) -> None:
    model, x = Relative(span), torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(3))
    after = anec.compile(model, (x,), passes="default,ane", precision="fp32")
    assert "gather_along_axis" not in {op.defn.root for op in after.module.main}
    (found,) = after.run({after.input_names[0]: x}).values()
    torch.testing.assert_close(torch.as_tensor(found), model(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (2, 1, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16])
def test_a_product_along_every_axis(shape: tuple[int, ...], dtype: DType) -> None:
    for axis in range(len(shape)):
        module, inputs = single_op("mil.cumsum", torch.randn(shape).to(torch_dtype(dtype)), axis=axis)
        wanted = evaluate(module, inputs)["y"]
        context = run_pass(module, AneLegalize())
        assert context.fired == {"cumsum": 1}
        assert all(op.name in ("mil.conv", "mil.linear", "mil.matmul") or _moves(op) for op in module.main)
        found = evaluate(module, inputs)["y"]
        # Rounded once, not at every step.
        tolerance = 1e-5 if dtype is DType.F32 else 4e-3
        torch.testing.assert_close(found.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def _moves(op: Op) -> bool:
    return op.is_constant or op.name in ("mil.reshape", "mil.expand_dims", "mil.squeeze")


@pytest.mark.parametrize("comparison", ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"])
def test_comparisons_at_the_edges(comparison: str) -> None:
    """Neighbours of the bound, zeros of both signs, subnormal and infinite numbers; exact in both precisions."""
    for dtype in (torch.float32, torch.float16):
        tiny = torch.finfo(dtype).smallest_normal / 4
        near = torch.nextafter(torch.tensor(0.5, dtype=dtype), torch.tensor(1.0, dtype=dtype))
        numbers = [0.5, float(near), 1 - float(near), 0.0, -0.0, tiny, -tiny, math.inf, -math.inf, 3e4, -3e4]
        x = torch.tensor(numbers, dtype=dtype)
        for bound in (0.5, 0.0):
            bits = 8 * x.itemsize
            module = anec.read(TEXT.format(comparison=comparison, bound=bound, n=len(numbers), bits=bits))
            wanted = evaluate(module, {"x": x})["y"]
            assert run_pass(module, AneLegalize()).fired == {"numbers_of_condition": 1}
            assert torch.equal(evaluate(module, {"x": x})["y"], wanted)


TEXT = """anec 1
module target=iOS18

func main(%x: f{bits}[{n}]) -> (%y: f{bits}[{n}]) {{
  %c = mil.{comparison}(%x, {bound}) : bool[{n}]
  %y = mil.cast(%c) {{dtype="fp{bits}"}} : f{bits}[{n}]
  return %y
}}
"""


GUARDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logarithm": lambda x: torch.where(x > 1, torch.log(x), x - 1),
    "quotient": lambda x: torch.where(x.abs() > 10, 10 / x, x / 10),
    # The square of 300 is infinite in float16.
    "square": lambda x: torch.where(x.abs() < 1, x * x / 2, x.abs() - 0.5),
    "masked softmax": lambda x: torch.where(
        x.amax(1, keepdim=True) > 0, torch.where(x > 0, x, -math.inf).softmax(1), 0.0
    ),
    "mask": lambda x: torch.where(x > 0, x, -math.inf).amax(1, keepdim=True).clamp(min=-9.0) + x,
}


@pytest.mark.parametrize("name", GUARDS)
def test_a_choice_that_guards_stays(name: str) -> None:
    """0 times what is not chosen is no number where that is infinite."""
    guarded = Module(GUARDS[name]).eval()
    x = 300 * torch.randn(1, 4, 8, 10, generator=torch.Generator().manual_seed(3))
    compiled = anec.compile(guarded, (x,), passes="default,ane")
    assert "select" in {op.defn.root for op in compiled.module.main}
    (found,) = compiled.run({compiled.input_names[0]: x}).values()
    wanted = guarded(x).detach()
    assert (torch.as_tensor(found) - wanted).abs().max() / wanted.abs().max() <= 2e-2


@pytest.mark.parametrize("indices", [2, (3,), ((3, 0), (1, 1)), (0, 2, 1, 3) * 4])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lookups_of_every_rank(indices: object, axis: int) -> None:
    x = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(3))
    module, inputs = single_op("mil.gather", x, indices, axis=axis)
    wanted = evaluate(module, inputs)["y"]
    assert run_pass(module, AneLegalize()).fired == {"lookup": 1}
    assert torch.equal(evaluate(module, inputs)["y"], wanted)


@pytest.mark.parametrize("indices", [(1,), (1, 2), ((1, 2), (0, 3)), ((1, 2, 3), (1, 2, 2), (3, 0, 0))])
def test_lookups_on_several_axes(indices: object) -> None:
    x = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(3))
    module, inputs = single_op("mil.gather_nd", x, indices)
    wanted = evaluate(module, inputs)["y"]
    assert run_pass(module, AneLegalize()).fired == {"lookup": 1}
    assert torch.equal(evaluate(module, inputs)["y"], wanted)


@pytest.mark.parametrize("indices", [(3, 0, 1), (0, 3, 1) * 6])
def test_lookups_along_the_only_axis(indices: tuple[int, ...]) -> None:
    x = torch.randn(4, generator=torch.Generator().manual_seed(3))
    module, inputs = single_op("mil.gather_along_axis", x, indices, axis=0)
    wanted = evaluate(module, inputs)["y"]
    assert run_pass(module, AneLegalize()).fired == {"lookup_along_axis": 1}
    assert torch.equal(evaluate(module, inputs)["y"], wanted)


@pytest.mark.parametrize("name", ["gather", "cumsum", "band_part"])
def test_a_mask_meets_no_zeros(name: str) -> None:
    """0 times minus infinity is no number: what a choice has hidden is looked up and added as it is."""
    places = ", ".join("3012"[number * number % 7 % 4] for number in range(40))
    operands = {"gather": f"%m, [{places}]", "cumsum": "%m", "band_part": "%m"}[name]
    attrs = {"gather": "axis=1", "cumsum": "axis=1", "band_part": "lower=-1, upper=0"}[name]
    text = MASK.format(op=f"mil.{name}({operands}) {{{attrs}}}", size=40 if name == "gather" else 4)
    rule = "lookup" if name == "gather" else name
    for hidden, fired in (("-inf", set()), ("-40000.0", {rule})):
        module = anec.read(text.replace("HIDDEN", hidden))
        inputs = {"x": torch.arange(16.0).reshape(4, 4), "c": torch.ones(4, 4).tril(1).bool()}
        wanted = evaluate(module, inputs)["y"]
        assert set(run_pass(module, AneLegalize()).fired) == fired
        assert torch.equal(evaluate(module, inputs)["y"], wanted)


MASK = """anec 1
module target=iOS18

func main(%x: f32[4,4], %c: bool[4,4]) -> (%y: f32[4,{size}]) {{
  %m = mil.select(%c, %x, HIDDEN) : f32[4,4]
  %y = {op} : f32[4,{size}]
  return %y
}}
"""


def test_a_product_along_one_axis_of_symbolic_tensors_stays() -> None:
    module = anec.read(SYMBOLIC)
    assert not run_pass(module, AneLegalize()).fired


SYMBOLIC = """anec 1
module target=iOS18
dims s in 2..64

func main(%x: f32[s,8]) -> (%y: f32[s]) {
  %y = mil.reduce_prod(%x) {axes=[1], keep_dims=false} : f32[s]
  return %y
}
"""


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_a_table_that_is_a_head_too_is_stored_once(target: str) -> None:
    def build(ids: Value, table: Value) -> list[Value]:
        return [mil.gather(table, ids, axis=0), mil.linear(mil.gather(table, ids, axis=0), table)]

    places = [0, 10015, 10016, 19999, 7, 12345] + ([-1, -20000] if target == "iOS15" else [])
    table = torch.randn(20000, 4, generator=torch.Generator().manual_seed(3))
    module, inputs = module_of(build, torch.tensor([places], dtype=torch.int32), table, weights=[1], target=target)
    wanted = list(evaluate(module, inputs).values())
    context = run_pass(module, AneLegalize())
    assert context.fired == {"split_outputs": 1, "lookup_in_pieces": 2}
    assert not any("stored" in note for note in context.notes)
    assert_legal(module)
    (weight,) = module.main.weights.values()
    assert {user.name for user in weight.users} == {"mil.slice_by_index"}
    found = list(evaluate(module, inputs).values())
    assert torch.equal(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-5)


def test_what_costs_too_much_stays() -> None:
    module, _ = single_op("mil.cumsum", torch.zeros(1, 1025), axis=1)
    assert not run_pass(module, AneLegalize()).fired
    assert run_pass(module, AneLegalize("M5")).fired == {"cumsum": 1}


def test_a_long_product_takes_few_ops() -> None:
    module, inputs = single_op("mil.reduce_prod", torch.rand(2, 256) + 0.5, axes=(1,))
    wanted = evaluate(module, inputs)["y"]
    run_pass(module, AneLegalize())
    assert len(list(module.main)) <= 3 * 8 + 1
    torch.testing.assert_close(evaluate(module, inputs)["y"], wanted, rtol=1e-5, atol=0)

"""to-fp16: casts at the boundary, what stays wide, and constants that float16 cannot hold."""

from __future__ import annotations

import pytest
import torch

import golden
from anec.ir.graph import Module
from anec.ir.types import DType
from anec.ir.weights import TensorData
from anec.passes.to_fp16 import ToFp16
from anec.pipeline.base import Context
from anec.reference.evaluate import evaluate
from anec.testing import run_pass

HEAD = "anec 1\nmodule target=iOS18\n\n"


def module(signature: str, *lines: str, target: str = "iOS18") -> Module:
    return golden.read(f"{HEAD.replace('iOS18', target)}func main{signature} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n")


def converted(signature: str, *lines: str, keep: tuple[str, ...] = (), target: str = "iOS18") -> tuple[list[str], Context]:
    """The body behind the pass, without origins, and the context with its notes."""
    made = module(signature, *lines, target=target)
    context = run_pass(made, ToFp16(keep=keep))
    text = golden.text_of(made).split("{\n", 1)[1].removesuffix("}\n")
    return [line.strip() for line in text.splitlines()], context


def test_a_program() -> None:
    body, _ = converted(
        "(%x: f32[2,4]) -> (%y: f32[2,3])",
        '%w = weight "w" : f32[3,4]',
        '%b = weight "b" : f32[3]',
        "%l = mil.linear(%x, %w, %b) : f32[2,3]",
        "%y = mil.mul(%l, 0.5:f32) : f32[2,3]",
        "return %y",
    )
    assert body == [
        '%w = weight "w" : f32[3,4]',
        '%b = weight "b" : f32[3]',
        '%b_fp16 = mil.cast(%b) {dtype="fp16"} : f16[3]',
        '%w_fp16 = mil.cast(%w) {dtype="fp16"} : f16[3,4]',
        '%x_fp16 = mil.cast(%x) {dtype="fp16"} : f16[2,4]',
        "%l = mil.linear(%x_fp16, %w_fp16, %b_fp16) : f16[2,3]",
        "%y_fp16 = mil.mul(%l, 0.5) : f16[2,3]",
        '%y = mil.cast(%y_fp16) {dtype="fp32"} : f32[2,3]',
        "return %y",
    ]


def test_each_value_is_cast_once() -> None:
    body, _ = converted(
        "(%x: f32[4]) -> (%y: f32[4], %z: f32[4])",
        "%a = mil.relu(%x) : f32[4]",
        "%y = mil.add(%x, %a) : f32[4]",
        "%z = mil.mul(%x, %y) : f32[4]",
        "return %y, %z",
    )
    assert sum("mil.cast(%x)" in line for line in body) == 1
    assert body[-1] == "return %y, %z"


@pytest.mark.parametrize(
    ("keep", "wide"),
    [(("softmax",), {"s"}), (("s",), {"s"}), (("layers.*",), {"s"}), (("s", "e"), {"s", "e"}), (("*",), {"e", "s", "y"}), ((), set())],
)
def test_what_is_kept_stays_wide(keep: tuple[str, ...], wide: set[str]) -> None:
    body, _ = converted(
        "(%x: f32[4]) -> (%y: f32[4])",
        "%e = mil.exp(%x) : f32[4]",
        "%s = mil.softmax(%e) {axis=0} : f32[4]  ; layers.0.attn",
        "%y = mil.tanh(%s) : f32[4]",
        "return %y",
        keep=keep,
    )
    results = {line.split(" = ")[0].removeprefix("%"): line for line in body if " = mil." in line and "cast" not in line}
    found = {name.removesuffix("_fp16") for name, line in results.items() if line.endswith("f32[4]")}
    assert found == wide


def test_kept_ops_cast_back_and_forth() -> None:
    body, _ = converted(
        "(%x: f32[4]) -> (%y: f32[4])",
        "%e = mil.exp(%x) : f32[4]",
        "%s = mil.softmax(%e) {axis=0} : f32[4]",
        "%y = mil.tanh(%s) : f32[4]",
        "return %y",
        keep=("softmax",),
    )
    assert body == [
        '%x_fp16 = mil.cast(%x) {dtype="fp16"} : f16[4]',
        "%e = mil.exp(%x_fp16) : f16[4]",
        '%e_fp32 = mil.cast(%e) {dtype="fp32"} : f32[4]',
        "%s = mil.softmax(%e_fp32) {axis=0} : f32[4]",
        '%s_fp16 = mil.cast(%s) {dtype="fp16"} : f16[4]',
        "%y_fp16 = mil.tanh(%s_fp16) : f16[4]",
        '%y = mil.cast(%y_fp16) {dtype="fp32"} : f32[4]',
        "return %y",
    ]


def test_a_pattern_that_keeps_nothing_is_told() -> None:
    _, context = converted("(%x: f32[4]) -> (%y: f32[4])", "%y = mil.exp(%x) : f32[4]", "return %y", keep=("soft*", "exp"))
    assert context.notes == ["to-fp16: nothing matches keep=soft*"]


def test_whole_numbers_and_truth_values_stay() -> None:
    body, _ = converted(
        "(%i: i32[4], %m: bool[4]) -> (%a: i32[4], %b: bool[4], %c: f32[4])",
        "%a = mil.add(%i, 1) : i32[4]",
        "%b = mil.logical_not(%m) : bool[4]",
        '%c = mil.cast(%i) {dtype="fp32"} : f32[4]',
        "return %a, %b, %c",
    )
    assert body == [
        "%a = mil.add(%i, 1) : i32[4]",
        "%b = mil.logical_not(%m) : bool[4]",
        '%c_fp16 = mil.cast(%i) {dtype="fp16"} : f16[4]',
        '%c = mil.cast(%c_fp16) {dtype="fp32"} : f32[4]',
        "return %a, %b, %c",
    ]


def test_an_input_or_an_output_twice() -> None:
    body, _ = converted(
        "(%x: f32[4]) -> (%a: f32[4], %b: f32[4], %c: f32[4])", "%y = mil.relu(%x) : f32[4]", "return %y, %x, %y"
    )
    returned = body[-1].removeprefix("return ").split(", ")
    assert returned[1] == "%x"
    casts = [line for line in body if 'dtype="fp32"' in line]
    assert {line.split(" = ")[0] for line in casts} == {returned[0], returned[2]}


def test_a_constant_output_stays_wide() -> None:
    body, _ = converted("(%x: f32[4]) -> (%y: f32[2])", '%w = weight "w" : f32[2]', "return %w")
    assert body == ['%w = weight "w" : f32[2]', "return %w"]


def test_constants_computed_before_the_program_runs_stay_wide() -> None:
    body, _ = converted(
        "(%x: f32[4]) -> (%y: f32[4])",
        '%w = weight "w" : f32[4]',
        "%v = mil.mul(%w, 2.0) : f32[4]",
        "%y = mil.add(%x, %v) : f32[4]",
        "return %y",
    )
    assert "%v = mil.mul(%w, 2.0) : f32[4]" in body
    assert '%v_fp16 = mil.cast(%v) {dtype="fp16"} : f16[4]' in body


def test_states_are_float16_without_a_cast() -> None:
    body, _ = converted(
        '(%x: f32[2], %s: state<f32[2]> {kind="state"}) -> (%y: f32[2])',
        "%old = mil.read_state(%s) : f32[2]",
        "%y = mil.add(%old, %x) : f32[2]",
        "%new = mil.coreml_update_state(%s, %y) : f32[2]",
        "return %y",
    )
    assert body[1:] == [
        "%old = mil.read_state(%s) : f16[2]",
        "%y_fp16 = mil.add(%old, %x_fp16) : f16[2]",
        '%y = mil.cast(%y_fp16) {dtype="fp32"} : f32[2]',
        "%new = mil.coreml_update_state(%s, %y_fp16) : f16[2]",
        "return %y",
    ]


# -- constants beyond float16 --------------------------------------------------------------------------


def weighted(numbers: list[float]) -> tuple[Module, Context]:
    made = module(
        f"(%x: f32[{len(numbers)}]) -> (%y: f32[{len(numbers)}])",
        f'%w = weight "w" : f32[{len(numbers)}]',
        f"%y = mil.add(%x, %w) : f32[{len(numbers)}]",
        "return %y",
    )
    made.weights["w"].data = TensorData(torch.tensor(numbers))
    return made, run_pass(made, ToFp16())


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ([0.0, -1e9], [0.0, -4e4]),
        ([3.4e38, 1.0], [4e4, 1.0]),
        ([-1e9, 5e4], [-65504.0, 5e4]),
        ([float("-inf"), 1.0], [float("-inf"), 1.0]),
        ([float("-inf"), -1e9], [float("-inf"), -4e4]),
        ([65504.0, -65504.0], [65504.0, -65504.0]),
        ([1e-9, 2.0], [0.0, 2.0]),
    ],
)
def test_large_weights_stay_finite(numbers: list[float], found: list[float]) -> None:
    made, context = weighted(numbers)
    result = evaluate(made, {"x": torch.zeros(len(numbers))})["y"]
    torch.testing.assert_close(result, torch.tensor(found), rtol=1e-3, atol=1e-4)
    beyond = sum(65504 < abs(n) < 1e39 for n in numbers)
    assert len(context.notes) == (1 if beyond else 0)
    if beyond:
        assert context.notes[0].startswith(f"to-fp16: {beyond} constants of %w beyond 65504 became ")


def test_the_original_weight_is_not_touched() -> None:
    made, _ = weighted([0.0, -1e9])
    assert made.weights["w"].tensor().tolist() == [0.0, -1e9]
    assert set(made.weights) == {"w", "main.w_finite"}


def test_large_literals_stay_finite() -> None:
    body, context = converted(
        "(%x: f32[2], %m: bool[2]) -> (%y: f32[2])",
        "%a = mil.select(%m, %x, -1e+09) : f32[2]",
        "%y = mil.clip(%a) {alpha=-3.4e+38, beta=70000.0} : f32[2]  ; net  net.py:9",
        "return %y",
    )
    assert "%a = mil.select(%m, %x_fp16, -40000.0) : f16[2]" in body
    assert "%y_fp16 = mil.clip(%a) {alpha=-65504.0, beta=65504.0} : f16[2]" in body
    assert context.notes == [
        "to-fp16: -1e+09 in mil.select is beyond 65504 and became -40000",
        "to-fp16: -3.4e+38 in mil.clip is beyond 65504 and became -65504 net.py:9 (net)",
        "to-fp16: 70000 in mil.clip is beyond 65504 and became 65504 net.py:9 (net)",
    ]


@pytest.mark.parametrize(
    "guard",
    [
        "mil.add(%n, 1e-08)", "mil.add(1e-12, %n)", "mil.maximum(%n, 1e-12)",
        "mil.clip(%n) {alpha=1e-12, beta=10.0}", f"mil.add(%n, {2.0**-25})",
    ],
)  # fmt: skip
def test_a_tiny_guard_still_keeps_a_division_from_0(guard: str) -> None:
    """Rounded to float16 the guard would be 0, and a row of zeros NaN."""
    made = module(
        "(%x: f32[2,3]) -> (%y: f32[2,3])",
        "%a = mil.abs(%x) : f32[2,3]",
        "%n = mil.reduce_sum(%a) {axes=[-1], keep_dims=true} : f32[2,1]",
        f"%g = {guard} : f32[2,1]",
        "%y = mil.real_div(%x, %g) : f32[2,3]",
        "return %y",
    )
    run_pass(made, ToFp16())
    found = evaluate(made, {"x": torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 1.0]])})["y"]
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.0], [0.25, -0.5, 0.25]]), rtol=2e-3, atol=0)


@pytest.mark.parametrize("shape", ["", "1", "2,1"])
@pytest.mark.parametrize("op", ["add", "maximum"])
def test_a_tiny_guard_that_is_a_tensor(op: str, shape: str) -> None:
    """A buffer that holds an epsilon guards like a number; elsewhere it stays what it was."""
    made = module(
        "(%x: f32[2,3]) -> (%y: f32[2,3], %z: f32[2,3])",
        f'%e = weight "e" : f32[{shape}]',
        "%a = mil.abs(%x) : f32[2,3]",
        "%n = mil.reduce_sum(%a) {axes=[-1], keep_dims=true} : f32[2,1]",
        f"%g = mil.{op}(%n, %e) : f32[2,1]",
        "%y = mil.real_div(%x, %g) : f32[2,3]",
        "%z = mil.mul(%x, %e) : f32[2,3]",
        "return %y, %z",
    )
    size = [int(n) for n in shape.split(",") if n]
    made.weights["e"].data = TensorData(torch.full(size, 1e-12))
    run_pass(made, ToFp16())
    found = evaluate(made, {"x": torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 1.0]])})
    torch.testing.assert_close(found["y"], torch.tensor([[0.0, 0.0, 0.0], [0.25, -0.5, 0.25]]), rtol=2e-3, atol=0)
    assert not found["z"].any()
    assert set(made.weights) == {"e", "main.e_guard"}


def test_a_tiny_factor_stays() -> None:
    """Rounded up it would give other numbers: large values times 1e-9 are not 60 times as large."""
    body, _ = converted("(%x: f32[2]) -> (%y: f32[2])", "%y = mil.mul(%x, 1e-09) : f32[2]", "return %y")
    assert any("mil.mul(%x_fp16, 1e-09)" in line for line in body)


def test_a_mask_does_not_poison_what_it_meets() -> None:
    """0 * inf is NaN; a finite mask stays finite, also with a score added."""
    made = module(
        "(%x: f32[4], %m: f32[4]) -> (%y: f32[4])",
        "%n = mil.mul(%m, -3.4e+38) : f32[4]",
        "%a = mil.add(%x, %n) : f32[4]",
        "%y = mil.softmax(%a) {axis=0} : f32[4]",
        "return %y",
    )
    run_pass(made, ToFp16())
    found = evaluate(made, {"x": torch.tensor([1.0, 2.0, 3.0, 1e4]), "m": torch.tensor([0.0, 0.0, 1.0, 1.0])})["y"]
    torch.testing.assert_close(found, torch.tensor([0.2689, 0.7311, 0.0, 0.0]), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_result_is_close(seed: int) -> None:
    torch.manual_seed(seed)
    made = module(
        "(%x: f32[2,8]) -> (%y: f32[2,5])",
        '%w = weight "w" : f32[5,8]',
        "%n = mil.layer_norm(%x) {axes=[-1], epsilon=1e-05} : f32[2,8]",
        "%l = mil.linear(%n, %w) : f32[2,5]",
        '%y = mil.gelu(%l) {mode="EXACT"} : f32[2,5]',
        "return %y",
    )
    inputs = {"x": torch.randn(2, 8) * 3}
    before = evaluate(made, inputs)["y"]
    run_pass(made, ToFp16())
    assert {op.result.tensor.dtype for op in made.ops() if op.name != "mil.cast"} == {DType.F16}
    after = evaluate(made, inputs)["y"]
    # A dozen roundings to 11 bits each.
    torch.testing.assert_close(after, before, rtol=0, atol=float(before.abs().max()) * 2**-8)

"""legalize-io: what Core ML's boundary takes, case by case, with the same numbers inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import golden
from anec.errors import AnecError
from anec.ir.graph import Module
from anec.ir.signature import Port, PortKind
from anec.ir.types import DType, TensorType
from anec.ir.verify import verify
from anec.passes.legalize_io import LegalizeIo
from anec.pipeline.base import Context
from anec.reference.evaluate import evaluate
from anec.testing import run_pass


def module(signature: str, *lines: str, target: str = "iOS18") -> Module:
    body = "".join(f"  {line}\n" for line in lines)
    return golden.read(f"anec 1\nmodule target={target}\n\nfunc main{signature} {{\n{body}}}\n")


def legal(made: Module, **options: Any) -> list[str]:
    """The function's lines behind the pass."""
    run_pass(made, LegalizeIo(**options))
    text = golden.text_of(made).split("\n\n", 1)[1]
    return [line.strip() for line in text.splitlines()][:-1]


def boundary(made: Module) -> tuple[list[str], list[str]]:
    return [str(v.type) for v in made.main.inputs], [str(v.type) for v in made.main.outputs]


def test_what_is_legal_stays_as_it_is() -> None:
    made = module("(%x: f32[2], %i: i32[3]) -> (%y: f32[2])", "%y = mil.relu(%x) : f32[2]", "return %y")
    text = str(made)
    run_pass(made, LegalizeIo())
    assert str(made) == text


def test_truth_values_are_whole_numbers_outside() -> None:
    made = module("(%m: bool[4]) -> (%y: bool[4])", "%y = mil.logical_not(%m) : bool[4]", "return %y")
    assert legal(made) == [
        'func main(%m: i32[4] {type="bool[4]"}) -> (%y: i32[4] {type="bool[4]"}) {',
        '%m_1 = mil.cast(%m) {dtype="bool"} : bool[4]',
        "%y_inner = mil.logical_not(%m_1) : bool[4]",
        '%y = mil.cast(%y_inner) {dtype="int32"} : i32[4]',
        "return %y",
    ]
    assert evaluate(made, {"m": torch.tensor([1, 0, 5, -1])})["y"].tolist() == [0, 1, 0, 0]


def test_words_of_the_mil_text_are_no_names() -> None:
    made = module(
        "(%x: f32[2]) -> (%y: f32[2])",
        "%tensor = mil.relu(%x) : f32[2]",
        "%y = mil.square(%tensor) : f32[2]",
        "return %y",
    )
    assert legal(made)[1:3] == ["%tensor_ = mil.relu(%x) : f32[2]", "%y = mil.square(%tensor_) : f32[2]"]


def test_rank_0_is_rank_1_outside() -> None:
    made = module(
        "(%a: f32[], %i: i32[], %m: bool[]) -> (%y: f32[], %j: i32[], %n: bool[])",
        "%y = mil.relu(%a) : f32[]",
        "%j = mil.add(%i, 1) : i32[]",
        "%n = mil.logical_not(%m) : bool[]",
        "return %y, %j, %n",
    )
    legal(made)
    assert boundary(made) == (["f32[1]", "i32[1]", "i32[1]"], ["f32[1]", "i32[1]", "i32[1]"])
    outputs = evaluate(made, {"a": torch.tensor([-2.0]), "i": torch.tensor([3]), "m": torch.tensor([0])})
    assert {name: value.tolist() for name, value in outputs.items()} == {"y": [0.0], "j": [4], "n": [1]}


def test_the_signature_keeps_torchs_types() -> None:
    made = module("(%m: bool[]) -> (%y: bool[])", "%y = mil.logical_not(%m) : bool[]", "return %y")
    legal(made)
    signature = made.main.signature
    assert [str(port.type) for port in (*signature.inputs, *signature.outputs)] == ["bool[]", "bool[]"]


def test_an_input_that_is_an_output() -> None:
    made = module("(%x: f32[2], %m: bool[2]) -> (%a: f32[2], %b: bool[2])", "return %x, %m")
    lines = legal(made)
    assert lines[0].startswith("func main(%x: f32[2], %m: i32[2]")
    assert "%a = mil.identity(%x) : f32[2]" in lines
    assert lines[-1] == "return %a, %b"
    outputs = evaluate(made, {"x": torch.tensor([1.0, 2.0]), "m": torch.tensor([3, 0])})
    assert (outputs["a"].tolist(), outputs["b"].tolist()) == ([1, 2], [1, 0])


def test_a_value_that_is_an_output_twice() -> None:
    made = module("(%x: f32[2]) -> (%a: f32[2], %b: f32[2], %c: f32[2])", "%y = mil.relu(%x) : f32[2]", "return %y, %y, %y")
    assert legal(made)[1:] == [
        "%a = mil.relu(%x) : f32[2]",
        "%b = mil.identity(%a) : f32[2]",
        "%c = mil.identity(%a) : f32[2]",
        "return %a, %b, %c",
    ]


def test_a_bool_that_is_an_output_twice() -> None:
    made = module("(%x: f32[2]) -> (%a: bool[2], %b: bool[2])", "%y = mil.greater(%x, 0.0) : bool[2]", "return %y, %y")
    legal(made)
    assert boundary(made)[1] == ["i32[2]", "i32[2]"]
    assert evaluate(made, {"x": torch.tensor([1.0, -1.0])})["b"].tolist() == [1, 0]


def test_constant_outputs_are_made_by_an_op() -> None:
    made = module(
        "(%x: f32[2]) -> (%a: f32[2], %b: f32[2], %c: bool[2])",
        '%w = weight "w" : f32[2]',
        '%t = weight "true" : bool[2]',
        "%v = mil.mul(%w, 2.0) : f32[2]",
        "return %w, %v, %t",
    )
    weights = made.weights["w"].tensor()
    lines = legal(made)
    assert "%a = mil.identity(%w) : f32[2]" in lines
    assert "%b = mil.identity(%v) : f32[2]" in lines
    outputs = evaluate(made, {"x": torch.zeros(2)})
    torch.testing.assert_close(outputs["b"], weights * 2)
    assert outputs["c"].tolist() == [1, 1]


def test_a_bool_input_cast_to_whole_numbers_is_still_0_or_1() -> None:
    """cast(x: i32 -> bool -> i32) is not x: whoever passes 5 for true must not find 5 inside."""
    made = module(
        "(%m: bool[3]) -> (%y: i32[3])",
        '%i = mil.cast(%m) {dtype="int32"} : i32[3]',
        "%y = mil.add(%i, 10) : i32[3]",
        "return %y",
    )
    legal(made)
    assert evaluate(made, {"m": torch.tensor([0, 1, 5])})["y"].tolist() == [10, 11, 11]


def test_a_bool_output_of_whole_numbers_is_still_0_or_1() -> None:
    made = module("(%i: i32[3]) -> (%y: bool[3])", '%y = mil.cast(%i) {dtype="bool"} : bool[3]', "return %y")
    legal(made)
    assert evaluate(made, {"i": torch.tensor([0, 1, 7])})["y"].tolist() == [0, 1, 1]


# -- float16 at the boundary ---------------------------------------------------------------------------


def half_program(target: str = "iOS18") -> Module:
    return module(
        "(%x: f32[2], %i: i32[2]) -> (%y: f32[2], %j: i32[2])",
        '%x_fp16 = mil.cast(%x) {dtype="fp16"} : f16[2]',
        "%y_fp16 = mil.exp(%x_fp16) : f16[2]",
        '%y = mil.cast(%y_fp16) {dtype="fp32"} : f32[2]',
        "%j = mil.add(%i, 1) : i32[2]",
        "return %y, %j",
        target=target,
    )


def test_float16_at_the_boundary_needs_no_casts() -> None:
    assert legal(half_program(), io_dtype="fp16") == [
        'func main(%x: f16[2] {type="f32[2]"}, %i: i32[2]) -> (%y: f16[2] {type="f32[2]"}, %j: i32[2]) {',
        "%y = mil.exp(%x) : f16[2]",
        "%j = mil.add(%i, 1) : i32[2]",
        "return %y, %j",
    ]


def test_float16_at_the_boundary_of_a_program_in_float32() -> None:
    made = module("(%x: f32[]) -> (%y: f32[])", "%y = mil.exp(%x) : f32[]", "return %y")
    legal(made, io_dtype="fp16")
    assert boundary(made) == (["f16[1]"], ["f16[1]"])
    assert [op.defn.root for op in made.main.ops()] == ["cast", "squeeze", "exp", "cast", "expand_dims"]


def test_float16_in_and_out_of_one_value() -> None:
    made = module("(%x: f32[2]) -> (%y: f32[2])", "return %x")
    legal(made, io_dtype="fp16")
    assert boundary(made) == (["f16[2]"], ["f16[2]"])
    assert [value.name for value in made.main.outputs] == ["y"]


def test_float16_at_the_boundary_needs_ios16() -> None:
    with pytest.raises(AnecError, match="float16 inputs and outputs need iOS16"):
        legal(half_program("iOS15"), io_dtype="fp16")
    assert boundary(half_program("iOS15"))[0][0] == "f32[2]"


# -- names ---------------------------------------------------------------------------------------------


def test_values_at_the_boundary_carry_their_public_names() -> None:
    made = module(
        '(%x: f32[2] {name="pixels"}) -> (%logits: f32[2])', "%logits = mil.relu(%x) : f32[2]", "%y = mil.exp(%logits) : f32[2]", "return %y"
    )
    assert legal(made) == [
        "func main(%pixels: f32[2]) -> (%logits: f32[2]) {",
        "%logits_inner = mil.relu(%pixels) : f32[2]",
        "%logits = mil.exp(%logits_inner) : f32[2]",
        "return %logits",
    ]


def test_two_outputs_in_each_others_names() -> None:
    made = module("(%x: f32[2]) -> (%a: f32[2], %b: f32[2])", "%b = mil.relu(%x) : f32[2]", "%a = mil.exp(%x) : f32[2]", "return %b, %a")
    assert legal(made)[1:] == ["%a = mil.relu(%x) : f32[2]", "%b = mil.exp(%x) : f32[2]", "return %a, %b"]


def test_an_input_and_an_output_of_one_name() -> None:
    made = module("(%x: f32[2]) -> (%x: f32[2])", "%y = mil.relu(%x) : f32[2]", "return %y")
    with pytest.raises(AnecError, match="an input and an output are both called 'x'") as caught:
        run_pass(made, LegalizeIo())
    assert "output_names" in (caught.value.hint or "")


def test_a_weight_in_the_way_of_a_name() -> None:
    made = module("(%x: f32[2]) -> (%w: f32[2])", '%w = weight "w" : f32[2]', "%y = mil.add(%x, %w) : f32[2]", "return %y")
    assert legal(made)[1:] == ['%w_inner = weight "w" : f32[2]', "%w = mil.add(%x, %w_inner) : f32[2]", "return %w"]


# -- images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "bias", "added"),
    [
        (1.0, (), []),
        (1.0, (0.0, -0.0, 0.0), []),
        (0.5, (), ["mil.mul(%image, 0.5)"]),
        (1.0, (2.0,), ["mil.add(%image, 2.0)"]),
        (0.5, (1.0, 2.0, 3.0), ["mil.mul(%image, 0.5)", "mil.add(%image_1, [[[[1.0]], [[2.0]], [[3.0]]]])"]),
    ],
)
def test_images_are_scaled_inside(scale: float, bias: tuple[float, ...], added: list[str]) -> None:
    made = module("(%image: f32[1,3,2,2]) -> (%y: f32[1,3,2,2])", "%y = mil.identity(%image) : f32[1,3,2,2]", "return %y")
    type_ = TensorType(DType.F32, (1, 3, 2, 2))
    made.main.signature.inputs = [Port("image", type_, kind=PortKind.IMAGE, scale=scale, bias=bias)]
    lines = legal(made)
    assert [line.split(" = ")[1].split(" : ")[0] for line in lines[1:-2]] == added
    pixels = torch.arange(12.0).reshape(1, 3, 2, 2)
    wanted = pixels * scale + torch.tensor(bias or (0.0,)).reshape(1, -1, 1, 1)
    torch.testing.assert_close(evaluate(made, {"image": pixels})["y"], wanted)


# -- states --------------------------------------------------------------------------------------------

STATE = (
    '(%x: f32[2], %cache: state<f32[2]> {kind="state"}) -> (%y: f32[2])',
    "%old = mil.read_state(%cache) : f32[2]",
    "%y = mil.add(%old, %x) : f32[2]",
    "%new = mil.coreml_update_state(%cache, %y) : f32[2]  ; counter  model.py:12",
    "return %y",
)


def test_states_are_float16() -> None:
    made = module(*STATE)
    lines = legal(made)
    assert lines[0] == (
        'func main(%x: f32[2], %cache: state<f16[2]> {type="state<f32[2]>", kind="state"}) -> (%y: f32[2]) {'
    )
    assert "%old = mil.read_state(%cache) : f16[2]" in lines
    state: dict[str, torch.Tensor] = {}
    for wanted in (1.5, 3.0):
        assert evaluate(made, {"x": torch.full((2,), 1.5)}, state=state)["y"].tolist() == [wanted, wanted]
    assert state["cache"].dtype is torch.float16


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_states_need_ios18(target: str) -> None:
    with pytest.raises(AnecError, match="the mutated buffer 'cache' needs a state, which Core ML has from iOS18") as caught:
        legal(module(*STATE, target=target))
    assert caught.value.where == "model.py:12 (counter)"


# -- what cannot be ------------------------------------------------------------------------------------


def test_too_many_axes() -> None:
    wide = "f32[1,1,1,1,1,2]"
    with pytest.raises(AnecError, match="the input %x has rank 6; Core ML takes ranks 1 to 5"):
        legal(module(f"(%x: {wide}) -> (%y: f32[2])", "%y = mil.reshape(%x, [2]) : f32[2]", "return %y"))
    with pytest.raises(AnecError, match="the output %y has rank 6"):
        legal(module(f"(%x: f32[2]) -> (%y: {wide})", f"%y = mil.reshape(%x, [1, 1, 1, 1, 1, 2]) : {wide}", "return %y"))


def test_complex_numbers_and_no_outputs() -> None:
    made = module("(%x: f32[2]) -> ()", "return")
    with pytest.raises(AnecError, match="the function main has no output"):
        legal(made)
    made = module("(%x: c64[2]) -> (%y: c64[2])", "return %x")
    with pytest.raises(AnecError, match="is c64; Core ML has no complex numbers"):
        LegalizeIo().run_module(made, lambda graph: Context(made, graph))


def test_unused_inputs_are_legal_too() -> None:
    made = module("(%x: f32[2], %m: bool[]) -> (%y: f32[2])", "%y = mil.relu(%x) : f32[2]", "return %y")
    legal(made)
    assert boundary(made)[0] == ["f32[2]", "i32[1]"]
    verify(made)

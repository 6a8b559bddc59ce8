"""legalize-target: meanings that changed between opsets, and one error for all a target lacks."""

from __future__ import annotations

import pytest
import torch

import golden
from anec.errors import UnsupportedError
from anec.ir.graph import Module
from anec.ir.types import TensorType
from anec.ir.weights import TensorData
from anec.passes.legalize_target import LegalizeTarget
from anec.reference.evaluate import evaluate
from anec.testing import run_pass


def module(target: str, signature: str, *lines: str) -> Module:
    body = "".join(f"  {line}\n" for line in lines)
    return golden.read(f"anec 1\nmodule target={target}\n\nfunc main{signature} {{\n{body}}}\n")


def legal(made: Module) -> list[str]:
    """The function's ops behind the pass."""
    run_pass(made, LegalizeTarget())
    return [line.strip() for line in golden.text_of(made).splitlines() if " = mil." in line]


# -- indices -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "indices"), [("iOS15", "[-1, 0]"), ("iOS16", "[-1, 0]"), ("iOS17", "[3, 0]"), ("iOS18", "[3, 0]")])
def test_negative_indices(target: str, indices: str) -> None:
    made = module(target, "(%x: f32[4,2]) -> (%y: f32[2,2])", "%y = mil.gather(%x, [-1, 0]) {axis=0} : f32[2,2]", "return %y")
    x = torch.arange(8.0).reshape(4, 2)
    assert legal(made) == [f"%y = mil.gather(%x, {indices}) {{axis=0}} : f32[2,2]"]
    assert evaluate(made, {"x": x})["y"].tolist() == [[6, 7], [0, 1]]


def test_negative_indices_along_another_axis() -> None:
    made = module("iOS18", "(%x: f32[4,2]) -> (%y: f32[4,1])", "%y = mil.gather(%x, [-2]) {axis=-1} : f32[4,1]", "return %y")
    assert legal(made) == ["%y = mil.gather(%x, [0]) {axis=-1} : f32[4,1]"]


def test_negative_indices_of_gather_along_axis() -> None:
    made = module(
        "iOS17", "(%x: f32[3,2]) -> (%y: f32[1,2])", "%y = mil.gather_along_axis(%x, [[-1, 0]]) {axis=0} : f32[1,2]", "return %y"
    )
    assert legal(made) == ["%y = mil.gather_along_axis(%x, [[2, 0]]) {axis=0} : f32[1,2]"]


def indexed(target: str, indices: list[int]) -> Module:
    made = module(
        target,
        "(%x: f32[4,2]) -> (%y: f32[3,2])",
        '%i = weight "i" : i32[3]',
        "%y = mil.gather(%x, %i) {axis=0} : f32[3,2]",
        "return %y",
    )
    made.weights["i"].data = TensorData(torch.tensor(indices, dtype=torch.int32))
    return made


def test_negative_indices_in_a_weight() -> None:
    made = indexed("iOS17", [-1, 2, -4])
    assert legal(made) == ["%y = mil.gather(%x, %main_i_from_start) {axis=0} : f32[3,2]"]
    assert made.weights["main.i_from_start"].tensor().tolist() == [3, 2, 0]
    assert made.weights["i"].tensor().tolist() == [-1, 2, -4]


@pytest.mark.parametrize(("target", "indices"), [("iOS17", [3, 2, 0]), ("iOS16", [-1, 2, -4])])
def test_indices_that_are_right_already(target: str, indices: list[int]) -> None:
    made = indexed(target, indices)
    assert legal(made) == ["%y = mil.gather(%x, %i) {axis=0} : f32[3,2]"]
    assert list(made.weights) == ["i"]


# -- epsilon -------------------------------------------------------------------------------------------


def norm(target: str, dtype: str, epsilon: str) -> Module:
    type_ = f"{dtype}[2,4]"
    return module(target, f"(%x: {type_}) -> (%y: {type_})", f"%y = mil.layer_norm(%x) {{axes=[-1], epsilon={epsilon}}} : {type_}", "return %y")


@pytest.mark.parametrize(
    ("target", "dtype", "epsilon", "found", "noted"),
    [
        ("iOS16", "f16", "1e-05", "1.0013580322265625e-05", False),
        ("iOS16", "f16", "1e-12", "5.960464477539063e-08", True),
        ("iOS16", "f16", "0.0009765625", "0.0009765625", False),
        ("iOS16", "f32", "1e-12", "1e-12", False),
        ("iOS17", "f16", "1e-12", "1e-12", False),
        ("iOS15", "f16", "0.0", "0.0", False),
    ],
)
def test_an_epsilon_beside_float16(target: str, dtype: str, epsilon: str, found: str, noted: bool) -> None:
    made = norm(target, dtype, epsilon)
    context = run_pass(made, LegalizeTarget())
    assert f"epsilon={found}}}" in str(made)
    assert bool(context.notes) is noted
    if noted:
        assert context.notes == ["legalize-target: epsilon 1e-12 of mil.layer_norm is 0 in float16; 5.96046e-08 stands in for it"]


# -- parameters ----------------------------------------------------------------------------------------


def test_a_parameter_of_later_targets_at_its_default_goes() -> None:
    made = module(
        "iOS16",
        "(%x: f32[4]) -> (%y: f32[2])",
        "%y = mil.gather(%x, [1, 0]) {axis=0, batch_dims=0, validate_indices=false} : f32[2]",
        "return %y",
    )
    assert legal(made) == ["%y = mil.gather(%x, [1, 0]) {axis=0, batch_dims=0} : f32[2]"]


def test_dropping_a_default_is_a_change() -> None:
    """Or a dump would not be written, and the next one would not replay."""
    from anec.pipeline.manager import Manager
    from anec.pipeline.spec import build

    made = module("iOS16", "(%x: f32[4]) -> (%y: f32[1])", "%y = mil.gather(%x, [1]) {axis=0, validate_indices=false} : f32[1]", "return %y")
    assert Manager().run(made, build("legalize-target", {})).passes[0].changed


# -- refusals ------------------------------------------------------------------------------------------


def refused(made: Module) -> UnsupportedError:
    text = str(made)
    with pytest.raises(UnsupportedError) as caught:
        run_pass(made, LegalizeTarget())
    assert str(made) == text
    return caught.value


def test_an_op_of_a_later_target() -> None:
    made = module(
        "iOS15",
        "(%x: f32[1,4,2,2]) -> (%y: f32[1,4,2,2])",
        "%a = mil.pixel_unshuffle(%x) {downscale_factor=2} : f32[1,16,1,1]  ; up  net.py:3",
        "%y = mil.pixel_shuffle(%a) {upscale_factor=2} : f32[1,4,2,2]  ; up  net.py:4",
        "return %y",
    )
    error = refused(made)
    assert error.message == "iOS15 cannot take 1 op of this program"
    assert error.where == "net.py:3 (up)"
    assert error.window == "mil.pixel_unshuffle  x1  mil.pixel_unshuffle needs iOS16  net.py:3 (up)"
    assert error.hint == "compile with --target iOS16"


def test_everything_is_listed_at_once() -> None:
    made = module(
        "iOS15",
        "(%x: f32[4], %q: f16[1,2,4], %i: i32[2]) -> (%y: f32[2], %z: f16[1,2,4], %w: f32[2])",
        "%y = mil.gather(%x, %i) {axis=0, validate_indices=true} : f32[2]  ; a  net.py:3",
        "%z = mil.scaled_dot_product_attention(%q, %q, %q) : f16[1,2,4]  ; b  net.py:4",
        "%w = mil.gather(%x, %i) {axis=0, validate_indices=true} : f32[2]  ; c  net.py:5",
        "return %y, %z, %w",
    )
    error = refused(made)
    assert error.message == "iOS15 cannot take 3 ops of this program"
    assert (error.window or "").split("\n") == [
        "mil.gather  x2  mil.gather has no 'validate_indices' before iOS17  net.py:3 (a), net.py:5 (c)",
        "mil.scaled_dot_product_attention  x1  mil.scaled_dot_product_attention needs iOS18  net.py:4 (b)",
    ]
    assert error.hint == "compile with --target iOS18"


def test_a_dtype_no_target_takes() -> None:
    made = module("iOS18", "(%x: f32[2,3]) -> (%y: i8[2,3])", '%y = mil.cast(%x) {dtype="int8"} : i8[2,3]', "return %y")
    run_pass(made, LegalizeTarget())
    made = module("iOS16", "(%x: f32[2,3]) -> (%y: i8[2,3])", '%y = mil.cast(%x) {dtype="int8"} : i8[2,3]', "return %y")
    error = refused(made)
    assert "i8" in (error.window or "")
    assert error.hint == "compile with --target iOS17"


def test_operands_that_must_be_constant() -> None:
    made = module(
        "iOS15", "(%x: f32[1,2,4,4], %w: f32[3,2,1,1], %b: f32[3]) -> (%y: f32[1,3,4,4])",
        "%y = mil.conv(%x, %w, %b) : f32[1,3,4,4]", "return %y",
    )  # fmt: skip
    error = refused(made)
    assert "bias must be constant on iOS15" in (error.window or "")
    assert error.hint == "compile with --target iOS17"


def test_constants_are_free() -> None:
    """What is computed before the program runs may be of any dtype and any target's ops."""
    made = module(
        "iOS15",
        "(%x: f32[4]) -> (%y: f32[4])",
        '%w = weight "w" : i8[4]',
        '%v = mil.cast(%w) {dtype="fp32"} : f32[4]',
        "%y = mil.add(%x, %v) : f32[4]",
        "return %y",
    )
    assert isinstance(made.main.outputs[0].type, TensorType)
    assert len(legal(made)) == 2

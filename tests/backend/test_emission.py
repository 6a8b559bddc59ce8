"""Emission: one op for one op, constants of the right dtype, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backend_programs import program, read

from anec.backend import emit
from anec.errors import AnecError, UnsupportedError, UsageError
from anec.ir.attrs import Literal
from anec.ir.graph import Module
from anec.ir.weights import TensorData


def find(module: Module, name: str) -> object:
    """The coremltools op that gives the var ``name``."""
    for op in emit(module).functions["main"].operations:
        if name in [var.name for var in op.outputs]:
            return op
    raise AssertionError(name)


MIXED = program(
    """
    %w = weight "conv.weight" : f16[4,3,3,3]
    %b = weight "conv.bias" : f32[4]
    %scale = weight "norm.weight" : f16[8]
    %xh = mil.cast(%x) {dtype="fp16"} : f16[1,3,8,8]
    %bh = mil.cast(%b) {dtype="fp16"} : f16[4]
    %c = mil.conv(%xh, %w, %bh) {pad_type="custom", pad=[1,1,1,1]} : f16[1,4,8,8]   ; conv  model.py:3
    %m = mil.mul(%c, 1.702) : f16[1,4,8,8]
    %r = mil.reshape(%m, [4,8,8]) : f16[4,8,8]
    %n = mil.layer_norm(%r, %scale) {axes=[-1], epsilon=1e-05} : f16[4,8,8]
    %y = mil.cast(%n) {dtype="fp32"} : f32[4,8,8]
    """,
    "%x: f32[1,3,8,8]",
    "%y: f32[4,8,8]",
)


def test_one_op_becomes_one_op_under_its_own_name() -> None:
    built = emit(read(MIXED))
    assert built.skip_all_passes
    ops = [op for op in built.functions["main"].operations if op.op_type != "const"]
    assert [(op.op_type, op.outputs[0].name) for op in ops] == [
        ("cast", "xh"), ("conv", "c"), ("mul", "m"), ("reshape", "r"), ("layer_norm", "n"), ("cast", "y"),
    ]  # fmt: skip


def test_weights_are_views_and_constants_are_folded() -> None:
    module = read(MIXED)
    conv = find(module, "c")
    weight = module.weights["conv.weight"].tensor()
    assert conv.weight.val.ctypes.data == weight.data_ptr()
    assert conv.bias.op.op_type == "const"
    assert conv.bias.name == "bh"
    assert conv.bias.val.dtype == np.float16
    assert np.array_equal(conv.bias.val, module.weights["conv.bias"].tensor().half().numpy())


def test_a_literal_takes_the_dtype_of_its_domain() -> None:
    module = read(MIXED)
    assert find(module, "m").y.val == np.float16(1.702)
    assert find(module, "m").y.val.dtype == np.float16
    assert find(module, "r").shape.val.dtype == np.int32
    epsilon = find(module, "n").epsilon.val
    assert epsilon.dtype == np.float16
    assert epsilon == np.float16(1e-5)


def test_absent_parameters_get_the_defaults_coremltools_gives() -> None:
    conv = find(read(MIXED), "c")
    assert conv.strides.val.tolist() == [1, 1]
    assert conv.dilations.val.tolist() == [1, 1]
    assert conv.groups.val == 1


@pytest.mark.parametrize(
    ("op", "inputs", "attr", "dtype"),
    [
        ("%y = mil.l2_norm(%x) {epsilon=1e-03} : f16[1,2,3,4]", "%x: f16[1,2,3,4]", "epsilon", np.float16),
        ("%y = mil.l2_norm(%x) {epsilon=1e-12} : f16[1,2,3,4]", "%x: f16[1,2,3,4]", "epsilon", np.float32),
        ("%y = mil.layer_norm(%x) {axes=[-1], epsilon=1e-03} : f16[2,8]", "%x: f16[2,8]", "epsilon", np.float16),
        ("%y = mil.layer_norm(%x) {axes=[-1], epsilon=1e-05} : f16[2,8]", "%x: f16[2,8]", "epsilon", np.float32),
        ("%y = mil.layer_norm(%x) {axes=[-1], epsilon=1e-12} : f32[2,8]", "%x: f32[2,8]", "epsilon", np.float32),
        ("%y = mil.clip(%x) {alpha=0.0, beta=6.0} : f16[2,8]", "%x: f16[2,8]", "beta", np.float16),
        ("%y = mil.softmax(%x) {axis=-1} : f16[2,8]", "%x: f16[2,8]", "axis", np.int32),
        ("%y = mil.reduce_sum(%x) {axes=[0], keep_dims=true} : f16[1,8]", "%x: f16[2,8]", "keep_dims", np.bool_),
        ("%y = mil.one_hot(%x, 4) {on_value=1.0, off_value=0.0} : f32[2,4]", "%x: i32[2]", "on_value", np.float32),
    ],
)
def test_the_dtype_of_an_attribute(op: str, inputs: str, attr: str, dtype: type) -> None:
    shape = op.rsplit(": ", 1)[1]
    module = read(program(op, inputs, f"%y: {shape}"))
    assert np.asarray(getattr(find(module, "y"), attr).val).dtype == dtype


def test_a_default_takes_part_in_its_type_domain() -> None:
    text = program(
        """
        %m = weight "m" : f16[3]
        %v = weight "v" : f16[3]
        %y = mil.batch_norm(%x, %m, %v) : f32[1,3,2,2]
        """,
        "%x: f32[1,3,2,2]",
        "%y: f32[1,3,2,2]",
        "iOS17",
    )
    assert find(read(text), "y").epsilon.val.dtype == np.float16


def test_a_constant_output_stays_an_op() -> None:
    text = program(
        """
        %w = weight "w" : f32[3]
        %y = mil.identity(%w) : f32[3]
        %z = mil.add(%x, 1.0) : f32[3]
        """,
        "%x: f32[3]",
        "%y: f32[3]; %z: f32[3]",
    )
    assert [op.op_type for op in emit(read(text)).functions["main"].operations if op.op_type != "const"] == [
        "identity",
        "add",
    ]


def test_dead_constants_vanish() -> None:
    text = program(
        """
        %w = weight "w" : f32[3]
        %d = mil.exp(%w) : f32[3]
        %y = mil.add(%x, 1.0) : f32[3]
        """,
        "%x: f32[3]",
        "%y: f32[3]",
    )
    assert [op.op_type for op in emit(read(text)).functions["main"].operations] == ["const", "add"]


def test_functions_share_constants_by_weight_id() -> None:
    body = """
  %w = weight "w" : f32[4,8]
  %c = mil.mul(%w, 2.0) : f32[4,8]
  %y = mil.linear(%x, %c) : f32[{n},4]
  return %y
}}
"""
    text = "anec 1\nmodule target=iOS18\n"
    for name, n in (("small", 2), ("large", 5)):
        text += f"\nfunc {name}(%x: f32[{n},8]) -> (%y: f32[{n},4]) {{" + body.format(n=n)
    built = emit(read(text))
    assert built.export_as_multifunction
    assert built.default_function_name == "small"
    consts = [
        next(op for op in function.operations if op.outputs[0].name == "c") for function in built.functions.values()
    ]
    assert consts[0].weight_id == consts[1].weight_id
    assert consts[0].outputs[0].val is consts[1].outputs[0].val


def test_public_names_replace_those_of_the_values() -> None:
    text = program("%y = mil.relu(%v) : f32[3]", '%v: f32[3] {name="pixels"}', "%y: f32[3]")
    function = emit(read(text)).functions["main"]
    assert list(function.inputs) == ["pixels"]
    module = read(program("%v = mil.relu(%x) : f32[3]", "%x: f32[3]", "%v: f32[3]"))
    module.main.signature.outputs = [type(port)("logits", port.type) for port in module.main.signature.outputs]
    assert [var.name for var in emit(module).functions["main"].outputs] == ["logits"]


def test_a_public_name_that_another_value_has_is_refused() -> None:
    text = program("%y = mil.relu(%v) : f32[3]", '%v: f32[3] {name="y"}', "%y: f32[3]")
    with pytest.raises(UnsupportedError, match="would both be called 'y'"):
        emit(read(text))


REFUSED = [
    ("%y = aten.relu.default(%x) : f32[3]", "%x: f32[3]", "f32[3]", "iOS18",
     r"1 ops are not Core ML's: aten.relu.default \(1\)", "lower-to-mil"),
    ("%y = mil.scaled_dot_product_attention(%x, %x, %x) : f32[1,4,8]", "%x: f32[1,4,8]", "f32[1,4,8]", "iOS17",
     "needs iOS18", "--target iOS18"),
    ("%y = mil.gather(%x, %i) {batch_dims=1} : f32[2,4]", "%x: f32[2,8], %i: i32[2,4]", "f32[2,4]", "iOS15",
     "has no 'batch_dims' before iOS16", "--target iOS16"),
    ("%y = mil.relu(%x) : i32[3]", "%x: i32[3]", "i32[3]", "iOS18", "x is i32; on iOS18 it takes f16, f32", ""),
    ('%y = mil.einsum([%x, %x]) {equation="ij,jk->ik"} : f32[3,3]', "%x: f32[3,3]", "f32[3,3]", "iOS18",
     "Core ML has no einsum 'ij,jk->ik'", "transpose and matmul"),
    ("%r = mil.reshape(%x, [1,1,1,1,1,3]) : f32[1,1,1,1,1,3]\n%y = mil.reshape(%r, [3]) : f32[3]", "%x: f32[3]",
     "f32[3]", "iOS18", "%r has rank 6", "reshape"),
    ("%y = mil.add(%x, 5000000000) : i32[3]", "%x: i32[3]", "i32[3]", "iOS18", "5000000000 is beyond i32", "32 bits"),
    ("%y = mil.add(%x, 1.5) : i32[3]", "%x: i32[3]", "i32[3]", "iOS18", "1.5 is no i32", ""),
    ("%y = mil.matmul(%x, %x) : f32[3,4]", "%x: f32[3,4]", "f32[3,4]", "iOS18", "coremltools refuses mil.matmul", ""),
    ("%y = mil.exp(%x) : f32[3,5]", "%x: f32[3,4]", "f32[3,5]", "iOS18",
     r"%y is f32\[3,5\] here, but coremltools infers f32\[3,4\]", ""),
    ('%w = weight "w" : bf16[3]\n%y = mil.add(%x, %w) : f32[3]', "%x: f32[3]", "f32[3]", "iOS18", "y is bf16", ""),
    ("%b = mil.identity(%x) : bf16[3]\n%y = mil.relu(%x) : f32[3]", "%x: f32[3]", "f32[3]", "iOS18",
     "%b is bf16, which no value of a program may be", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "output", "target", "message", "hint"), REFUSED, ids=[row[4][:40] for row in REFUSED]
)
def test_what_the_target_does_not_have_is_refused_at_the_users_line(
    op: str, inputs: str, output: str, target: str, message: str, hint: str
) -> None:
    lines = "\n".join(f"{line}   ; layers.0  model.py:7" for line in op.splitlines())
    text = program(lines, inputs, f"%y: {output}", target)
    with pytest.raises(UnsupportedError, match=message) as caught:
        emit(read(text))
    assert caught.value.where == "model.py:7 (layers.0)"
    assert hint in (caught.value.hint or "")
    assert "> " in (caught.value.window or "")


def test_parameters_of_older_targets_only_are_refused_on_newer_ones() -> None:
    roi = "%y = mil.crop_resize(%x, none, none, %r) {target_height=2, target_width=2} : f32[1,1,3,2,2]"
    text = program(roi, "%x: f32[1,3,4,4], %r: f32[1,1,4,1,1]", "%y: f32[1,1,3,2,2]", "iOS18")
    slot = [param.name for param in read(text).main.first.defn.operand_params]
    assert slot == ["x", "boxes", "box_indices", "roi"]
    with pytest.raises(UnsupportedError, match="has no 'roi' on iOS18"):
        emit(read(text))
    assert find(read(text.replace("iOS18", "iOS16")), "y").op_type == "crop_resize"


BOUNDARY = [
    ('%y = mil.cast(%x) {dtype="fp16"} : f16[3]', "%x: f32[3]", "%y: f16[3]", "iOS15", "f16, which needs iOS16"),
    ("%y = mil.greater(%x, 0.0) : bool[3]", "%x: f32[3]", "%y: bool[3]", "iOS18", "is bool; Core ML passes"),
    ("%y = mil.reduce_sum(%x) {axes=[0], keep_dims=false} : f32[]", "%x: f32[3]", "%y: f32[]", "iOS18", "has rank 0"),
    ("%y = mil.relu(%x) : f32[3]", "%x: f32[3]", "%y: f32[3]; %y: f32[3]", "iOS18", "is given twice"),
    ("%y = mil.relu(%x) : f32[3]", "%x: f32[3]", "%x: f32[3]", "iOS18", "is an input"),
    ("%y = mil.relu(%any) : f32[3]", "%any: f32[3]", "%y: f32[3]", "iOS18", "'any' is no legal name"),
    ('%w = weight "w" : f32[3]', "%x: f32[3]", "%w: f32[3]", "iOS18", "is a constant"),
    ("%y = mil.read_state(%s) : f32[3]", "%s: state<f32[3]>", "%y: f32[3]", "iOS18", "states are f16"),
    ("%y = mil.read_state(%s) : f16[3]", "%s: state<f16[3]>", "%y: f16[3]", "iOS17", "needs iOS18"),
    ("%y = mil.relu(%x) : f32[3]", "%x: f32[3], %n: i64[3]", "%y: f32[3]", "iOS18", "is i64"),
    ('%w = weight "w" : f64[3]\n%y = mil.identity(%w) : f64[3]', "%x: f32[3]", "%y: f64[3]", "iOS18", "is f64"),
]


@pytest.mark.parametrize(("op", "inputs", "outputs", "target", "message"), BOUNDARY, ids=[row[4] for row in BOUNDARY])
def test_the_boundary_is_checked(op: str, inputs: str, outputs: str, target: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        emit(read(program(op, inputs, outputs, target)))


@pytest.mark.parametrize("equation", ["nchw,nwhu->nchu", "abcd,adce->abce", "chw,whr->chr"])
def test_the_two_einsums_of_core_ml_pass_under_any_letters(equation: str) -> None:
    left, right = ("2,3,4,5", "2,5,4,6") if equation[4] == "," else ("3,4,5", "5,4,6")
    out = "2,3,4,6" if equation[4] == "," else "3,4,6"
    op = f'%y = mil.einsum([%a, %b]) {{equation="{equation}"}} : f32[{out}]'
    module = read(program(op, f"%a: f32[{left}], %b: f32[{right}]", f"%y: f32[{out}]"))
    assert find(module, "y").op_type == "einsum"


def test_a_64_bit_constant_is_narrowed_only_if_it_fits() -> None:
    text = program(
        """
        %w = weight "w" : i64[3]
        %n = mil.cast(%w) {dtype="int32"} : i32[3]
        %y = mil.add(%x, %n) : i32[3]
        """,
        "%x: i32[3]",
        "%y: i32[3]",
    )
    module = read(text)
    module.weights["w"].data = TensorData(torch.tensor([1, -2, 2**31 - 1]))
    assert find(module, "y").y.val.tolist() == [1, -2, 2**31 - 1]
    module.weights["w"].data = TensorData(torch.tensor([1, -2, 2**31]))
    with pytest.raises(AnecError, match=r"holds -2..2147483648, beyond i32"):
        emit(module)


def test_a_module_read_without_weights_is_refused() -> None:
    module = read(MIXED)
    module.weights["conv.weight"].data = None
    with pytest.raises(AnecError, match=r"'conv\.weight' has no data") as caught:
        emit(module)
    assert caught.value.where == "model.py:3 (conv)"


def test_unknown_targets_are_a_usage_error() -> None:
    module = read(MIXED)
    module.target = "iOS14"
    with pytest.raises(UsageError, match="unknown target 'iOS14'"):
        emit(module)


def test_several_functions_need_ios18() -> None:
    text = "anec 1\nmodule target=iOS17\n"
    for name in ("a", "b"):
        text += f"\nfunc {name}(%x: f32[2]) -> (%y: f32[2]) {{\n  %y = mil.relu(%x) : f32[2]\n  return %y\n}}\n"
    with pytest.raises(UnsupportedError, match="the functions a, b need iOS18"):
        emit(read(text))


def test_a_symbolic_literal_is_refused() -> None:
    module = read(program("%y = mil.reshape(%x, [4, 2]) : f32[4,2]", "%x: f32[8]", "%y: f32[4,2]"))
    from anec.ir.dims import symbol

    op = module.main.first
    assert op is not None
    op.set_operand(1, Literal((symbol("S"), 2)))
    with pytest.raises(AnecError, match="the dimension S is known only when the model runs"):
        emit(module)


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18", "iOS26"])
def test_every_target_emits(target: str) -> None:
    text = program("%y = mil.relu(%x) : f32[3]", "%x: f32[3]", "%y: f32[3]", target)
    assert emit(read(text)).functions["main"].opset_version.name == target

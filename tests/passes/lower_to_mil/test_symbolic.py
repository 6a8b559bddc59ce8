"""Lowerings with symbolic sizes: legal, typed, and right at every size."""

from __future__ import annotations

import pytest

from anec.dialects import registry
from anec.errors import UnsupportedError
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.types import DType
from anec.ir.weights import torch_dtype
from anec.passes.lower_to_mil import LowerToMil
from anec.reference.evaluate import evaluate
from anec.reference.sizes import size_of
from anec.testing import DOUBLE, assert_legal, assert_same_numbers, run_pass
from lowering import TARGETS, floats, integers, op_names

SIZES = [{"B": 2, "S": 5}, {"B": 1, "S": 2}, {"B": 3, "S": 9}]


def read(inputs: str, ops: str, output: str, target: str) -> Module:
    lines = "\n".join(f"  {line.strip()}" for line in ops.splitlines())
    return parse_module(
        f"anec 1\nmodule target={target}\ndims B in 1..8, S in 2..64\n\n"
        f"func main({inputs}) -> (%y: {output}) {{\n{lines}\n  return %y\n}}\n",
        registry,
    )


def check(inputs: str, ops: str, output: str, target: str = "iOS15") -> list[str]:
    """Lower, and compare with torch at several sizes; the names of the ops."""
    before, module = read(inputs, ops, output, target), read(inputs, ops, output, target)
    run_pass(module, LowerToMil())
    assert_legal(module)
    for sizes in SIZES:
        given = {}
        for value in before.main.inputs:
            shape = [size_of(dim, sizes) for dim in value.tensor.shape]
            dtype = torch_dtype(value.tensor.dtype)
            whole = value.tensor.dtype not in (DType.F32, DType.F16)
            given[value.name] = (integers(*shape, low=-3) if whole else floats(*shape)).to(dtype)
        expected = evaluate(before, given, precision=DOUBLE)
        assert_same_numbers(expected, evaluate(module, given, precision=DOUBLE), rtol=1e-12)
    return op_names(module)


FORMS = {
    "expand by an own axis": (
        "%x: f32[B,1,S]",
        "%y = aten.expand.default(%x) {size=[(B), (S), (S)]} : f32[B,S,S]",
        "f32[B,S,S]",
    ),
    "identity": (
        "%x: i64[B,S]",
        """%e = aten.eye.default() {n=(S), dtype=i64} : i64[S,S]
        %y = aten.matmul.default(%x, %e) : i64[B,S]""",
        "i64[B,S]",
    ),
    "identity that is not square": (
        "%x: f32[B,S]",
        """%e = aten.eye.m() {n=(S), m=3} : f32[S,3]
        %y = aten.matmul.default(%x, %e) : f32[B,3]""",
        "f32[B,3]",
    ),
    "expand by an input": (
        "%row: f32[1,4], %x: f32[B,S]",
        "%y = aten.expand.default(%row) {size=[(B), -1]} : f32[B,4]",
        "f32[B,4]",
    ),
    "expand integers": (
        "%row: i64[1,4], %x: f32[B,S]",
        "%y = aten.expand.default(%row) {size=[(B), -1]} : i64[B,4]",
        "i64[B,4]",
    ),
    "expand booleans by booleans": (
        "%x: bool[S]",
        "%y = aten.expand.default(%x) {size=[3, (S), (S)]} : bool[3,S,S]",
        "bool[3,S,S]",
    ),
    "first entries": (
        "%table: f32[1,64], %x: i64[B,S]",
        "%y = aten.slice.Tensor(%table) {dim=1, start=0, end=(S)} : f32[1,S]",
        "f32[1,S]",
    ),
    "first entries from the third on": (
        "%table: bool[70,2], %x: f32[B,S]",
        "%y = aten.slice.Tensor(%table) {dim=0, start=2, end=(S+2)} : bool[S,2]",
        "bool[S,2]",
    ),
    "within the last": (
        "%x: f32[B,S]",
        "%y = aten.clamp.default(%x) {min=0.5, max=(S-1)} : f32[B,S]",
        "f32[B,S]",
    ),
    "places within the last": (
        "%x: i64[B,S]",
        "%y = aten.clamp.default(%x) {max=(S-4)} : i64[B,S]",
        "i64[B,S]",
    ),
    "expand beside an axis written in another way": (
        "%x: f32[B,1,S,2]",
        """%s = aten.slice.Tensor(%x) {dim=2, start=1} : f32[B,1,S-1,2]
        %y = aten.expand.default(%s) {size=[(B), 3, (S-1), -1]} : f32[B,3,S-1,2]""",
        "f32[B,3,S-1,2]",
    ),
    "write a fixed slice": (
        "%x: f32[B,S,6], %p: f32[B,S,2]",
        "%y = aten.slice_scatter.default(%x, %p) {dim=2, start=1, end=5, step=2} : f32[B,S,6]",
        "f32[B,S,6]",
    ),
    "write a fixed place": (
        "%x: bool[B,S,4], %p: bool[B,S]",
        "%y = aten.select_scatter.default(%x, %p) {dim=2, index=-2} : bool[B,S,4]",
        "bool[B,S,4]",
    ),
    "write all but the first": (
        "%x: f32[B,S]",
        """%p = aten.slice.Tensor(%x) {dim=1, start=0, end=-1} : f32[B,S-1]
        %y = aten.slice_scatter.default(%x, %p) {dim=1, start=1, end=9223372036854775807} : f32[B,S]""",
        "f32[B,S]",
    ),
    "write all but the last": (
        "%x: i64[B,S]",
        """%p = aten.slice.Tensor(%x) {dim=1, start=1} : i64[B,S-1]
        %y = aten.slice_scatter.default(%x, %p) {dim=1, end=-1} : i64[B,S]""",
        "i64[B,S]",
    ),
    "write the first two": (
        "%x: f32[B,S], %p: f32[B,2]",
        "%y = aten.slice_scatter.default(%x, %p) {dim=1, end=2} : f32[B,S]",
        "f32[B,S]",
    ),
    "write the last two": (
        "%x: f32[B,S], %p: f32[B,2]",
        "%y = aten.slice_scatter.default(%x, %p) {dim=1, start=-2} : f32[B,S]",
        "f32[B,S]",
    ),
    "write the second": (
        "%x: f32[B,S,3], %p: f32[B,3]",
        "%y = aten.select_scatter.default(%x, %p) {dim=1, index=1} : f32[B,S,3]",
        "f32[B,S,3]",
    ),
    "write the last": (
        "%x: f32[B,S], %p: f32[B]",
        "%y = aten.select_scatter.default(%x, %p) {dim=1, index=-1} : f32[B,S]",
        "f32[B,S]",
    ),
    "all but the last": (
        "%x: f32[B,S]",
        "%y = aten.slice.Tensor(%x) {dim=1, start=0, end=(S-1)} : f32[B,S-1]",
        "f32[B,S-1]",
    ),
    "the last": ("%x: f32[B,S]", "%y = aten.select.int(%x) {dim=1, index=-1} : f32[B]", "f32[B]"),
    "heads": ("%x: f32[B,S,12]", "%y = aten.view.default(%x) {size=[(B), (S), 3, 4]} : f32[B,S,3,4]", "f32[B,S,3,4]"),
    "no heads": ("%x: f32[B,S,3,4]", "%y = aten.view.default(%x) {size=[(B), (S), 12]} : f32[B,S,12]", "f32[B,S,12]"),
    "rows": ("%x: f32[B,S,4]", "%y = aten.view.default(%x) {size=[(B*S), 4]} : f32[B*S,4]", "f32[B*S,4]"),
    "folded heads": (
        "%x: f32[B,3,S,4]",
        "%y = aten.view.default(%x) {size=[(B*3), (S), 4]} : f32[3*B,S,4]",
        "f32[3*B,S,4]",
    ),
    "windows": (
        "%x: f32[B,8,12,6]",
        """%a = aten.view.default(%x) {size=[(B), 2, 4, 3, 4, 6]} : f32[B,2,4,3,4,6]
        %b = aten.permute.default(%a) {dims=[0, 1, 3, 2, 4, 5]} : f32[B,2,3,4,4,6]
        %y = aten.view.default(%b) {size=[(B*6), 16, 6]} : f32[6*B,16,6]""",
        "f32[6*B,16,6]",
    ),
    "matmul": (
        "%q: f32[B,2,S,4], %k: f32[B,2,S,4]",
        """%t = aten.transpose.int(%k) {dim0=-1, dim1=-2} : f32[B,2,4,S]
        %y = aten.matmul.default(%q, %t) : f32[B,2,S,S]""",
        "f32[B,2,S,S]",
    ),
    "einsum": (
        "%q: f32[B,S,2,4], %k: f32[B,S,2,4]",
        '%y = aten.einsum.default([%q, %k]) {equation="bihd,bjhd->bhij"} : f32[B,2,S,S]',
        "f32[B,2,S,S]",
    ),
    "conv1d": (
        "%x: f32[B,3,S], %w: f32[5,3,3]",
        "%y = aten.conv1d.default(%x, %w) {stride=[1], padding=[1]} : f32[B,5,S]",
        "f32[B,5,S]",
    ),
    "global mean": (
        "%x: f32[B,3,S,4]",
        "%y = aten.adaptive_avg_pool2d.default(%x) {output_size=[1, 1]} : f32[B,3,1,1]",
        "f32[B,3,1,1]",
    ),
    "cat": ("%x: f32[B,S]", "%y = aten.cat.default([%x, %x]) {dim=1} : f32[B,2*S]", "f32[B,2*S]"),
    "pad": (
        "%x: f32[B,3,S,4]",
        '%y = aten.pad.default(%x) {pad=[1, 1, 2, 1], mode="constant", value=1.0} : f32[B,3,S+3,6]',
        "f32[B,3,S+3,6]",
    ),
    "circular pad": (
        "%x: f32[B,3,S]",
        '%y = aten.pad.default(%x) {pad=[1, 2], mode="circular"} : f32[B,3,S+3]',
        "f32[B,3,S+3]",
    ),
    "constant pad": (
        "%x: f32[B,S]",
        "%y = aten.constant_pad_nd.default(%x) {pad=[1, 2], value=0.5} : f32[B,S+3]",
        "f32[B,S+3]",
    ),
    "pad to a multiple": (
        "%x: f32[B,S]",
        '%y = aten.pad.default(%x) {pad=[0, ((-S)%4)], mode="constant"} : f32[B,(3*S)%4+S]',
        "f32[B,(3*S)%4+S]",
    ),
    "pad booleans": (
        "%x: bool[B,S]",
        "%y = aten.constant_pad_nd.default(%x) {pad=[1, 2], value=1} : bool[B,S+3]",
        "bool[B,S+3]",
    ),
    "expand by a product": (
        "%row: f32[1,4], %x: f32[B,S]",
        "%y = aten.expand.default(%row) {size=[(B*S), -1]} : f32[B*S,4]",
        "f32[B*S,4]",
    ),
    "rows and back": (
        "%x: f32[B,S,4]",
        """%a = aten.view.default(%x) {size=[(B*S), 4]} : f32[B*S,4]
        %y = aten.view.default(%a) {size=[(B), (S), 4]} : f32[B,S,4]""",
        "f32[B,S,4]",
    ),
    "positions": (
        "%x: f32[B,S]",
        "%y = aten.arange.start_step() {start=2, end=(2*S), step=2, dtype=i64} : i64[S-1]",
        "i64[S-1]",
    ),
    "a number that is a size": ("%x: f32[B,S]", "%y = aten.mul.Tensor(%x, (S+1)) : f32[B,S]", "f32[B,S]"),
    "ones": (
        "%x: f32[B,S]",
        "%y = aten.full.default() {size=[(S), (B), 3], fill_value=2.5} : f32[S,B,3]",
        "f32[S,B,3]",
    ),
    "a causal triangle": (
        "%x: f32[B,S]",
        """%a = aten.full.default() {size=[(S), (S)], fill_value=1.0} : f32[S,S]
        %y = aten.tril.default(%a) {diagonal=-1} : f32[S,S]""",
        "f32[S,S]",
    ),
    "both indices": (
        "%x: f32[B,S], %i: i64[B,1], %j: i64[1,S]",
        """%a = aten.mul.Tensor(%i, 0) : i64[B,1]
        %b = aten.mul.Tensor(%j, 0) : i64[1,S]
        %y = aten.index.Tensor(%x, [%a, %b]) : f32[B,S]""",
        "f32[B,S]",
    ),
    "the second half": (
        "%x: f32[B,S]",
        "%y = aten.slice.Tensor(%x) {dim=1, start=(S//2)} : f32[B,S-S//2]",
        "f32[B,S-S//2]",
    ),
    "the middle": ("%x: f32[B,S]", "%y = aten.select.int(%x) {dim=1, index=(S//2)} : f32[B]", "f32[B]"),
    "halves": (
        "%x: f32[B,2*S]",
        """%a, %b = aten.split_with_sizes.default(%x) {split_sizes=[(S), (S)], dim=1} : f32[B,S], f32[B,S]
        %y = aten.sub.Tensor(%a, %b) : f32[B,S]""",
        "f32[B,S]",
    ),
    "a roll": ("%x: f32[B,S]", "%y = aten.roll.default(%x) {shifts=[-3], dims=[1]} : f32[B,S]", "f32[B,S]"),
    "unbiased variance": (
        "%x: f32[B,S,2]",
        "%y = aten.var.correction(%x) {dim=[1, 2], correction=1} : f32[B]",
        "f32[B]",
    ),
    "causal attention": (
        "%q: f32[B,2,S,4]",
        "%y = nn.attention(%q, %q, %q) {causal=true} : f32[B,2,S,4]",
        "f32[B,2,S,4]",
    ),
    "an average of four": (
        "%x: f32[B,3,S,5]",
        "%y = nn.adaptive_avg_pool(%x) {size=[4, 2]} : f32[B,3,4,2]",
        "f32[B,3,4,2]",
    ),
    "group norm": (
        "%x: f32[B,4,S,S]",
        "%y = nn.group_norm(%x) {groups=2} : f32[B,4,S,S]",
        "f32[B,4,S,S]",
    ),
    "windows of a padded image": (
        "%x: f32[B,S,S]",
        """%p = aten.pad.default(%x) {pad=[0, ((-S)%4), 0, ((-S)%4)]} : f32[B,(3*S)%4+S,(3*S)%4+S]
        %a = aten.view.default(%p) {size=[(B), (((3*S)%4+S)//4), 4, (((3*S)%4+S)//4), 4]} : f32[B,S-(3*S)//4,4,S-(3*S)//4,4]
        %y = aten.permute.default(%a) {dims=[0, 1, 3, 2, 4]} : f32[B,S-(3*S)//4,S-(3*S)//4,4,4]""",
        "f32[B,S-(3*S)//4,S-(3*S)//4,4,4]",
    ),
    **{
        f"resize {mode} {corners}".strip(): (
            "%x: f32[B,2,S,4]",
            f'%y = nn.interpolate(%x) {{size=[(2*S-1), 7], mode="{mode}"{corners}}} : f32[B,2,2*S-1,7]',
            "f32[B,2,2*S-1,7]",
        )
        for mode, corners in (
            ("bilinear", ""),
            ("bilinear", ", align_corners=true"),
            ("bicubic", ""),
            ("bicubic", ", align_corners=true"),
            ("nearest", ""),
            ("nearest-exact", ""),
        )
    },
    "writes at a free number of places": (
        "%x: f32[70,3], %p: f32[S,3]",
        """%i = aten.arange.start_step() {start=3, end=(S+3), step=1, dtype=i64} : i64[S]
        %y = aten.index_put.default(%x, [%i], %p) : f32[70,3]""",
        "f32[70,3]",
    ),
    "resize by a fraction": (
        "%x: f32[B,2,S]",
        '%y = nn.interpolate(%x) {size=[(3*S//2)], mode="linear", scales=[1.5]} : f32[B,2,3*S//2]',
        "f32[B,2,(3*S)//2]",
    ),
    "resize to fixed": (
        "%x: f32[B,2,S,S]",
        '%y = nn.interpolate(%x) {size=[5, 1], mode="bilinear"} : f32[B,2,5,1]',
        "f32[B,2,5,1]",
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.replace(" ", "-"))
def test_equals_torch_at_every_size(form: str, target: str) -> None:
    check(*FORMS[form], target=target)


def test_reshapes_keep_symbolic_sizes_in_place() -> None:
    assert check(*FORMS["heads"]) == ["expand_dims", "reshape"]
    assert check(*FORMS["no heads"]) == ["reshape", "squeeze"]
    assert check(*FORMS["rows"]) == ["reshape"]
    assert check(*FORMS["windows"]) == ["reshape", "transpose", "reshape"]


def test_known_ends_are_counted_from_the_end() -> None:
    assert check(*FORMS["all but the last"]) == ["slice_by_index"]


def test_a_size_that_no_input_has() -> None:
    with pytest.raises(UnsupportedError, match="no input of the function tells the symbolic size B"):
        check(
            "%row: f32[1,4], %x: f32[S]",
            "%y = aten.expand.default(%row) {size=[(B), -1]} : f32[B,4]",
            "f32[B,4]",
        )


def test_a_slice_of_a_free_axis_whose_end_may_lie_anywhere() -> None:
    for bounds in ("start=(S-2)", "start=0, end=3, step=2", "start=0, end=(S-1)"):
        with pytest.raises(UnsupportedError, match=r"fixed sizes only|free size|bounds are symbolic"):
            check(
                "%x: f32[B,S], %p: f32[B,2]",
                f"%y = aten.slice_scatter.default(%x, %p) {{dim=1, {bounds}}} : f32[B,S]",
                "f32[B,S]",
            )


def test_sizes_are_computed_once() -> None:
    assert check(*FORMS["positions"]) == ["shape", "slice_by_index", "add", "squeeze", "range_1d", "mul", "add"]
    assert check(*FORMS["resize bilinear"], target="iOS17")[-1] == "resize"


def test_what_takes_fixed_sizes_names_the_free_ones() -> None:
    with pytest.raises(UnsupportedError, match=r"has free ones: fix B, S"):
        check("%x: f32[B,S]", "%y = aten.logcumsumexp.default(%x) {dim=1} : f32[B,S]", "f32[B,S]")

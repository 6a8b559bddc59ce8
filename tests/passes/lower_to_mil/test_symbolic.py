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


def test_a_size_that_no_tensor_has() -> None:
    with pytest.raises(UnsupportedError, match="no tensor before has the symbolic size"):
        check(
            "%row: f32[1,4], %x: f32[B,S]",
            "%y = aten.expand.default(%row) {size=[(B*S), -1]} : f32[B*S,4]",
            "f32[B*S,4]",
        )

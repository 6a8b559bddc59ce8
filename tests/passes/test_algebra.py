"""Reading arithmetic: products with numbers and powers that no float holds, and masks that share their parts."""

from __future__ import annotations

import pytest
import torch

import golden
from anec.ir.graph import Op, Value
from anec.ir.weights import TensorData
from anec.passes import mask_bounds
from anec.passes.algebra import Factor, Product, product


def op_of(*lines: str, weight: float = 0.0) -> Op:
    """The op of %y in a function of %x and a weight %w of one element."""
    text = "".join(f"  {line}\n" for line in ('%w = weight "w" : f32[1]', *(f"{line} : f32[4]" for line in lines)))
    signature = "func main(%x: f32[4]) -> (%y: f32[4])"
    module = golden.read(f"anec 1\nmodule target=iOS18\n\n{signature} {{\n{text}  return %y\n}}\n")
    module.weights["w"].data = TensorData(torch.tensor([weight]))
    op = module.main.outputs[0].op
    assert op is not None
    return op


@pytest.mark.parametrize(("number", "exponent"), [("1e200", 2.0), ("1e-200", 2.0), ("1e200", -2.0), ("-2.0", 0.5)])
def test_a_power_that_no_float_holds_stays(number, exponent):
    y = op_of(f"%a = aten.mul.Tensor(%x, {number})", f"%y = aten.pow.Tensor_Scalar(%a) {{exponent={exponent}}}")
    assert product(y.result) == Product(1.0, (Factor(y.value("self"), exponent),))


def test_the_root_of_a_negative_number_stays():
    y = op_of("%a = aten.sqrt.default(%w) : f32[1]\n  %y = aten.mul.Tensor(%x, %a)", weight=-2.0)
    assert product(y.result).coefficient == 1.0
    assert [factor.exponent for factor in product(y.result).factors] == [1.0, 1.0]


def test_what_masks_share_is_read_once(monkeypatch):
    """The paths double at each op."""
    lines = [f"%a{i + 1} = aten.add.Tensor(%a{i}, %a{i})" for i in range(20)]
    y = op_of("%a0 = aten.clamp_min.default(%x) {min=-1.0}", *lines, "%y = aten.neg.default(%a20)")
    read: list[Value] = []
    bound = mask_bounds._bound

    def counted(op: Op) -> float | None:
        read.append(op.result)
        return bound(op)

    monkeypatch.setattr(mask_bounds, "_bound", counted)
    assert mask_bounds.lowest(y.result) == -(2.0**20)
    assert len(read) == 22

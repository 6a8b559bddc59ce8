"""Complex arithmetic with real tensors: every op against torch, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from anec.dialects import aten
from anec.errors import UnsupportedError
from anec.ir.graph import Module, Value
from anec.ir.types import DType
from anec.passes.split_complex import SplitComplex
from anec.testing import check_module_lowering, module_of, run_pass
from lowering import between, floats

Function = Callable[..., Value]
X, Y = floats(2, 3, 4, 2), floats(2, 3, 4, 2, seed=1)
REAL = floats(2, 3, 4, seed=2)


def check(function: Function, *tensors: torch.Tensor, target: str = "iOS18", weights: Sequence[int] = ()) -> Module:
    """Lower what ``function`` does with values; pairs in a last axis of 2 are complex numbers."""

    def real(*values: Value) -> Value:
        complex_ones = [
            aten.view_as_complex.default(v) if v.rank and v.shape[-1] == 2 and v.tensor.dtype.is_float else v
            for v in values
        ]
        found = function(*complex_ones)
        return aten.view_as_real.default(found) if found.tensor.dtype.is_complex else found

    module, inputs = module_of(real, *tensors, weights=weights, target=target)
    lowered = check_module_lowering(module, inputs)
    values = [value for graph in lowered.functions.values() for value in graph.values.values()]
    assert not [value for value in values if value.tensor.dtype.is_complex]
    return lowered


BINARY: dict[str, Function] = {
    "add": lambda z, w: aten.add.Tensor(z, w),
    "add alpha": lambda z, w: aten.add.Tensor(z, w, alpha=-2),
    "sub": lambda z, w: aten.sub.Tensor(z, w, alpha=0.5),
    "rsub": lambda z, w: aten.rsub.Tensor(z, w, alpha=2),
    "mul": lambda z, w: aten.mul.Tensor(z, w),
    "div": lambda z, w: aten.div.Tensor(z, w),
    "eq": lambda z, w: aten.eq.Tensor(z, w),
    "ne": lambda z, w: aten.ne.Tensor(z, aten.mul.Tensor(w, 1.0)),
    "addcmul": lambda z, w: aten.addcmul.default(z, w, z, value=0.5),
    "addcdiv": lambda z, w: aten.addcdiv.default(z, w, z, value=2),
    "vdot": lambda z, w: aten.vdot.default(aten.reshape.default(z, (-1,)), aten.reshape.default(w, (-1,))),
    "bmm": lambda z, w: aten.bmm.default(z, aten.mT.default(w)),
    "adjoint": lambda z, w: aten.matmul.default(z, aten.adjoint.default(w)),
    "baddbmm": lambda z, w: aten.baddbmm.default(
        aten.bmm.default(z, aten.mT.default(w)), z, aten.mT.default(w), beta=2, alpha=0.5
    ),
    "einsum": lambda z, w: aten.einsum.default("bij,bkj->bik", [z, w]),
    "three factors": lambda z, w: aten.einsum.default("bij,bkj,bij->bk", [z, w, z]),
}
UNARY: dict[str, Function] = {
    "neg": lambda z: aten.neg.default(z),
    "conj": lambda z: aten.resolve_conj.default(aten._conj.default(z)),
    "conj_physical": lambda z: aten._conj_physical.default(z),
    "reciprocal": lambda z: aten.reciprocal.default(z),
    "square": lambda z: aten.square.default(z),
    "exp": lambda z: aten.exp.default(z),
    "log": lambda z: aten.log.default(z),
    "log10": lambda z: aten.log10.default(z),
    "sqrt": lambda z: aten.sqrt.default(z),
    "rsqrt": lambda z: aten.rsqrt.default(z),
    "sin": lambda z: aten.sin.default(z),
    "cos": lambda z: aten.cos.default(z),
    "sinh": lambda z: aten.sinh.default(z),
    "cosh": lambda z: aten.cosh.default(z),
    "tanh": lambda z: aten.tanh.default(z),
    "sigmoid": lambda z: aten.sigmoid.default(z),
    "sgn": lambda z: aten.sgn.default(z),
    "abs": lambda z: aten.abs.default(z),
    "angle": lambda z: aten.angle.default(z),
    "real": lambda z: aten.real.default(z),
    "imag": lambda z: aten.imag.default(z),
    "isfinite": lambda z: aten.isfinite.default(z),
    "logical_not": lambda z: aten.logical_not.default(z),
    "norm": lambda z: aten.linalg_vector_norm.default(z, 2, (1,), True),
    "largest": lambda z: aten.linalg_vector_norm.default(z, float("inf"), (-1,)),
    "add a number": lambda z: aten.add.Tensor(z, 2),
    "subtract a number": lambda z: aten.sub.Tensor(z, 0.5),
    "times a number": lambda z: aten.mul.Scalar(z, -1.5),
    "over a number": lambda z: aten.div.Tensor(z, 3),
    "number minus": lambda z: aten.rsub.Scalar(z, 1),
    "equals a number": lambda z: aten.eq.Scalar(z, 1),
    **{f"pow {n}": lambda z, n=n: aten.pow.Tensor_Scalar(z, n) for n in (-3, -0.5, 0, 0.5, 1, 2, 5, 2.7)},
    "to real": lambda z: aten._to_copy.default(z, dtype=DType.F32),
    "sum": lambda z: aten.sum.dim_IntList(z, (0, 2)),
    "sum in another dtype": lambda z: aten.sum.dim_IntList(z, (1,), dtype=DType.C128),
    "mean": lambda z: aten.mean.dim(z, (-1,), True),
    "cumsum": lambda z: aten.cumsum.default(z, 1),
    "zeros_like": lambda z: aten.add.Tensor(aten.zeros_like.default(z), z),
    "like, but real": lambda z: aten.ones_like.default(z, dtype=DType.F32),
    "full": lambda z: aten.mul.Tensor(aten.full.default((2, 3, 4), 3, dtype=DType.C64), z),
}
LINEAR: dict[str, Function] = {
    "permute": lambda z: aten.permute.default(z, (2, 0, 1)),
    "reshape": lambda z: aten.reshape.default(z, (4, -1)),
    "slice": lambda z: aten.slice.Tensor(z, 1, 0, 2),
    "select": lambda z: aten.select.int(z, 2, -1),
    "expand": lambda z: aten.expand.default(aten.unsqueeze.default(z, 0), (3, -1, -1, -1)),
    "roll": lambda z: aten.roll.default(z, (1, -1), (0, 2)),
    "flip": lambda z: aten.flip.default(z, (1,)),
    "pad": lambda z: aten.constant_pad_nd.default(z, (1, 2, 0, 1), 1.5),
    "split": lambda z: aten.cat.default(list(reversed(aten.split.Tensor.many(z, 3, 2))), 2),
    "cat with a real one": lambda z: aten.cat.default([z, aten.abs.default(z)], 1),
    "stack": lambda z: aten.stack.default([z, aten.neg.default(z)], 1),
    "index_select": lambda z: aten.index_select.default(z, 1, aten.arange.default(2)),
    "where": lambda z: aten.where.self(aten.gt.Scalar(aten.real.default(z), 0), z, aten.imag.default(z)),
    "where a number": lambda z: aten.where.ScalarOther(aten.gt.Scalar(aten.real.default(z), 0), z, 2.0),
    "masked_fill": lambda z: aten.masked_fill.Scalar(z, aten.gt.Scalar(aten.imag.default(z), 0), 1.0),
    "tril": lambda z: aten.tril.default(z, 1),
    "clone": lambda z: aten.clone.default(aten.resolve_conj.default(z)),
}


@pytest.mark.parametrize("name", BINARY)
def test_two_complex_operands(name: str) -> None:
    check(BINARY[name], X, Y)
    check(BINARY[name], X, Y, target="iOS15", weights=[1])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", ["add alpha", "sub", "rsub", "mul", "div", "eq"])
def test_one_of_them_is_real(name: str, swapped: bool) -> None:
    check(lambda z, r: BINARY[name](*((r, z) if swapped else (z, r))), X, REAL)


@pytest.mark.parametrize("name", ["add", "mul", "div", "sub"])
def test_broadcasting_and_whole_numbers(name: str) -> None:
    check(BINARY[name], X, floats(4, 2, seed=3))
    check(BINARY[name], floats(3, 1, 2), floats(2, 1, 4, seed=3))
    check(BINARY[name], X, torch.arange(1, 5))


@pytest.mark.parametrize("name", [*UNARY, *LINEAR])
def test_one_operand(name: str) -> None:
    for target, dtype in (("iOS15", torch.float32), ("iOS18", torch.float64)):
        check({**UNARY, **LINEAR}[name], X.to(dtype), target=target)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_no_square_leaves_the_range(size: float) -> None:
    z, w, real = (tensor.double() * size for tensor in (X, Y, REAL))
    check(UNARY["log"], z)
    check(UNARY["reciprocal"], z)
    check(BINARY["div"], z, w)
    check(BINARY["div"], real, w)


def test_logarithms_of_zero_and_infinity() -> None:
    check(UNARY["log"], torch.tensor([[0.0, 0.0], [math.inf, 1.0], [-1.0, math.inf], [1e20, -1e-20], [0.0, 1e20]]))


@pytest.mark.parametrize("name", ["exp", "sqrt", "sgn", "abs", "angle", "mul i", "square", "sum", "permute", "full", "+ 2"])
def test_purely_imaginary_and_purely_real(name: str) -> None:
    function = {**UNARY, **LINEAR, "mul i": lambda z: aten.mul.Tensor(z, z),
                "+ 2": lambda z: aten.permute.default(aten.add.Tensor(z, 2), (1, 2, 0))}[name]  # fmt: skip
    turn = torch.view_as_real(torch.tensor(1j)).clone()
    check(lambda r, i: function(aten.mul.Tensor(r, i)), REAL, turn, weights=[1])
    check(lambda r: function(aten._to_copy.default(r, dtype=DType.C64)), REAL)


def test_a_real_factor_costs_two_products() -> None:
    lowered = check(lambda z, r: aten.mul.Tensor(z, r), X, REAL)
    assert [op.defn.root for op in lowered.main].count("mul") == 2


@pytest.mark.parametrize(
    "power",
    [
        lambda a: aten.pow.Tensor_Scalar(a, 2),
        lambda a: aten.square.default(a),
        lambda a: aten.mul.Tensor(a, a),
        lambda a: aten.pow.Tensor_Scalar(a, 2.0),
    ],
)
def test_the_square_of_a_magnitude_takes_no_root(power: Function) -> None:
    lowered = check(lambda z: power(aten.abs.default(z)), X)
    assert "mil.sqrt" not in [op.name for op in lowered.main]


def test_layers() -> None:
    x, w, b = floats(2, 5, 3, 2), floats(4, 3, 2, seed=1), floats(4, 2, seed=2)
    check(lambda x, w, b: aten.linear.default(x, w, b), x, w, b, weights=[1, 2])
    check(lambda x, w: aten.linear.default(x, w), x, w, weights=[1])
    check(lambda x, w, b: aten.addmm.default(b, x, aten.t.default(w)), x[0], w, b, weights=[1, 2])
    image, kernel = floats(1, 3, 6, 6, 2), floats(4, 3, 3, 3, 2, seed=1)
    check(lambda x, w, b: aten.conv2d.default(x, w, b, (2, 2), (1, 1)), image, kernel, b, weights=[1, 2])


def test_polar_and_complex() -> None:
    size, angle = between(0.5, 2, 3, 4), floats(3, 4)
    check(lambda a, b: aten.polar.default(a, b), size, angle)
    check(lambda a, b: aten.complex.default(a, b), size, floats(4))


def test_a_tensor_written_over() -> None:
    check(lambda z, w: aten.copy.default(z, aten.mul.Tensor(w, w)), X, floats(4, 2, seed=3))
    check(lambda z, r: aten.mul.Tensor(aten.copy.default(z, r), z), X, REAL)
    check(lambda r, z: aten.copy.default(r, aten.mul.Tensor(z, z)), REAL, X)
    check(lambda z, n: aten.mul.Tensor(aten.copy.default(z, n), z), X, torch.arange(4))


def test_memory_seen_as_another_dtype() -> None:
    check(lambda z: aten.view.dtype(aten.mul.Tensor(z, z), DType.F32), X)
    check(lambda x: aten.square.default(aten.view.dtype(x, DType.C64)), floats(3, 8))
    check(lambda x: aten.square.default(aten.view.dtype(x, DType.C128)), floats(2, 3, 4, dtype=torch.float64))


def test_a_part_taken_out_again_is_free() -> None:
    lowered = check(lambda z: aten.select.int(aten.view_as_real.default(aten.mul.Tensor(z, z)), -1, 1), X)
    assert "mil.stack" not in [op.name for op in lowered.main]
    module, inputs = module_of(
        lambda a, b: aten.abs.default(aten.view_as_complex.default(aten.stack.default([a, b], -1))), REAL, REAL + 1
    )
    assert "mil.stack" not in [op.name for op in check_module_lowering(module, inputs).main]


def test_what_is_done_to_both_parts_needs_no_pair() -> None:
    def shrunk(z: Value) -> Value:
        pairs = aten.softshrink.default(aten.view_as_real.default(z), 0.3)
        return aten.mul.Tensor(z, aten.view_as_complex.default(aten.mul.Tensor(pairs, 2.0)))

    lowered = check(shrunk, X[None])
    assert [op.name for op in lowered.main].count("mil.stack") == 1


def test_names_and_origins_stay() -> None:
    module, _ = module_of(lambda x: aten.abs.default(aten.view_as_complex.default(x)), X)
    name = module.main.outputs[0].name
    run_pass(module, SplitComplex())
    assert module.main.outputs[0].name == name
    assert all("split-complex" in op.origin.rules for op in module.main)


def test_what_has_no_form_is_told_once() -> None:
    def function(x: Value) -> Value:
        z = aten.view_as_complex.default(x)
        return aten.abs.default(aten.mul.Tensor(aten.cumprod.default(z, 0), z))

    module, _ = module_of(function, X)
    with pytest.raises(UnsupportedError, match="no complex numbers; aten.cumprod.default") as caught:
        run_pass(module, SplitComplex())
    assert "mul" not in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: aten.count_nonzero.dim_IntList(z, (0,)),
        lambda z: aten.abs.default(
            aten.scatter.reduce(z, 0, aten.zeros.default((1, 1, 1), dtype=DType.I64), z, reduce="multiply")
        ),
        lambda z: aten.abs.default(aten.pow.Tensor_Tensor(z, z)),
        lambda z: aten.sum.dim_IntList(z, (0,), dtype=DType.F32),
    ],
)
def test_other_ops_are_refused(function: Function) -> None:
    module, _ = module_of(lambda x: function(aten.view_as_complex.default(x)), X)
    with pytest.raises(UnsupportedError, match="Core ML has no complex numbers"):
        run_pass(module, SplitComplex())


def test_complex_at_the_boundary() -> None:
    module, _ = module_of(lambda x: aten.view_as_complex.default(x), X)
    with pytest.raises(UnsupportedError, match="return torch.view_as_real"):
        run_pass(module, SplitComplex())
    module, _ = module_of(lambda z: aten.abs.default(z), torch.view_as_complex(X))
    with pytest.raises(UnsupportedError, match="the input x0 is complex; take real numbers"):
        run_pass(module, SplitComplex())

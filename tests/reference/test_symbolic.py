"""Types with dimension symbols: what kernels give for every size, and errors where they cannot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anec import aten, mil
from anec.errors import AnecError
from anec.ir.build import Builder, assuming
from anec.ir.dims import Bounds, evaluate, maximum, symbol
from anec.ir.graph import Graph, Op, Origin, Value
from anec.ir.reading import parse_type
from anec.ir.types import DType, TensorType
from anec.reference.infer import infer, run_fake, symbols_of
from anec.reference.sizes import bind_sizes, dim_of, size_of
from anec.reference.symbolic import infer_symbolic

S, T = symbol("S"), symbol("T")
BOUNDS = {"S": Bounds(8, 64), "T": Bounds(1, 9)}
Build = Callable[..., Any]


def made(build: Build, *types: str) -> list[Op]:
    """The last op that ``build`` makes, results typed by whoever types them."""
    graph = Graph()
    values = [graph.add_input(f"x{i}", parse_type(text)) for i, text in enumerate(types)]
    builder = Builder(graph, origin=Origin("net", "net.py:4"))
    with builder.active():
        build(*values)
    return builder.created


def typed(build: Build, *types: str) -> list[str]:
    """The types that running the kernel gives to the last op."""
    with assuming(BOUNDS):
        op = made(build, *types)[-1]
        return [str(type_) for type_ in infer_symbolic(op, sorted(symbols_of(op)))]


CASES: list[tuple[str, Build, tuple[str, ...], list[str]]] = [
    ("elementwise", mil.add, ("f32[1,S,4]", "f32[1,1,4]"), ["f32[1,S,4]"]),
    ("elementwise of equal symbols", mil.mul, ("f32[S,T]", "f32[S,T]"), ["f32[S,T]"]),
    ("comparison", mil.greater, ("f16[S]", "f16[1]"), ["bool[S]"]),
    ("literal", lambda a: mil.sub(a, 1.0), ("f16[S,2*T]",), ["f16[S,2*T]"]),
    ("broadcast across", mil.add, ("f32[S,1]", "f32[1,T]"), ["f32[S,T]"]),
    ("conv", lambda a, w: mil.conv(a, w, strides=[2, 1], pad_type="custom", pad=[1, 1, 0, 0]),
     ("f32[1,3,S,16]", "f32[8,3,3,3]"), ["f32[1,8,(S-1)//2+1,14]"]),
    ("conv_transpose", lambda a, w: mil.conv_transpose(a, w, strides=[2]), ("f32[1,3,S]", "f32[3,8,3]"), ["f32[1,8,2*S+1]"]),
    ("max_pool", lambda a: mil.max_pool(x=a, kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid"),
     ("f32[1,3,S,16]",), ["f32[1,3,(S-3)//2+1,7]"]),
    ("avg_pool", lambda a: mil.avg_pool(x=a, kernel_sizes=[2], strides=[2], pad_type="custom", pad=[1, 0]), ("f32[T,3,S]",),
     ["f32[T,3,(S-1)//2+1]"]),
    ("reshape by literal dimensions", lambda a: mil.reshape(a, [2 * S, 2]), ("f32[S,4]",), ["f32[2*S,2]"]),
    ("reshape with a rest", lambda a: mil.reshape(a, [-1, 2]), ("f32[S,4]",), ["f32[2*S,2]"]),
    ("view", lambda a: aten.view.default(a, [S * T]), ("f32[S,T]",), ["f32[S*T]"]),
    ("expand", lambda a: aten.expand.default(a, [S, 4]), ("f32[1,4]",), ["f32[S,4]"]),
    ("transpose", lambda a: mil.transpose(a, perm=[1, 0]), ("f32[S,T]",), ["f32[T,S]"]),
    ("concat", lambda a, b: mil.concat([a, b, a], axis=1), ("f32[1,S]", "f32[1,T]"), ["f32[1,2*S+T]"]),
    ("slice from both ends", lambda a: mil.slice_by_index(a, [1], [-1]), ("f32[S]",), ["f32[S-2]"]),
    ("slice with a step", lambda a: mil.slice_by_index(a, [0], [0], stride=[2], begin_mask=[True], end_mask=[True]), ("f32[S]",),
     ["f32[(S+1)//2]"]),
    ("slice up to a size", lambda a: aten.slice.Tensor(a, 0, 0, S - 1), ("f32[S]",), ["f32[S-1]"]),
    ("pad", lambda a: mil.pad(a, [0, 0, 1, 2]), ("f32[T,S]",), ["f32[T,S+3]"]),
    ("reflecting pad", lambda a: mil.pad(a, [1, 1], mode="reflect"), ("f32[1,2,S]",), ["f32[1,2,S+2]"]),
    ("matmul", lambda a: mil.matmul(a, a, transpose_y=True), ("f32[1,S,4]",), ["f32[1,S,S]"]),
    ("linear", mil.linear, ("f32[S,4]", "f32[5,4]"), ["f32[S,5]"]),
    ("softmax", lambda a: mil.softmax(a, axis=1), ("f32[2,S]",), ["f32[2,S]"]),
    ("reduce", lambda a: mil.reduce_mean(a, axes=[0], keep_dims=True), ("f32[S,T]",), ["f32[1,T]"]),
    ("layer_norm", lambda a: mil.layer_norm(a, axes=[-1]), ("f32[S,4]",), ["f32[S,4]"]),
    ("gather", lambda a, i: mil.gather(a, i, axis=0), ("f32[T,4]", "i32[S]"), ["f32[S,4]"]),
    ("split", lambda a: mil.split.many(a, split_sizes=[1, 3], axis=1), ("f32[S,4]",), ["f32[S,1]", "f32[S,3]"]),
    ("topk", lambda a: mil.topk.many(a, k=2, axis=1), ("f32[S,4]",), ["f32[S,2]", "i32[S,2]"]),
    ("tile", lambda a: mil.tile(a, [2, 1]), ("f32[S,T]",), ["f32[2*S,T]"]),
    ("arange", lambda: aten.arange.default(S + 1), (), ["i64[S+1]"]),
    ("rank 0", lambda a: mil.reduce_sum(a), ("f32[S]",), ["f32[]"]),
    ("cast", lambda a: mil.cast(a, dtype="fp16"), ("i32[S]",), ["f16[S]"]),
]  # fmt: skip


@pytest.mark.parametrize(("build", "types", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_types(build: Build, types: tuple[str, ...], wanted: list[str]) -> None:
    assert typed(build, *types) == wanted


@pytest.mark.parametrize(("build", "types"), [case[1:3] for case in CASES], ids=[case[0] for case in CASES])
def test_types_hold_at_every_size(build: Build, types: tuple[str, ...]) -> None:
    """The symbolic answer at some sizes is what the kernel says there."""
    with assuming(BOUNDS):
        op = made(build, *types)[-1]
        symbolic = infer_symbolic(op, sorted(symbols_of(op)))
    for s, t in itertools.product((8, 9, 31, 64), (1, 2, 9)):
        at = {"S": s, "T": t}
        static = run_fake(op, {value: value.tensor.at(at) for value in op.inputs}, at)
        assert tuple(type_.at(at) for type_ in symbolic) == static  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("build", "types", "message"),
    [
        (lambda a: mil.slice_by_index(a, [0], [9]), ("f32[S]",), r"mil.slice_by_index cannot be typed for every size: it holds only where S >= 9, not at S=8"),
        (lambda a: mil.reshape(a, [4, -1]), ("f32[S,3]",), r"mil.reshape.*cannot become \[4, -1\]"),
        (lambda a: mil.max_pool(x=a, kernel_sizes=[3], strides=[1], pad_type="valid"), ("f32[1,2,T]",), r"mil.max_pool cannot be typed for every size: .*T.* not at T=1"),
        (lambda a: aten.view.default(a, [8, 4]), ("f32[S,4]",), r"aten.view.default"),
        (lambda a, b: aten.add.Tensor(a, b), ("f32[S]", "f32[T]"), r"S.*T"),
        (lambda a: aten.nonzero.default(a), ("f32[S]",), r"aten.nonzero.default"),
    ],
    ids=["slice", "reshape", "pool", "view", "add", "nonzero"],
)
def test_what_does_not_hold_for_every_size(build: Build, types: tuple[str, ...], message: str) -> None:
    with assuming(BOUNDS), pytest.raises(AnecError, match=message) as caught:
        made(build, *types)
    assert "s0" not in caught.value.message
    assert caught.value.where == "net.py:4 (net)"


def test_bounds_decide() -> None:
    """A pool over S places needs 3 of them: with S from 3 on it types, with S from 2 on it does not."""

    def build(a: Value) -> Value:
        return mil.max_pool(x=a, kernel_sizes=[3, 1], strides=[1, 1], pad_type="valid")

    with assuming({"S": Bounds(3, None)}):
        assert str(made(build, "f32[1,2,S,4]")[-1].result.type) == "f32[1,2,S-2,4]"
    with assuming({"S": Bounds(2, None)}), pytest.raises(AnecError, match="not at S=2"):
        made(build, "f32[1,2,S,4]")


def test_one_possible_size_is_a_number() -> None:
    with assuming({"S": Bounds(4, 4)}):
        assert str(made(lambda a: aten.flatten.using_ints(a), "f32[S,3]")[-1].result.type) == "f32[12]"
    with assuming({"S": Bounds(1, 1)}):
        assert str(made(lambda a, b: aten.add.Tensor(a, b), "f32[S,3]", "f32[5,3]")[-1].result.type) == "f32[5,3]"


def test_two_possible_sizes_are_a_symbol() -> None:
    """Of 1 and 2 torch would keep the 2 alone."""
    with assuming({"B": Bounds(1, 2), "S": Bounds(1, 2)}):
        pad = made(lambda a: mil.pad(a, [1, 0, 0, 0], mode="constant", constant_val=0.0), "f32[B,S,6]")[-1]
        assert str(pad.result.type) == "f32[B,S+1,6]"


def test_answers_are_remembered_by_bounds() -> None:
    op = made(lambda a: mil.relu(a), "f32[S]")[-1]
    assert infer(op) is infer(op)


def test_symbols_of_an_op() -> None:
    op = made(lambda a: aten.view.default(a, [S * 2, T]), "f32[2,S,T]")[-1]
    assert symbols_of(op) == {"S", "T"}
    assert symbols_of(made(lambda: aten.arange.default(T))[-1]) == {"T"}


# -- sizes ---------------------------------------------------------------------------------------------


def test_sizes_of_expressions() -> None:
    dim = maximum(S // 2, T) * 3 - S % 4
    for s, t in itertools.product((1, 7, 8), (2, 5)):
        assert size_of(dim, {"S": s, "T": t}) == evaluate(dim, {"S": s, "T": t})
    with pytest.raises(AnecError, match="symbol T has no size"):
        size_of(dim, {"S": 1})
    with pytest.raises(AnecError, match="divided by 0"):
        size_of(S // T, {"S": 1, "T": 0})


def test_symbols_are_learned_from_shapes() -> None:
    sizes: dict[str, int] = {}
    bind_sizes(TensorType(DType.F32, (2 * S + 1, T // 2, S + T, 4)), (9, 3, 11, 4), sizes)
    assert sizes == {"S": 4, "T": 7}
    other: dict[str, int] = {}
    bind_sizes(TensorType(DType.F32, (2 * S,)), (7,), other)
    assert other == {}, "7 is no 2*S"


def test_torch_sizes_become_dimensions() -> None:
    import sympy
    from torch.utils._sympy.functions import CeilToInt, FloorDiv, Max, Mod

    s = sympy.Symbol("s0", integer=True, positive=True)
    names = {"s0": "S"}
    assert dim_of(5, names) == 5
    assert dim_of(FloorDiv(s - 1, 2) + 1, names) == (S - 1) // 2 + 1
    assert dim_of(Mod(s, 3), names) == S % 3
    assert dim_of(Max(s, 4), names) == maximum(S, 4)
    assert dim_of(s**2 * 3, names) == S * S * 3
    assert dim_of(CeilToInt(s / 2), names) == -((-S) // 2)
    with pytest.raises(AnecError, match="cannot be written"):
        dim_of(sympy.log(s), names)


def test_default_dtype_and_logging_are_left_alone() -> None:
    import logging

    level = logging.getLogger("torch._subclasses.fake_tensor").level
    with assuming(BOUNDS), pytest.raises(AnecError):
        made(lambda a: aten.view.default(a, [8, 4]), "f32[S,4]")
    assert logging.getLogger("torch._subclasses.fake_tensor").level == level
    assert torch.get_default_dtype() is torch.float32

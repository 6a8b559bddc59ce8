"""The plain-Python inference rules against the kernels, which are the definition."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anec.dialects import mil
from anec.dialects.mil_infer import RULES, broadcast
from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.build import split_arguments
from anec.ir.dims import symbol
from anec.ir.graph import NOWHERE, Op, Value
from anec.ir.types import DType, TensorType
from anec.reference.infer import run_fake

F32, I32, BOOL = DType.F32, DType.I32, DType.BOOL


def value(*shape: int, dtype: DType = F32) -> Value:
    return Value("v", TensorType(dtype, shape))


def make(name: str, **arguments: Any) -> Op:
    defn = mil.resolve(name)
    operands, attrs = split_arguments(defn, arguments)
    return Op(defn, operands, attrs, NOWHERE)


def forms(name: str) -> list[dict[str, Any]]:
    """Calls of one op, in the forms that decide its type."""
    x = value(2, 3, 8, 5)
    if name in ("concat",):
        return [{"values": [value(2, 3), value(2, 5), value(2, 1)], "axis": a} for a in (1, -1)]
    if name == "split":
        return [{"x": x, "num_splits": 4, "axis": 2}, {"x": x, "split_sizes": [1, 2], "axis": -3}]
    if name == "conv":
        base = {"x": x, "weight": value(6, 3, 3, 2)}
        return [
            {**base, "pad_type": "valid"},
            {**base, "pad_type": "custom", "pad": [1, 2, 0, 1], "strides": [2, 1], "dilations": [2, 1]},
            {"x": value(2, 4, 9), "weight": value(6, 2, 4), "groups": 2, "pad_type": "valid", "strides": [3]},
        ]
    if name in ("max_pool", "avg_pool"):
        base = {"x": x, "kernel_sizes": [3, 2], "strides": [2, 2]}
        return [{**base, "pad_type": "valid"}, {**base, "pad_type": "custom", "pad": [1, 1, 0, 1]}]
    if name == "linear":
        return [{"x": x, "weight": value(7, 5)}, {"x": value(5), "weight": value(7, 5), "bias": value(7)}]
    if name == "matmul":
        return [
            {"x": value(2, 1, 3, 4), "y": value(5, 4, 6)},
            {"x": value(4, 3), "y": value(6, 4), "transpose_x": True, "transpose_y": True},
        ]
    if name == "transpose":
        return [{"x": x, "perm": [0, 2, -1, 1]}]
    if name == "reshape":
        return [{"x": x, "shape": [6, -1]}, {"x": x, "shape": [240]}]
    if name == "expand_dims":
        return [{"x": value(2, 3), "axes": [0, -1]}, {"x": value(2, 3), "axes": [1]}]
    if name == "squeeze":
        return [{"x": value(1, 3, 1), "axes": [0, -1]}, {"x": value(1, 3, 1), "axes": [2]}, {"x": value(1, 3, 1)}]
    if name == "slice_by_index":
        return [
            {"x": x, "begin": [0, 1, 0, 0], "end": [2, 3, 7, 5], "stride": [1, 1, 3, 1]},
            {"x": x, "begin": [1, 0, -3, 0], "end": [0, 0, -1, 0], "end_mask": [False, True, False, True],
             "squeeze_mask": [True, False, False, False]},
        ]  # fmt: skip
    if name == "slice_update":
        part = {"x": x, "update": value(2, 1, 8, 3)}
        return [
            {**part, "begin": [0, 2, 0, 0], "end": [2, 3, 8, 5], "stride": [1, 1, 1, 2]},
            {**part, "begin": [0, 2, 0, 2], "end": [0, 3, 0, 5], "end_mask": [True, False, True, False]},
        ]
    if name == "select":
        return [{"cond": value(3, 1, dtype=BOOL), "a": value(2, 3, 4), "b": 1.5}]
    if name == "cast":
        return [{"x": x, "dtype": d} for d in ("fp16", "int32", "bool")]
    if name.startswith("upsample"):
        return [{"x": x, "scale_factor_height": 2, "scale_factor_width": 3}]
    if name.startswith("resize"):
        return [{"x": x, "target_size_height": 7, "target_size_width": 11}]
    if name.startswith("reduce_"):
        return [{"x": x, "axes": [1, -1], "keep_dims": k} for k in (True, False)] + [{"x": x, "keep_dims": False}]
    return [named(name, x)]


def named(name: str, x: Value) -> dict[str, Any]:
    """One plain call: x, and whatever else the op needs."""
    defn = mil.resolve(name)
    made: dict[str, Any] = {}
    for param in defn.params:
        if param.name in ("x", "y"):
            dtype = BOOL if param.dtypes == (BOOL,) else F32
            made[param.name] = value(3, 1, 5, dtype=dtype) if param.name == "y" else value(2, 3, 8, 5, dtype=dtype)
        elif param.required:
            rank_one = {"mean", "variance", "alpha", "beta", "gamma"}
            made[param.name] = value(3) if param.kind.value == "operand" and param.name in rank_one else 0.5
    if name in ("layer_norm", "l2_norm", "reverse"):
        made["axes"] = [-1]
    if name == "clip":
        made["beta"] = 0.75
    if name == "local_response_norm":
        made["size"] = 3
    if name == "layer_norm":
        made["epsilon"] = 1e-5
    return made


@pytest.mark.parametrize("name", sorted(RULES))
def test_says_what_the_kernel_says(name: str) -> None:
    for arguments in forms(name):
        op = make(name, **arguments)
        inferred = RULES[name](op)
        assert inferred is not None, f"{name} {arguments} is left to the kernel"
        assert inferred == run_fake(op, {v: v.tensor for v in op.inputs}), arguments


def test_literals_broadcast_as_arrays() -> None:
    op = make("add", x=value(4, 3), y=Literal(((1.0,), (2.0,), (3.0,), (4.0,))))
    assert RULES["add"](op) == (TensorType(F32, (4, 3)),)


def test_symbols_stay_symbols() -> None:
    n = symbol("N")
    x = Value("x", TensorType(F32, (1, n, 4)))
    assert RULES["mul"](make("mul", x=x, y=2.0)) == (x.type,)
    assert RULES["transpose"](make("transpose", x=x, perm=[1, 0, 2])) == (TensorType(F32, (n, 1, 4)),)
    assert RULES["concat"](make("concat", values=[x, x], axis=1)) == (TensorType(F32, (1, 2 * n, 4)),)


def test_a_slice_with_computed_bounds_is_taken_to_fit() -> None:
    """No kernel can tell: the bounds are not known before the program runs."""
    x, bounds = value(2, 3, 8, 5), value(4, dtype=I32)
    assert RULES["slice_update"](make("slice_update", x=x, update=value(2, 1, 8, 5), begin=bounds, end=bounds)) == (x.type,)
    assert RULES["slice_update"](make("slice_update", x=x, update=value(1, 8, 5), begin=bounds, end=bounds)) is None


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(AnecError, match="do not broadcast"):
        RULES["add"](make("add", x=value(2, 3), y=value(2, 4)))
    with pytest.raises(AnecError, match="cannot become"):
        RULES["reshape"](make("reshape", x=value(2, 3), shape=[4, 2]))
    with pytest.raises(AnecError, match="no permutation"):
        RULES["transpose"](make("transpose", x=value(2, 3), perm=[0, 0]))


def test_broadcast_is_symmetric() -> None:
    random.seed(0)
    for _ in range(200):
        shape = tuple(random.randint(1, 4) for _ in range(random.randint(0, 4)))
        other = tuple(1 if random.random() < 0.5 else dim for dim in shape[random.randint(0, len(shape)) :])
        assert broadcast(shape, other) == broadcast(other, shape) == shape

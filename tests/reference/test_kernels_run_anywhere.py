"""Kernels of computation run in every float dtype, on integers where MIL has them, and on fakes.

Inference runs a kernel on FakeTensors, the checker in float64: a kernel that reads its data or names
a dtype fails here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from anec import reference
from anec.reference.mil.elementwise import BINARY, UNARY
from anec.reference.mil.reduction import EXACT_IN_INTEGERS, FRACTIONAL

Case = tuple[str, dict[str, Any]]


def t(*shape: int) -> Tensor:
    """Draw values in (0.1, 0.9), where every function is defined."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 0.8 + 0.1


def cases() -> list[Case]:
    logical = {"logical_and", "logical_or", "logical_xor", "logical_not"}
    found: list[Case] = [(op, {"x": t(2, 3)}) for op in UNARY if op not in logical]
    found += [(op, {"x": t(2, 3), "y": t(3)}) for op in [*BINARY, "floor_div", "real_div", "pow"] if op not in logical]
    found += [(op, {"x": t(2, 3)}) for op in ("exp2", "inverse", "log", "rsqrt")]
    found += [
        ("clip", {"x": t(2, 3), "alpha": 0.3, "beta": 0.6}),
        ("threshold", {"x": t(2, 3), "alpha": 0.5}),
    ]
    found += [("cast", {"x": t(2, 3), "dtype": "int32"})]
    found += [("select", {"cond": t(2, 3) > 0.5, "a": t(2, 3), "b": t(3)})]
    image = t(2, 4, 6, 7)
    plain = ("relu", "relu6", "sigmoid", "silu", "softsign", "softplus", "gelu", "softmax")
    found += [(op, {"x": image}) for op in plain]
    # 0.25 is the same number in every dtype: a threshold splits the same values.
    found += [(op, {"x": image, "alpha": 0.25}) for op in ("leaky_relu", "elu", "thresholded_relu")]
    two = ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")
    found += [(op, {"x": image, "alpha": 0.2, "beta": 0.5}) for op in two]
    found += [("prelu", {"x": image, "alpha": t(4)})]
    found += [("softplus_parametric", {"x": image, "alpha": t(4), "beta": t(4)})]
    for op in [*EXACT_IN_INTEGERS, *FRACTIONAL]:
        found += [(op, {"x": image}), (op, {"x": image, "axes": (1, -1), "keep_dims": True})]
    found += [(op, {"x": image, "axis": 1}) for op in ("reduce_argmax", "reduce_argmin")]
    found += [("linear", {"x": t(2, 3, 4), "weight": t(5, 4), "bias": t(5)})]
    found += [("matmul", {"x": t(2, 3, 4), "y": t(5, 4), "transpose_y": True})]
    found += [("einsum", {"values": [t(2, 3, 4, 5), t(1, 5, 4, 6)], "equation": "nchw,nwhu->nchu"})]
    for rank in (1, 2, 3):
        x, weight = t(2, 4, *[7] * rank), t(6, 2, *[3] * rank)
        strides = (2,) * rank
        found += [
            (
                "conv",
                {"x": x, "weight": weight, "bias": t(6), "groups": 2, "strides": strides, "pad_type": "same"},
            )
        ]
        found += [
            (
                "conv_transpose",
                {"x": x, "weight": t(4, 3, *[3] * rank), "strides": strides, "pad_type": "same"},
            )
        ]
        pooling = {"x": x, "kernel_sizes": (3,) * rank, "strides": strides, "pad_type": "same"}
        found += [("max_pool", pooling), ("avg_pool", {**pooling, "exclude_padding_from_average": True})]
        if rank < 3:
            found += [("l2_pool", pooling)]
        found += [("batch_norm", {"x": x, "mean": t(4), "variance": t(4), "gamma": t(4), "beta": t(4)})]
    quantized = {
        "x": t(1, 2, 5),
        "weight": torch.ones(3, 2, 2, dtype=torch.uint8),
        "quantization_type": "linear",
    }
    found += [("conv_quantized", {**quantized, "quant_scale": t(3), "quant_bias": t(3)})]
    found += [
        (
            "avg_pool",
            {"x": image, "kernel_sizes": (3, 3), "strides": (2, 2), "pad_type": "valid", "ceil_mode": True},
        )
    ]
    found += [("instance_norm", {"x": image, "gamma": t(4), "beta": t(4)})]
    found += [("layer_norm", {"x": image, "gamma": t(6, 7), "axes": (2, 3)}), ("layer_norm", {"x": image})]
    found += [("l2_norm", {"x": image}), ("local_response_norm", {"x": image, "size": 3})]
    states = {"x": t(3, 2, 4), "initial_h": t(2, 5)}
    for op, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        weights = {"weight_ih": t(gates * 5, 4), "weight_hh": t(gates * 5, 5), "bias": t(gates * 5)}
        cell = {"initial_c": t(2, 5)} if op == "lstm" else {}
        found += [(op, {**states, **cell, **weights, "output_sequence": True, "direction": "reverse"})]
    heads = {"query": t(1, 2, 3, 4), "key": t(1, 2, 5, 4), "value": t(1, 2, 5, 6)}
    found += [("scaled_dot_product_attention", {**heads, "attn_mask": t(3, 5) > 0.3})]
    return found


CASES = cases()
IDS = [f"{index}-{op}" for index, (op, _) in enumerate(CASES)]


def converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, list):
        return [converted(entry, dtype) for entry in value]
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


def run(op: str, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    found = reference.lookup(f"mil.{op}")
    assert found is not None
    result = found.function(**arguments)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("op", "arguments"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_every_float_dtype_gives_the_float64_result(op: str, arguments: dict[str, Any], dtype: torch.dtype) -> None:
    rounded = {name: converted(value, dtype) for name, value in arguments.items()}
    exact = {name: converted(value, torch.float64) for name, value in rounded.items()}
    # Some forty roundings in a row at most; max|result| sets the scale, as sums cancel.
    steps = 40 * torch.finfo(dtype).eps
    for got, wanted in zip(run(op, rounded), run(op, exact), strict=True):
        if wanted.dtype != torch.float64:
            assert torch.equal(got, wanted)
            continue
        assert got.dtype == dtype
        if wanted.abs().max() > torch.finfo(dtype).max:
            continue  # a product of hundreds of values leaves float16
        limit = steps * max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(got.double(), wanted, rtol=steps, atol=limit)


@pytest.mark.parametrize(("op", "arguments"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_fakes_have_the_shape_and_dtype_of_the_result(op: str, arguments: dict[str, Any], dtype: torch.dtype) -> None:
    real = {name: converted(value, dtype) for name, value in arguments.items()}
    wanted = run(op, real)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:

        def fake(value: Any) -> Any:
            if isinstance(value, list):
                return [fake(entry) for entry in value]
            return mode.from_tensor(value) if isinstance(value, Tensor) else value

        got = run(op, {name: fake(value) for name, value in real.items()})
    assert [(g.shape, g.dtype) for g in got] == [(w.shape, w.dtype) for w in wanted]


SYMBOLIC = {"x": (0, 2, 3, 4), "query": (2,), "attn_mask": (0,), "a": (0,), "cond": (0,), "initial_h": (0,)}
SYMBOLIC["initial_c"] = (0,)


@pytest.mark.parametrize(("op", "arguments"), CASES, ids=IDS)
def test_symbolic_sizes_stay_symbols(op: str, arguments: dict[str, Any]) -> None:
    """Batch and spatial sizes may be symbols; pinning one would tie the program to its example."""
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment)

    def fake(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return [fake(name, entry) for entry in value] if isinstance(value, list) else value
        axes = SYMBOLIC.get(name, ())
        if op in ("rnn", "gru", "lstm"):
            axes = (value.dim() - 2,) if name in ("x", "initial_h", "initial_c") else ()
        elif op in ("matmul", "linear") or "gamma" in arguments or value.dim() < 3:
            axes = axes[:1]
        kinds = [DimDynamic.DUCK if axis in axes else DimDynamic.STATIC for axis in range(value.dim())]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        return mode.from_tensor(value, symbolic_context=context, source=ConstantSource(f"{op}_{name}"))

    with mode, enable_python_dispatcher():
        faked = {name: fake(name, value) for name, value in arguments.items()}
        results = run(op, faked)
    pinned = {str(symbol): str(value) for symbol, value in environment.replacements.items() if value.is_number}
    assert not pinned, [str(guard.expr) for guard in environment.guards]
    # What the sizes work out to with the example's numbers is what the real kernel gives.
    wanted = run(op, arguments)
    hints = [tuple(s.node.hint if isinstance(s, torch.SymInt) else s for s in r.shape) for r in results]
    assert hints == [tuple(w.shape) for w in wanted]


INTEGER_OPS = [
    *("abs", "sign", "square", "exp2"),
    *("add", "sub", "mul", "maximum", "minimum", "mod", "floor_div", "real_div", "pow"),
    *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
    *EXACT_IN_INTEGERS,
    *FRACTIONAL,
    *("reduce_argmax", "reduce_argmin", "matmul"),
]


@pytest.mark.parametrize("op", INTEGER_OPS)
def test_integers_stay_integers(op: str) -> None:
    x = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.int32)
    two = op in BINARY or op in ("floor_div", "real_div", "pow", "matmul")
    (got,) = run(op, {"x": x, "y": x.T.contiguous()} if two else {"x": x})
    compares = op in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
    assert got.dtype == (torch.bool if compares else torch.int32)


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor", "logical_not"])
def test_logic_is_of_bools(op: str) -> None:
    x, y = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    wanted = {
        "logical_and": [True, False, False, False],
        "logical_or": [True, True, True, False],
        "logical_xor": [False, True, True, False],
        "logical_not": [False, False, True, True],
    }
    (got,) = run(op, {"x": x} if op == "logical_not" else {"x": x, "y": y})
    assert got.dtype == torch.bool and got.tolist() == wanted[op]

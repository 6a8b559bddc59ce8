"""Compressed weights, quantization and state kernels: by hand, and on what ct.optimize makes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder
from coremltools.optimize import coreml as cto
from torch import Tensor

from anec.errors import AnecError
from anec.reference import lookup


def kernel(name: str) -> Callable[..., Any]:
    found = lookup(f"mil.{name}")
    assert found is not None, name
    return found.function


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(low: int, high: int, *shape: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def packed(numbers: np.ndarray, bits: int) -> Tensor:
    """Pack numbers from the lowest bit of each byte up."""
    flags = (numbers.reshape(-1, 1) >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(flags.astype(np.uint8).reshape(-1), bitorder="little"))


# -- quantize, dequantize


@pytest.mark.parametrize("name", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("with_zero_point", [False, True])
def test_quantize_and_back(name: str, axis: int | None, with_zero_point: bool) -> None:
    dtype = {"int8": torch.int8, "uint8": torch.uint8}[name]
    limits = torch.iinfo(dtype)
    x = 3 * random(3, 4, 5)
    size = None if axis is None else x.shape[axis]
    scale = torch.tensor(0.03125, dtype=torch.float64) if size is None else 0.02 + random(size).abs() / 20
    zero_point = integers(0, 60, *(() if size is None else (size,)), dtype=dtype) if with_zero_point else None
    spread = [1] * 3
    if axis is not None:
        spread[axis] = -1
    wide_scale = scale.reshape(spread) if axis is not None else scale
    wide_zero: Any = 0 if zero_point is None else zero_point.double()
    if axis is not None and zero_point is not None:
        wide_zero = wide_zero.reshape(spread)
    expected = np.clip(np.rint((x / wide_scale).numpy()) + np.asarray(wide_zero), limits.min, limits.max)
    result = kernel("quantize")(x, scale, name, zero_point=zero_point, axis=axis)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.numpy(), expected)
    back = kernel("dequantize")(result, scale, zero_point=zero_point, axis=axis)
    torch.testing.assert_close(back, (result.double() - wide_zero) * wide_scale)
    assert back.dtype == scale.dtype


def test_quantize_rounds_halves_to_even_and_refuses() -> None:
    one = torch.tensor(1.0)
    halves = torch.tensor([0.5, 1.5, -0.5, -2.5, 300.0])
    assert kernel("quantize")(halves, one, "int8").tolist() == [0, 2, 0, -2, 127]
    with pytest.raises(AnecError, match="output_dtype"):
        kernel("quantize")(halves, one, "int16")
    with pytest.raises(AnecError, match="axis"):
        kernel("quantize")(halves, one, "int8", axis=0)
    with pytest.raises(AnecError, match="zero point"):
        kernel("dequantize")(halves.to(torch.int8), one, zero_point=torch.zeros(5, dtype=torch.int8))
    with pytest.raises(AnecError, match="scales"):
        kernel("dequantize")(halves.to(torch.int8), torch.ones(4), axis=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_affine_dequantize(axis: int) -> None:
    data = integers(0, 256, 2, 3, 4)
    scale, zero_point = random(data.shape[axis]), integers(0, 256, data.shape[axis])
    spread = [1] * 3
    spread[axis] = -1
    expected = scale.reshape(spread) * (data.double() - zero_point.double().reshape(spread))
    torch.testing.assert_close(kernel("constexpr_affine_dequantize")(data, zero_point, scale, axis), expected)
    mixed = kernel("constexpr_affine_dequantize")(data, zero_point[0], scale, axis)
    torch.testing.assert_close(mixed, scale.reshape(spread) * (data.double() - zero_point[0]))


# -- tables


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_table(bits: int) -> None:
    shape = (3, 5, 1)
    numbers = np.random.default_rng(bits).integers(0, 2**bits, shape)
    lut = random(2**bits, seed=bits)
    result = kernel("constexpr_lut_to_dense")(packed(numbers, bits), lut, shape=shape)
    torch.testing.assert_close(result, lut[torch.from_numpy(numbers)])
    with pytest.raises(AnecError, match="bytes"):
        kernel("constexpr_lut_to_dense")(packed(numbers, bits), lut, shape=(9, 5, 1))
    with pytest.raises(AnecError, match="entries"):
        kernel("constexpr_lut_to_dense")(packed(numbers, bits), random(3), shape=shape)


def look_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """The documented meaning, an element at a time."""
    vector = lut.shape[-1]
    shape = list(indices.shape)
    at = 0 if vector_axis is None else vector_axis % len(shape)
    shape[at] *= vector
    result = torch.full(shape, math.nan, dtype=lut.dtype)
    for place in itertools.product(*map(range, indices.shape)):
        table = tuple(i // (size // count) for i, size, count in zip(place, indices.shape, lut.shape, strict=False))
        for element in range(vector):
            target = list(place)
            target[at] = place[at] * vector + element
            result[tuple(target)] = lut[(*table, int(indices[place]), element)]
    return result


@pytest.mark.parametrize("tables", [(1, 1, 1), (2, 1, 1), (1, 3, 2), (4, 3, 2)])
@pytest.mark.parametrize(("vector", "vector_axis"), [(1, None), (1, 0), (2, 0), (3, 1), (2, -1)])
def test_table_of_blocks_and_vectors(tables: tuple[int, ...], vector: int, vector_axis: int | None) -> None:
    indices = integers(0, 4, 4, 3, 2)
    lut = random(*tables, 4, vector)
    expected = look_up(indices, lut, vector_axis)
    result = kernel("constexpr_lut_to_dense")(indices, lut, vector_axis=vector_axis)
    assert torch.equal(result, expected)

    mask = integers(0, 2, 4, 3, 2, seed=1)
    values = indices[mask != 0]
    wide_mask, found = kernel("constexpr_lut_to_sparse")(mask, values, lut, vector_axis=vector_axis)
    spread = look_up(mask, torch.arange(2.0).reshape(1, 1, 1, 2, 1).expand(1, 1, 1, 2, vector), vector_axis)
    assert torch.equal(wide_mask.double(), spread.double())
    assert torch.equal(found, expected[wide_mask != 0])
    dense = kernel("constexpr_sparse_to_dense")(found, wide_mask)
    assert torch.equal(dense, expected * wide_mask)


def test_tables_refuse() -> None:
    indices = integers(0, 2, 4, 6)
    for lut, message in (
        (random(1, 1, 2), "rank"),
        (random(3, 1, 2, 1), "blocks"),
        (random(1, 1, 2, 2), "vector_axis"),
    ):
        with pytest.raises(AnecError, match=message):
            kernel("constexpr_lut_to_dense")(indices, lut)


# -- blocks of scales, sparse data


@pytest.mark.parametrize("blocks", [(1, 1, 1), (2, 1, 3), (4, 3, 6), (1, 3, 2)])
@pytest.mark.parametrize("offset_dtype", [None, torch.int8, torch.float64])
def test_blockwise_shift_scale(blocks: tuple[int, ...], offset_dtype: torch.dtype | None) -> None:
    data = integers(-8, 8, 4, 3, 6, dtype=torch.int8)
    scale = random(*blocks)
    offset = None if offset_dtype is None else integers(-8, 8, *blocks, dtype=offset_dtype, seed=2)
    expected = torch.empty(data.shape, dtype=torch.float64)
    for place in itertools.product(*map(range, data.shape)):
        block = tuple(i * count // size for i, size, count in zip(place, data.shape, blocks, strict=True))
        shift = 0.0 if offset is None else float(offset[block])
        expected[place] = float(scale[block]) * (float(data[place]) - shift)
    result = kernel("constexpr_blockwise_shift_scale")(data, scale, offset=offset)
    torch.testing.assert_close(result, expected)

    mask = integers(0, 2, 4, 3, 6, seed=3)
    same_mask, values = kernel("constexpr_sparse_blockwise_shift_scale")(mask, data[mask != 0], scale, offset=offset)
    assert torch.equal(same_mask, mask)
    torch.testing.assert_close(values, expected[mask != 0])
    with pytest.raises(AnecError, match="blocks"):
        kernel("constexpr_blockwise_shift_scale")(data, random(3, 1, 1))
    with pytest.raises(AnecError, match="offset"):
        kernel("constexpr_blockwise_shift_scale")(data, scale, offset=torch.zeros(7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int8, torch.uint8])
def test_sparse_to_dense(dtype: torch.dtype) -> None:
    mask = integers(0, 2, 3, 5, 2)
    values = integers(1, 99, int(mask.sum()), dtype=dtype)
    expected = torch.zeros(3, 5, 2, dtype=dtype)
    expected[mask != 0] = values
    assert torch.equal(kernel("constexpr_sparse_to_dense")(values, mask), expected)
    bits = packed(mask.numpy(), 1)
    assert torch.equal(kernel("constexpr_sparse_to_dense")(values, bits, shape=(3, 5, 2)), expected)
    empty = kernel("constexpr_sparse_to_dense")(values[:0], torch.zeros_like(mask))
    assert torch.equal(empty, torch.zeros_like(expected))


def test_cast_and_states() -> None:
    half = random(3).half()
    assert torch.equal(kernel("constexpr_cast")(half, "fp32"), half.float())
    with pytest.raises(AnecError):
        kernel("constexpr_cast")(half, "fp16")
    assert torch.equal(kernel("read_state")(half), half)
    assert torch.equal(kernel("coreml_update_state")(half, 2 * half), 2 * half)
    with pytest.raises(AnecError, match="shape"):
        kernel("coreml_update_state")(half, half[:2])


# -- what coremltools.optimize makes


def _compressed(weight: np.ndarray, target: Any, *steps: Callable[[Any], Any]) -> Any:
    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, weight.shape[1]))], opset_version=target)
    def program(x: Any) -> Any:
        return Builder.linear(x=x, weight=weight, bias=np.zeros(weight.shape[0], np.float32))

    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    for step in steps:
        model = step(model)
    return model._mil_program.functions["main"]


def _linear(**options: Any) -> Callable[[Any], Any]:
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=0, **options))
    return lambda model: cto.linear_quantize_weights(model, config, joint_compression=_is_joint(model))


def _palette(**options: Any) -> Callable[[Any], Any]:
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(weight_threshold=0, mode="uniform", **options))
    return lambda model: cto.palettize_weights(model, config, joint_compression=_is_joint(model))


def _prune(model: Any) -> Any:
    config = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(weight_threshold=0, target_sparsity=0.5))
    return cto.prune_weights(model, config)


def _is_joint(model: Any) -> bool:
    return any("constexpr" in op.op_type for op in model._mil_program.functions["main"].operations)


def _materialize(op: Any) -> tuple[Tensor, ...]:
    arguments: dict[str, Any] = {}
    for name, var in op.inputs.items():
        if var is None:
            continue
        if var.op.op_type.startswith("constexpr_"):
            arguments[name] = _materialize(var.op)[list(var.op.outputs).index(var)]
        elif name in ("axis", "vector_axis"):
            arguments[name] = int(var.val)
        elif name == "shape":
            arguments[name] = tuple(var.val.tolist())
        else:
            value = np.asarray(var.val)
            arguments[name] = torch.from_numpy(value.astype(value.dtype.base.newbyteorder("="), copy=True))
    result = kernel(op.op_type)(**arguments)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    ("target", "steps", "expected_ops"),
    [
        (ct.target.iOS16, (_linear(mode="linear", dtype="uint8"),), ["constexpr_affine_dequantize"]),
        (ct.target.iOS16, (_palette(nbits=4),), ["constexpr_lut_to_dense"]),
        (ct.target.iOS16, (_prune,), ["constexpr_sparse_to_dense"]),
        (
            ct.target.iOS18,
            (_linear(mode="linear", dtype="int4", granularity="per_block", block_size=4),),
            ["constexpr_blockwise_shift_scale"],
        ),
        (
            ct.target.iOS18,
            (_palette(nbits=3, granularity="per_grouped_channel", group_size=2),),
            ["constexpr_lut_to_dense"],
        ),
        (
            ct.target.iOS18,
            (_prune, _linear(mode="linear_symmetric", dtype="int8")),
            ["constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"],
        ),
        (
            ct.target.iOS18,
            (_prune, _palette(nbits=4)),
            ["constexpr_lut_to_sparse", "constexpr_sparse_to_dense"],
        ),
    ],
)
def test_what_optimize_makes(target: Any, steps: Any, expected_ops: list[str]) -> None:
    weight = np.random.default_rng(7).standard_normal((8, 12)).astype(np.float32)
    function = _compressed(weight, target, *steps)
    found = [op for op in function.operations if op.op_type.startswith("constexpr_")]
    assert [op.op_type for op in found] == expected_ops
    (result,) = _materialize(found[-1])
    np.testing.assert_allclose(result.numpy(), found[-1].materialized_val_inference(), rtol=1e-6, atol=1e-6)
    kept = result.numpy() != 0
    error = np.abs(result.numpy() - weight)[kept].max()
    assert error < 0.6, "the decompressed weight resembles the weight"
    assert _prune not in steps or not kept.all()

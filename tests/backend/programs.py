"""Programs as IR text, with weights drawn from a seed."""

from __future__ import annotations

import coremltools as ct
import torch

from anec.dialects import registry
from anec.ir.graph import Module
from anec.ir.parser import parse_module
from anec.ir.types import DType
from anec.ir.weights import TensorData, torch_dtype


def read(text: str, seed: int = 0) -> Module:
    """The module of ``text``; float weights are normal, integer ones fill their range."""
    module = parse_module(text.strip(), registry)
    generator = torch.Generator().manual_seed(seed)
    for weight in module.weights.values():
        dtype, shape = weight.type.dtype, weight.type.static_shape
        if dtype is DType.BOOL:
            tensor = torch.rand(shape, generator=generator) < 0.5
        elif dtype.is_float:
            tensor = torch.randn(shape, generator=generator).to(torch_dtype(dtype))
        else:
            low, high = dtype.range
            high = min(high, 2**31 - 1)
            tensor = torch.randint(max(low, -(2**31)), high + 1, shape, generator=generator).to(torch_dtype(dtype))
        weight.data = TensorData(tensor)
    return module


def operations(model: object, function: str = "main") -> list[object]:
    """The operations of a ``Model`` protobuf's function, constants left out."""
    found = model.mlProgram.functions[function]  # type: ignore[attr-defined]
    block = found.block_specializations[found.opset]
    return [operation for operation in block.operations if operation.type != "const"]


def spec_of(path: object) -> object:
    """The ``Model`` protobuf of a package, read by coremltools."""
    return ct.utils.load_spec(str(path))

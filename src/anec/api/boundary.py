"""The boundary of ``run``: what a caller passes, checked and brought to the declared types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from anec.errors import UsageError, nearest
from anec.ir.dims import evaluate
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import DType, StateType, TensorType, tensor_type
from anec.ir.weights import torch_dtype


def check_inputs(module: Module, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The inputs as tensors of the declared types.

    Raises:
        UsageError: an unknown or missing input, a wrong shape or dtype, a value out of range.
    """
    ports = graph.signature.inputs or [Port(value.name, value.type) for value in graph.inputs]
    wanted = {p.name: (p, v) for p, v in zip(ports, graph.inputs, strict=True) if not isinstance(v.type, StateType)}
    for name in inputs:
        if name not in wanted:
            raise UsageError(f"there is no input {name!r}", hint=nearest(name, wanted))
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise UsageError(f"the input {missing[0]!r} is missing", hint="inputs: " + ", ".join(wanted))
    sizes: dict[str, int] = {}
    return {name: _check(name, inputs[name], value, module, sizes) for name, (_, value) in wanted.items()}


def _check(name: str, given: Any, value: Value, module: Module, sizes: dict[str, int]) -> torch.Tensor:
    tensor = _as_tensor(name, given)
    type_ = value.tensor
    if tensor.ndim == 0 and type_.rank == 1:
        tensor = tensor.reshape(1)
    _check_shape(name, tuple(tensor.shape), type_, module, sizes)
    return _convert(name, tensor, type_.dtype)


def _as_tensor(name: str, given: Any) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach().cpu()
    try:
        array = np.asarray(given)
        return torch.from_numpy(np.array(array, order="C"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the input {name!r} is {type(given).__name__}, not an array") from error


def _check_shape(name: str, shape: tuple[int, ...], type_: TensorType, module: Module, sizes: dict[str, int]) -> None:
    fits = len(shape) == type_.rank
    for size, dim in zip(shape, type_.shape, strict=False):
        if isinstance(dim, int):
            fits = fits and size == dim
            continue
        symbol = str(dim)
        if symbol in module.dims:
            bounds = module.dims[symbol]
            if size < bounds.lower or (bounds.upper is not None and size > bounds.upper):
                raise UsageError(f"the input {name!r} has {symbol}={size}; it must lie in {bounds}")
            if sizes.setdefault(symbol, size) != size:
                raise UsageError(f"{symbol} is {sizes[symbol]} in one input and {size} in {name!r}")
        elif dim.symbols() <= sizes.keys() and evaluate(dim, sizes) != size:
            fits = False
    if not fits:
        raise UsageError(f"the input {name!r} has shape {list(shape)}; the model takes {type_}")


def _convert(name: str, tensor: torch.Tensor, dtype: DType) -> torch.Tensor:
    wanted = torch_dtype(dtype)
    if tensor.dtype is wanted:
        return tensor
    if dtype.is_float:
        if tensor.is_complex():
            raise UsageError(f"the input {name!r} is {tensor.dtype}; the model takes {dtype}")
        return tensor.to(wanted)
    if tensor.is_floating_point() or tensor.is_complex():
        raise UsageError(f"the input {name!r} is {tensor.dtype}; the model takes whole numbers ({dtype})")
    if dtype is not DType.BOOL and tensor.dtype is not torch.bool and tensor.numel():
        low, high = dtype.range
        if int(tensor.min()) < low or int(tensor.max()) > high:
            raise UsageError(f"the input {name!r} holds values beyond {dtype} ({low} to {high})")
    return tensor.to(wanted)


def restore_outputs(graph: Graph, outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The outputs as arrays; what torch has as rank 0 is rank 0 again."""
    ranks = {port.name: tensor_type(port.type).rank for port in graph.signature.outputs}
    found = {}
    for name, tensor in outputs.items():
        if ranks.get(name) == 0 and tensor.numel() == 1:
            tensor = tensor.reshape(())
        found[name] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return found

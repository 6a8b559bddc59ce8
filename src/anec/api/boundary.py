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
    if not isinstance(inputs, Mapping):
        example = ", ".join(f"{port.name!r}: ..." for port in ports if not isinstance(port.type, StateType))
        raise UsageError(f"the inputs are a {type(inputs).__name__}, not a dict", hint=f"run({{{example}}})")
    wanted = {p.name: (p, v) for p, v in zip(ports, graph.inputs, strict=True) if not isinstance(v.type, StateType)}
    for name in inputs:
        if name not in wanted:
            raise UsageError(f"there is no input {name!r}", hint=nearest(name, wanted))
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise UsageError(f"the input {missing[0]!r} is missing", hint="inputs: " + ", ".join(wanted))
    tensors = {name: _as_tensor(name, inputs[name], value) for name, (_, value) in wanted.items()}
    _check_listed({name: port for name, (port, _) in wanted.items()}, tensors)
    _check_shapes({name: value for name, (_, value) in wanted.items()}, tensors, module)
    return {name: _convert(name, tensors[name], value.tensor.dtype) for name, (_, value) in wanted.items()}


def states_of(graph: Graph) -> dict[str, Value]:
    """The states of a function by public name."""
    ports = graph.signature.inputs or [Port(value.name, value.type) for value in graph.inputs]
    return {p.name: v for p, v in zip(ports, graph.inputs, strict=True) if isinstance(v.type, StateType)}


def check_states(module: Module, graph: Graph, state: Mapping[str, torch.Tensor]) -> None:
    """Check the states a caller passes; they are updated in place. Other functions' states may be among them.

    Raises:
        UsageError: an unknown state, or one of another shape.
    """
    known = {name: value for other in module.functions.values() for name, value in states_of(other).items()}
    known |= states_of(graph)
    for name, tensor in state.items():
        if name not in known:
            hint = nearest(name, known) if known else "the function has no states"
            raise UsageError(f"there is no state {name!r}", hint=hint)
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != known[name].shape:
            given = list(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise UsageError(f"the state {name!r} is {given}; the model has a tensor {known[name].tensor}")


def _as_tensor(name: str, given: Any, value: Value) -> torch.Tensor:
    tensor = _read(name, given)
    # A number stands for the (1,) that Core ML has instead of rank 0.
    return tensor.reshape(1) if tensor.ndim == 0 and value.tensor.shape == (1,) else tensor


def _read(name: str, given: Any) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach().cpu()
    try:
        array = np.asarray(given)
        return torch.from_numpy(np.array(array, order="C"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the input {name!r} is {type(given).__name__}, not an array of numbers") from error


def _check_listed(ports: Mapping[str, Port], tensors: Mapping[str, torch.Tensor]) -> None:
    """Listed shapes are the only ones, and those of several inputs belong together."""
    listed = {name: port.shapes for name, port in ports.items() if port.shapes}
    given = {name: tuple(tensors[name].shape) for name in listed}
    for name, shapes in listed.items():
        if given[name] not in shapes:
            known = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise UsageError(f"the input {name!r} has shape {list(given[name])}; the model takes {known}")
    together = list(zip(*listed.values(), strict=True))
    if listed and tuple(given.values()) not in together:
        pairs = " or ".join(" with ".join("x".join(map(str, shape)) for shape in shapes) for shapes in together)
        raise UsageError(f"the shapes of {', '.join(listed)} do not belong together; the model takes {pairs}")


def _check_shapes(wanted: Mapping[str, Value], tensors: Mapping[str, torch.Tensor], module: Module) -> None:
    """Compare shapes with types; symbols are within bounds and the same everywhere."""
    sizes: dict[str, int] = {}
    for name, value in wanted.items():
        shape = tuple(tensors[name].shape)
        if len(shape) != value.rank:
            raise _wrong_shape(name, shape, value.tensor)
        _bind_symbols(name, shape, value.tensor, module, sizes)
    for name, value in wanted.items():
        shape = tuple(tensors[name].shape)
        for size, dim in zip(shape, value.tensor.shape, strict=True):
            known = isinstance(dim, int) or dim.symbols() <= sizes.keys()
            if known and evaluate(dim, sizes) != size:
                raise _wrong_shape(name, shape, value.tensor)


def _bind_symbols(name: str, shape: tuple[int, ...], type_: TensorType, module: Module, sizes: dict[str, int]) -> None:
    for size, dim in zip(shape, type_.shape, strict=True):
        symbol = str(dim)
        if symbol not in module.dims:
            continue
        bounds = module.dims[symbol]
        if size < bounds.lower or (bounds.upper is not None and size > bounds.upper):
            raise UsageError(f"the input {name!r} has {symbol}={size}; it must lie in {bounds}")
        if sizes.setdefault(symbol, size) != size:
            raise UsageError(f"{symbol} is {sizes[symbol]} in one input and {size} in {name!r}")


def _wrong_shape(name: str, shape: tuple[int, ...], type_: TensorType) -> UsageError:
    return UsageError(f"the input {name!r} has shape {list(shape)}; the model takes {type_}")


def _convert(name: str, tensor: torch.Tensor, dtype: DType) -> torch.Tensor:
    wanted = torch_dtype(dtype)
    if tensor.dtype is wanted:
        return tensor
    if tensor.is_complex():
        raise UsageError(f"the input {name!r} is {tensor.dtype}; the model takes {dtype}")
    if dtype.is_float:
        return _convert_float(name, tensor, dtype)
    if tensor.is_floating_point():
        raise UsageError(f"the input {name!r} is {tensor.dtype}; the model takes whole numbers ({dtype})")
    if dtype is DType.BOOL or tensor.dtype is torch.bool:
        return tensor.to(wanted)
    low, high = dtype.range
    # Unsigned tensors know neither min nor max; int64 holds all but the upper half of uint64.
    whole = tensor.to(torch.int64)
    lost = tensor.dtype is torch.uint64 and bool((whole < 0).any())
    if lost or (whole.numel() and (int(whole.min()) < low or int(whole.max()) > high)):
        raise UsageError(f"the input {name!r} holds values beyond {dtype} ({low} to {high})")
    return whole.to(wanted)


def _convert_float(name: str, tensor: torch.Tensor, dtype: DType) -> torch.Tensor:
    converted = tensor.to(torch_dtype(dtype))
    if bool((torch.isfinite(tensor) & ~torch.isfinite(converted)).any()):
        raise UsageError(f"the input {name!r} holds values beyond {dtype}")
    return converted


def restore_outputs(graph: Graph, outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The outputs as arrays of the caller's own; what torch has as rank 0 is rank 0 again."""
    ranks = {port.name: tensor_type(port.type).rank for port in graph.signature.outputs}
    found = {}
    for name, tensor in outputs.items():
        if ranks.get(name) == 0 and tensor.numel() == 1:
            tensor = tensor.reshape(())
        # A copy: what a program passes through is a weight, an input or a state itself.
        found[name] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()
    return found

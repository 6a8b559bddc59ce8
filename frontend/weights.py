"""Parameters, buffers and constants as weights: references to the model's own tensors."""

from __future__ import annotations

import math

import torch

from anec.errors import AnecError, UnsupportedError
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight, torch_dtype

_DTYPES: dict[torch.dtype, DType] = {
    torch_dtype(dtype): dtype for dtype in DType if not (dtype.is_integer and dtype.bits < 8)
}


def dtype_of(dtype: torch.dtype) -> DType:
    """The IR's dtype.

    Raises:
        UnsupportedError: torch has it, the IR has not (float8, quantized types).
    """
    found = _DTYPES.get(dtype)
    if found is None:
        raise UnsupportedError(f"the dtype {dtype} is not supported", hint="convert it to float32 before compiling")
    return found


def make_weight(name: str, tensor: object, *, check_nan: bool = True) -> Weight:
    """A weight that refers to ``tensor``; nothing is copied unless it lies on another device.

    Args:
        name: the tensor's path in the model.
        tensor: the parameter, buffer or constant; strides and offset stay as they are.
        check_nan: refuse a float tensor that holds NaN; infinities (masks) and a lone NaN (a fill) are allowed.

    Raises:
        AnecError: the tensor has no data, holds NaN, or is no plain dense tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise UnsupportedError(f"the constant {name!r} is a {type(tensor).__name__}, not a tensor")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise UnsupportedError(f"the weight {name!r} is not a dense tensor", hint="call .to_dense() or .dequantize()")
    if tensor.device.type == "meta" or isinstance(tensor, torch._subclasses.FakeTensor):
        raise AnecError(f"the weight {name!r} has no data", hint="load the weights before compiling")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and type(tensor.data) is not torch.Tensor:
        raise UnsupportedError(
            f"the weight {name!r} is a {type(tensor).__name__}", hint="compile the model with plain tensors as weights"
        )
    data = tensor.detach()
    if data.is_conj() or data.is_neg():
        data = data.resolve_conj().resolve_neg()
    if data.device.type != "cpu":
        data = data.cpu()
    try:
        type_ = TensorType(dtype_of(data.dtype), tuple(data.shape))
    except UnsupportedError as error:
        raise UnsupportedError(f"the weight {name!r}: {error.message}", hint=error.hint) from None
    weight = Weight(name, type_, TensorData(data))
    if check_nan and data.numel() > 1 and data.is_floating_point() and math.isnan(weight.extent()[0]):
        raise AnecError(f"the weight {name!r} holds NaN", hint="check how it was trained, saved or loaded")
    return weight

"""Type inference: an op's kernel, run on fake tensors; memoised by op, operand types and attributes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anec import reference
from anec.errors import AnecError, UnsupportedError
from anec.ir.attrs import Literal, attr_key
from anec.ir.graph import Op, Value
from anec.ir.types import DTYPES, DType, StateType, TensorType, Type
from anec.ir.weights import _TORCH_NAMES, torch_dtype
from anec.reference.call import kernel_arguments

_MEMO: dict[tuple[object, ...], tuple[Type, ...]] = {}
_BY_TORCH: dict[torch.dtype, DType] = {
    getattr(torch, name): dtype for dtype, name in reversed(_TORCH_NAMES.items()) if hasattr(torch, name)
} | {getattr(torch, name): DTYPES[text] for text, name in {"i8": "int8", "u8": "uint8"}.items()}


def dtype_of(dtype: torch.dtype) -> DType:
    """The IR dtype of a torch dtype.

    Raises:
        UnsupportedError: the IR has no such dtype.
    """
    if dtype not in _BY_TORCH:
        raise UnsupportedError(f"the IR has no dtype for {dtype}")
    return _BY_TORCH[dtype]


def type_of(tensor: torch.Tensor) -> TensorType:
    """The IR type of a static torch tensor."""
    return TensorType(dtype_of(tensor.dtype), tuple(int(dim) for dim in tensor.shape))


def _key(op: Op) -> tuple[object, ...]:
    operands = tuple(
        operand.type if isinstance(operand, Value) else str(operand) for operand in op.operands
    )
    # Lists of operands are flat; their lengths tell them apart.
    lengths = tuple(len(op.slot(param.name)) for param in op.defn.operand_params)
    attrs = tuple(sorted((name, attr_key(value)) for name, value in op.attrs.items()))
    return (op.name, operands, lengths, attrs)


def infer(op: Op) -> tuple[Type, ...]:
    """The types of the results of ``op``.

    Raises:
        UnsupportedError: the op has no kernel, or its result's shape depends on values.
        AnecError: the arguments do not fit the op.
    """
    key = _key(op)
    found = _MEMO.get(key)
    if found is None:
        found = _MEMO[key] = _infer(op)
    return found


def _infer(op: Op) -> tuple[Type, ...]:
    if any(isinstance(value.type, TensorType) and not value.type.is_static for value in op.inputs):
        from anec.reference.symbolic import infer_symbolic

        return infer_symbolic(op)
    return run_fake(op, {value: value.tensor for value in op.inputs})


def run_fake(op: Op, types: dict[Value, TensorType]) -> tuple[Type, ...]:
    """Run the kernel of ``op`` on fake tensors of the given static types."""
    kernel = reference.lookup(op.name)
    if kernel is not None and kernel.data_dependent:
        raise UnsupportedError(f"the shape of {op.name}'s result depends on values", where=op.origin.place)
    with FakeTensorMode(allow_non_fake_inputs=True), _quiet():
        fake = {value: torch.empty(t.static_shape, dtype=torch_dtype(t.dtype)) for value, t in types.items()}
        try:
            function, positional, keywords = kernel_arguments(op, fake)
            results = function(*positional, **keywords)
        except AnecError:
            raise
        except Exception as error:  # torch raises many kinds for arguments that do not fit
            reason = str(error).strip().splitlines() or [type(error).__name__]
            shown = ", ".join(_show(operand) for operand in op.operands)
            raise AnecError(
                f"{op.name}({shown}) does not type: {reason[0]}", where=op.origin.place or None
            ) from error
    if op.defn.results == 0:
        return ()
    return tuple(_recorded(op, result) for result in (results if isinstance(results, (tuple, list)) else (results,)))


def _recorded(op: Op, result: Any) -> TensorType:
    if not isinstance(result, torch.Tensor):
        raise AnecError(f"the kernel of {op.name} gave {type(result).__name__}, not a tensor")
    return type_of(result)


def _show(operand: object) -> str:
    if isinstance(operand, Value):
        return f"%{operand.name}: {operand.type}"
    return str(operand) if isinstance(operand, Literal) else "none"


class _quiet:
    """Keep torch's fake-tensor log lines away: a failed inference is an error of ours to tell."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch._subclasses.fake_tensor")
        self.level = self.logger.level
        self.logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)


__all__ = ["StateType", "dtype_of", "infer", "run_fake", "type_of"]

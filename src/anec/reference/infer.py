"""Type inference: an op's kernel, run on fake tensors; memoised by kernel, operand types and attributes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anec import reference
from anec.errors import AnecError, UnsupportedError
from anec.ir.attrs import Attr, Literal, attr_key
from anec.ir.build import bounds_of
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.known_sizes import known_sizes
from anec.ir.types import DTYPES, DType, StateType, TensorType, Type
from anec.ir.weights import _TORCH_NAMES, torch_dtype
from anec.reference.call import Sizes, computed_shapes, kernel_arguments

# Shared by all compilations of a process; forgotten when full, so that a long-lived one does not grow.
_MEMO: dict[tuple[object, ...], tuple[Type, ...]] = {}
_MOST_REMEMBERED = 1 << 16
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
    sizes = tuple(str(known_sizes(operand)) for operand in computed_shapes(op))
    # A plugin may replace a kernel; some kernels of torch's follow its default dtype.
    return (op.name, reference.lookup(op.name), torch.get_default_dtype(), operands, lengths, attrs, sizes)


def infer(op: Op) -> tuple[Type, ...]:
    """The types of the results of ``op``.

    Raises:
        UnsupportedError: the op has no kernel, or its result's shape depends on values.
        AnecError: the arguments do not fit the op.
    """
    symbols = sorted(symbols_of(op))
    key = (*_key(op), *((name, bounds_of(name)) for name in symbols))
    found = _MEMO.get(key)
    if found is None:
        if len(_MEMO) >= _MOST_REMEMBERED:
            _MEMO.clear()
        found = _MEMO[key] = _infer(op, symbols)
    return found


def symbols_of(op: Op) -> set[str]:
    """The dimension symbols in the types, literals, attributes and computed shapes an op is given."""
    found: set[str] = set()
    for shape in computed_shapes(op):
        found |= _symbols_in(known_sizes(shape))
    for operand in op.operands:
        if isinstance(operand, Value):
            if not operand.tensor.is_static:
                found |= _symbols_in(operand.tensor.shape)
        elif isinstance(operand, Literal):
            found |= _symbols_in(operand.value)
    for attr in op.attrs.values():
        found |= _symbols_in(attr)
    return found


def _symbols_in(value: Attr) -> set[str]:
    if isinstance(value, Expr):
        return value.symbols()
    return {name for item in value for name in _symbols_in(item)} if isinstance(value, tuple) else set()


def _infer(op: Op, symbols: list[str]) -> tuple[Type, ...]:
    if symbols:
        from anec.reference.symbolic import infer_symbolic

        return infer_symbolic(op, symbols)
    return run_fake(op, {value: value.tensor for value in op.inputs})


def run_fake(
    op: Op, types: Mapping[Value, TensorType], sizes: Mapping[str, int] = MappingProxyType({})
) -> tuple[Type, ...]:
    """Run the kernel of ``op`` on fake tensors of the given static types.

    Raises:
        UnsupportedError: the op has no kernel, or its result's shape depends on values.
        AnecError: the arguments do not fit the op.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), quiet():
        fake = {value: torch.empty(t.static_shape, dtype=torch_dtype(t.dtype)) for value, t in types.items()}
        return tuple(type_of(result) for result in run_kernel(op, fake, sizes))


def run_kernel(op: Op, tensors: Mapping[Value, torch.Tensor], sizes: Sizes) -> list[torch.Tensor]:
    """The results of the kernel of ``op`` on tensors that stand for its operands.

    Raises:
        UnsupportedError: the op has no kernel, or its result's shape depends on values.
        AnecError: the arguments do not fit the op.
    """
    kernel = reference.lookup(op.name)
    if kernel is not None and kernel.data_dependent:
        raise UnsupportedError(f"the shape of {op.name}'s result depends on values", where=op.origin.place)
    try:
        function, positional, keywords = kernel_arguments(op, tensors, sizes=sizes)
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
        return []
    many = results if isinstance(results, (tuple, list)) else (results,)
    for result in many:
        if not isinstance(result, torch.Tensor):
            raise AnecError(f"the kernel of {op.name} gave {type(result).__name__}, not a tensor")
    return list(many)


def _show(operand: object) -> str:
    if isinstance(operand, Value):
        return f"%{operand.name}: {operand.type}"
    return str(operand) if isinstance(operand, Literal) else "none"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's fake-tensor log lines away: a failed inference is an error of ours to tell."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


__all__ = ["StateType", "dtype_of", "infer", "quiet", "run_fake", "run_kernel", "symbols_of", "type_of"]

"""Calling an op's kernel: which torch function, with which arguments."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
import torch._refs
from torch._subclasses.fake_tensor import FakeTensor

from anec import reference
from anec.errors import UnsupportedError
from anec.ir.attr_types import attr_dtype, domain_dtypes, first_number, round_half
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.known_sizes import known_sizes
from anec.ir.opdef import Kind, Param
from anec.ir.types import DType
from anec.ir.weights import torch_dtype
from anec.reference.sizes import size_of

# MIL inputs that say how, not what: a literal reaches the kernel as plain Python there.
SHAPE_LIKE = frozenset(
    "shape begin end stride size pad reps k one_hot_vector_size target_size_height target_size_width start step "
    "axis axes begins ends end_masks".split()
)
# Those of them that a program may compute.
_COMPUTED = SHAPE_LIKE & frozenset("shape begin end size pad reps start step".split())
_UNINITIALISED = frozenset("empty empty_like empty_strided empty_permuted new_empty new_empty_strided".split())
_MIL_FLOATS = {"fp16": "fp64", "fp32": "fp64"}
# Values have no strides in the IR (memory formats are dropped), so a view is a reshape.
_STRIDE_FREE = {"aten.view.default": "aten.reshape.default", "aten._unsafe_view.default": "aten.reshape.default"}
# For the same reason what these see of the memory of a value is its elements in row-major order.
_STRIDED = frozenset("as_strided as_strided_copy as_strided_scatter".split())
# torch has no range of these ("arange_cpu" not implemented), though its own decomposition of eye asks for one.
_RANGELESS = frozenset({torch.uint16, torch.uint32, torch.uint64})


@dataclass(frozen=True, slots=True)
class Precision:
    """In which dtype kernels compute.

    Args:
        name: ``declared``, ``double`` or ``pessimistic``; see :mod:`anec.reference.evaluate`.
    """

    name: str

    @property
    def is_double(self) -> bool:
        return self.name == "double"

    def dtype(self, declared: DType) -> torch.dtype:
        """The torch dtype a value of ``declared`` is held in between ops."""
        if self.is_double and declared.is_float:
            return torch.float64
        if self.is_double and declared.is_complex:
            return torch.complex128
        return torch_dtype(declared)


DECLARED = Precision("declared")
DOUBLE = Precision("double")
PESSIMISTIC = Precision("pessimistic")
# Libraries whose ops torch knows once they are imported.
_REGISTERED_ON_IMPORT = frozenset({"torchvision", "torchaudio"})
# What dimension symbols stand for: integers, or torch's symbolic ones.
Sizes = Mapping[str, Any]
_NO_SIZES: Sizes = MappingProxyType({})
PRECISIONS: Mapping[str, Precision] = {p.name: p for p in (DECLARED, DOUBLE, PESSIMISTIC)}


def load_library(name: str) -> None:
    """Import a library of ops that registers them on import, if it is installed."""
    if name in _REGISTERED_ON_IMPORT and importlib.util.find_spec(name) is not None:
        importlib.import_module(name)


@lru_cache(maxsize=4096)
def torch_op(name: str) -> Callable[..., Any]:
    """The torch function of an ``aten`` (or other library's) op.

    Raises:
        UnsupportedError: the installed torch has no such op.
    """
    library, packet, overload = name.split(".")
    load_library(library)
    try:
        found = getattr(getattr(getattr(torch.ops, library), packet), overload)
    except AttributeError:
        raise UnsupportedError(f"torch {torch.__version__} has no op {name}") from None
    assert callable(found)
    return found  # type: ignore[no-any-return]  # torch.ops is untyped


def literal_dtype(op: Op, name: str, literal: Literal) -> DType:
    """The dtype a literal operand has: its own, its domain's, or what its numbers suggest."""
    if literal.dtype is not None:
        return literal.dtype
    param = op.defn.by_name[name]
    kind = first_number(literal.value)
    if isinstance(kind, bool):
        return DType.BOOL
    if param.domain is not None:
        for other in op.defn.operand_params:
            if other.domain == param.domain:
                for index in op.slot(other.name):
                    operand = op.operands[index]
                    if isinstance(operand, Value):
                        return operand.tensor.dtype
    if isinstance(kind, float):
        for value in op.inputs:
            if value.tensor.dtype.is_float:
                return value.tensor.dtype
        return DType.F32
    return DType.I32


def kernel_arguments(
    op: Op,
    tensors: Mapping[Value, torch.Tensor],
    precision: Precision = DECLARED,
    *,
    opset: int = 18,
    sizes: Sizes = _NO_SIZES,
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """The kernel of ``op`` and the arguments to call it with.

    Args:
        op: the op.
        tensors: a tensor for each of its values.
        precision: in which dtype kernels compute.
        opset: the target's iOS number.
        sizes: what dimension symbols in attributes and literals stand for.

    Raises:
        UnsupportedError: the op has no kernel.
        AnecError: a symbol has no size.
    """
    if op.defn.dialect in ("mil", "nn") or reference.lookup(op.name) is not None:
        kernel = reference.lookup(op.name)
        if kernel is None:
            raise UnsupportedError(f"{op.name} has no kernel, so it cannot be run or typed", where=op.origin.place)
        named = _named_arguments(op, tensors, precision, opset, sizes)
        if kernel.takes_opset:
            named["opset"] = opset
        return kernel.function, [], named
    positional, keywords = _torch_arguments(op, tensors, precision, sizes)
    if sizes and op.name in _SIZE_FREE:
        return _SIZE_FREE[op.name], positional, keywords
    function = torch_op(_STRIDE_FREE.get(op.name, op.name))
    if op.defn.root in _STRIDED:
        # A copy, as a contiguous slice still begins in the middle of its memory.
        positional[0] = positional[0].clone(memory_format=torch.contiguous_format)
    if op.defn.root == "gather":
        # Places are int32 once they are narrowed, which torch 2.7 does not take.
        positional[2] = positional[2].long()
    if op.defn.root == "arange" and keywords.get("dtype") in _RANGELESS:
        return _narrowed(function, keywords.pop("dtype")), positional, keywords
    return _zeroed(function) if op.defn.root in _UNINITIALISED else function, positional, keywords


def _zeroed(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Memory that torch leaves as it was is zeros here, as the lowering has it."""
    return lambda *args, **kwargs: function(*args, **kwargs).zero_()


def _narrowed(function: Callable[..., torch.Tensor], dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    return lambda *args, **kwargs: function(*args, **kwargs).to(dtype)


def _pad(x: torch.Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> torch.Tensor:
    if mode != "constant":
        return torch.ops.aten.pad.default(x, pad, mode, value)  # type: ignore[no-any-return]  # torch.ops is untyped
    return torch._refs.constant_pad_nd(x, pad, value or 0)


# torch's own composites of these fix every symbolic size to its example.
_SIZE_FREE: Mapping[str, Callable[..., Any]] = {
    "aten.constant_pad_nd.default": torch._refs.constant_pad_nd,
    "aten.pad.default": _pad,
}


def computed_shapes(op: Op) -> list[Value]:
    """The values that tell ``op`` a shape; inference asks what is known of their numbers."""
    if op.defn.dialect != "mil":
        return []
    names = [name for name in op.defn.by_name if name in _COMPUTED and op.defn.by_name[name].kind is Kind.OPERAND]
    operands = (op.operand(name) for name in names)
    return [operand for operand in operands if isinstance(operand, Value)]


def _named_arguments(
    op: Op, tensors: Mapping[Value, torch.Tensor], precision: Precision, opset: int, sizes: Sizes
) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for param in op.defn.params:
        if param.kind is Kind.ATTR:
            if param.name in op.attrs:
                named[param.name] = _mil_attr(op, param.name, precision, sizes)
            if op.defn.dialect == "mil" and not precision.is_double and _is_half(op):
                _round_attr(op, param, named, opset)
            continue
        operands = [op.operands[i] for i in op.slot(param.name)]
        given: list[Any] = []
        for operand in operands:
            if isinstance(operand, Value):
                tensor = tensors[operand]
                computed = param.name in _COMPUTED and op.defn.dialect == "mil" and isinstance(tensor, FakeTensor)
                known = known_sizes(operand) if computed else None
                given.append(tensor if known is None else resolved(known, sizes))
            elif isinstance(operand, Literal):
                shape_like = param.name in SHAPE_LIKE and op.defn.dialect == "mil"
                plain = resolved(operand.value, sizes)
                dtype = literal_dtype(op, param.name, operand)
                given.append(plain if shape_like else torch.tensor(plain, dtype=precision.dtype(dtype)))
            else:
                given.append(None)
        if param.kind is Kind.VARIADIC:
            named[param.name] = given
        elif given[0] is not None:
            named[param.name] = given[0]
    return named


def _is_half(op: Op) -> bool:
    return any(value.tensor.dtype is DType.F16 for value in op.inputs)


def _round_attr(op: Op, param: Param, named: dict[str, Any], opset: int) -> None:
    """An epsilon beside float16 is a float16 constant: 1e-5 is 1.0014e-5 there, and 1e-12 is 0."""
    value = named.get(param.name, param.default)
    if not isinstance(first_number(value), float):
        return
    versions = [version for version in op.defn.versions if version.since <= opset]
    params = versions[-1].params if versions else op.defn.params
    declared = next((p for p in params if p.name == param.name), param)
    if attr_dtype(op, declared, value, domain_dtypes(op, params)) is DType.F16:
        rounded = round_half(value)
        if rounded != value:
            named[param.name] = rounded


def _mil_attr(op: Op, name: str, precision: Precision, sizes: Sizes) -> Any:
    value = resolved(op.attrs[name], sizes)
    if precision.is_double and isinstance(value, str) and name in ("dtype", "output_dtype"):
        return _MIL_FLOATS.get(value, value)
    return value


def _torch_arguments(
    op: Op, tensors: Mapping[Value, torch.Tensor], precision: Precision, sizes: Sizes
) -> tuple[list[Any], dict[str, Any]]:
    schema = torch_op(op.name)._schema  # type: ignore[attr-defined]  # OpOverload, untyped
    keyword_only = {argument.name for argument in schema.arguments if argument.kwarg_only}
    ignored = {argument.name for argument in schema.arguments} - set(op.defn.by_name)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    by_name = op.defn.by_name
    open_end = True
    for argument in schema.arguments:
        name = argument.name
        if name in ignored:
            open_end = open_end and argument.kwarg_only
            continue
        param = by_name[name]
        if param.kind is Kind.ATTR:
            if name not in op.attrs and (argument.has_default_value() or param.required):
                # torch's own default; some of torch's Python kernels take fewer arguments than the schema.
                open_end = False
                continue
            given: Any = torch_attr(op.attrs[name], precision, sizes) if name in op.attrs else None
        else:
            items = [torch_operand(op.operands[i], tensors, sizes) for i in op.slot(name)]
            given = items if param.kind is Kind.VARIADIC else items[0]
        # Old torch takes alpha by keyword only; what follows it cannot be positional then.
        open_end = open_end and name != "alpha"
        if name in keyword_only or not open_end:
            keywords[name] = given
        else:
            positional.append(given)
    return positional, keywords


def torch_operand(operand: Any, tensors: Mapping[Value, torch.Tensor], sizes: Sizes = _NO_SIZES) -> Any:
    """An operand as torch takes it: a tensor, or a Python number (which promotes weakly)."""
    if isinstance(operand, Value):
        return tensors[operand]
    return resolved(operand.value, sizes) if isinstance(operand, Literal) else None


def torch_attr(value: Attr, precision: Precision, sizes: Sizes = _NO_SIZES) -> Any:
    """An attribute as torch takes it: dtypes become torch's (wide in double precision)."""
    if isinstance(value, DType):
        return precision.dtype(value)
    if isinstance(value, tuple):
        return [torch_attr(item, precision, sizes) for item in value]
    return resolved(value, sizes)


def resolved(value: Attr, sizes: Sizes) -> Any:
    """An attribute with dimension expressions replaced by what they are for ``sizes``.

    Raises:
        AnecError: a symbol has no size.
    """
    if isinstance(value, Expr):
        return size_of(value, sizes)
    if isinstance(value, tuple) and any(isinstance(item, (Expr, tuple)) for item in value):
        return tuple(resolved(item, sizes) for item in value)
    return value

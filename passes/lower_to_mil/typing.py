"""Typing of lowerings: one policy of promotion and narrowing, used by every rule.

torch types a value by its own promotion rules, and ``torch.export`` records the outcome; a lowering
reads that type, narrows it to what Core ML holds it in (i64 -> i32, f64 -> f32, ...), and casts the
operands to the dtype the op computes in. Python numbers never promote: they take the op's dtype.
"""

from __future__ import annotations

import math

from anec.dialects import mil
from anec.errors import AnecError, UnsupportedError
from anec.ir.attrs import Attr, Literal
from anec.ir.build import as_operand
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind, Operand
from anec.ir.types import DType, TensorType, narrowed
from anec.passes.lower_to_mil.symbolic import scalar
from anec.rewrite import reject

# The integers that Core ML holds in int32, and that wrap around before it does.
NARROW_INTEGERS = (DType.U8, DType.I8, DType.U16, DType.I16)
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
# torch writes "to the end" as the largest int64.
END = 2**63 - 1
MIL_NAMES = {
    DType.F16: "fp16",
    DType.F32: "fp32",
    DType.I32: "int32",
    DType.BOOL: "bool",
}


def result_type(op: Op, index: int = 0) -> TensorType:
    """The narrowed type of a result of ``op``: what the lowering must give.

    Raises:
        UnsupportedError: a complex or otherwise inexpressible dtype.
    """
    type_ = narrowed(op.results[index].type)
    assert isinstance(type_, TensorType)
    if type_.dtype not in MIL_NAMES:
        raise UnsupportedError(f"{op.name} gives {type_.dtype}, which Core ML does not have", where=op.origin.place)
    return type_


def dtype_of(operand: Operand) -> DType | None:
    """The narrowed dtype of a value; None for a Python number."""
    if isinstance(operand, Value):
        type_ = narrowed(operand.tensor)
        assert isinstance(type_, TensorType)
        return type_.dtype
    return operand.dtype if isinstance(operand, Literal) else None


def argument(op: Op, name: str) -> Operand:
    """The parameter ``name`` as an operand, whether torch's schema has a tensor or a number there.

    Where the result is an integer of 8 or 16 bits, a number or an integer without axes wraps around to it, as in torch.
    """
    if op.defn.by_name[name].kind is not Kind.ATTR:
        found = op.operand(name)
    else:
        found = None if op.attr(name) is None else Literal(op.attr(name))
    dtype = op.results[0].tensor.dtype
    if dtype not in NARROW_INTEGERS:
        return found
    if isinstance(found, Literal):
        return Literal(in_range(found.value, dtype), found.dtype)
    if isinstance(found, Value) and found.rank == 0 and found.tensor.dtype in (DType.I32, DType.I64):
        return wrap(value(found, DType.I32), dtype)
    return found


def wrap(result: Value, dtype: DType) -> Value:
    """An int32 tensor reduced modulo the size of an integer type of 8 or 16 bits."""
    low, high = dtype.range
    shifted = result if low == 0 else mil.sub(result, low)
    remainder = mil.mod(shifted, high - low + 1)
    return remainder if low == 0 else mil.add(remainder, low)


def in_range(given: Attr, dtype: DType) -> Attr:
    """A Python number as a tensor of ``dtype`` takes it: an integer wraps around in 8 and 16 bits."""
    whole = isinstance(given, int) and not isinstance(given, bool) and dtype in NARROW_INTEGERS
    return dtype.wrapped(given) if whole else given  # type: ignore[arg-type]  # an int, if it is whole


def promoted(*operands: Operand) -> DType:
    """The dtype torch computes in, for ops whose result does not tell it (comparisons).

    Tensors with axes come first; rank-0 tensors, then Python numbers, count only when they are of a
    higher kind (bool < integer < float).
    """
    values = [operand for operand in operands if isinstance(operand, Value)]
    literals = [operand for operand in operands if isinstance(operand, Literal)]
    groups = (
        [dtype_of(value) for value in values if value.rank > 0],
        [dtype_of(value) for value in values if value.rank == 0],
        [_number_dtype(literal.value) for literal in literals],
    )
    result = DType.BOOL
    for group in groups:
        joined = _joined([dtype for dtype in group if dtype is not None])
        if _kind(joined) > _kind(result):
            result = joined
    return result


def _kind(dtype: DType) -> int:
    return 2 if dtype.is_float else int(dtype.is_integer)


def _joined(dtypes: list[DType]) -> DType:
    highest = max(map(_kind, dtypes), default=0)
    found = {dtype for dtype in dtypes if _kind(dtype) == highest}
    if len(found) == 1:
        return found.pop()
    return (DType.BOOL, DType.I32, DType.F32)[highest]


def _number_dtype(given: Attr) -> DType | None:
    if isinstance(given, bool):
        return DType.BOOL
    return DType.I32 if isinstance(given, (int, Expr)) else DType.F32 if isinstance(given, float) else None


def cast(operand: Operand, dtype: DType) -> Operand:
    """``operand`` in ``dtype``: a cast where the dtype differs, a converted number for a literal.

    A symbolic size is computed.

    Raises:
        AnecError: an integer constant does not fit int32.
    """
    if isinstance(operand, Literal) and isinstance(operand.value, Expr):
        operand = as_operand(scalar(operand.value))
    if isinstance(operand, Value):
        if operand.tensor.dtype is dtype:
            return operand
        return mil.cast(operand, dtype=MIL_NAMES[dtype])
    if isinstance(operand, Literal):
        return Literal(number(operand.value, dtype))
    return None


def value(operand: Operand, dtype: DType) -> Value:
    """``operand`` in ``dtype`` as a value; rules on unary ops, whose operand cannot be a number.

    Raises:
        Reject: the operand is a Python number or absent.
    """
    found = cast(operand, dtype)
    if not isinstance(found, Value):
        reject(f"the operand is {found}, not a tensor")
    return found


def number(given: Attr, dtype: DType) -> Attr:
    """A Python number (or nested list) as ``dtype`` holds it.

    Raises:
        AnecError: an integer beyond int32.
    """
    if isinstance(given, tuple):
        return tuple(number(item, dtype) for item in given)
    if not isinstance(given, (bool, int, float)):
        return given
    if dtype is DType.BOOL:
        return bool(given)
    if dtype.is_integer:
        if isinstance(given, float) and not math.isfinite(given):
            raise AnecError(f"{given} cannot be an integer")
        return int32(int(given))
    return float(given)


def int32(given: int) -> int:
    """An integer constant, which must fit int32; torch's "to the end" is clamped.

    Raises:
        AnecError: the integer does not fit.
    """
    if given >= END:
        return INT32_MAX
    if given == -END - 1:
        return INT32_MIN
    if not INT32_MIN <= given <= INT32_MAX:
        raise AnecError(f"the constant {given} does not fit int32, the widest integer of Core ML")
    return given


def static(type_: TensorType) -> tuple[int, ...]:
    """The shape of a static type; rejects a rule on a symbolic one, naming what to fix."""
    if not type_.is_static:
        free = sorted({name for dim in type_.shape if isinstance(dim, Expr) for name in dim.symbols()})
        reject(f"it takes fixed sizes only, and {type_} has free ones: fix {', '.join(free)}")
    return type_.static_shape


def axis(given: Attr, rank: int) -> int:
    """A torch dim, negative ones counted from the end, as an axis in range.

    Raises:
        AnecError: out of range.
    """
    if not isinstance(given, int) or not -max(rank, 1) <= given < max(rank, 1):
        raise AnecError(f"the dim {given} is out of range for rank {rank}")
    return given % max(rank, 1)


def axes(given: Attr, rank: int) -> tuple[int, ...]:
    """Torch dims as ascending axes; None or an empty list means all."""
    if given is None or given == ():
        return tuple(range(rank))
    items = given if isinstance(given, tuple) else (given,)
    return tuple(sorted(axis(item, rank) for item in items))


def numbers(given: Attr, count: int | None = None) -> tuple[int, ...]:
    """The static whole numbers of an attribute; ``count`` of them if that is given, where one stands for all.

    Raises:
        Reject: there are others, or another count.
    """
    items = given if isinstance(given, tuple) else (given,)
    items = items * count if count is not None and len(items) == 1 else items
    found = tuple(item for item in items if isinstance(item, int))
    if len(found) != len(items) or count not in (None, len(items)):
        reject(f"{given} is not {'all' if count is None else count} static numbers")
    return found

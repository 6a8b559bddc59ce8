"""What lowerings of several families build: choices, fills, broadcasts, booleans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.errors import UnsupportedError
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Dim
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.symbolic import vector
from anec.passes.lower_to_mil.typing import cast, number
from anec.pipeline.base import Context
from anec.rewrite import reject

if TYPE_CHECKING:
    import torch

# Core ML's ops on tensors, bar those of shape and logic, take no bool: they run on this instead.
BOOL_CARRIER = DType.F32


def carrier(dtype: DType) -> DType:
    """The dtype to compute in where an op takes no bool."""
    return BOOL_CARRIER if dtype is DType.BOOL else dtype


def as_value(operand: Operand) -> Value:
    """The operand, which must be a tensor.

    Raises:
        Reject: it is a Python number or absent.
    """
    if not isinstance(operand, Value):
        reject(f"the operand is {operand}, not a tensor")
    return operand


def filled(shape: Iterable[int], given: Attr, dtype: DType) -> Value:
    """A constant tensor that holds one number everywhere."""
    value = mil.fill(shape=tuple(shape), value=number(given, dtype))
    # fill's number is f32, i32 or bool by its Python type.
    return mil.cast(value, dtype="fp16") if dtype is DType.F16 else value


def filled_like(like: Value, given: Attr, dtype: DType) -> Value:
    """A tensor of the shape of ``like`` that holds one number everywhere; symbolic shapes too."""
    if like.tensor.is_static:
        return filled(like.shape, given, dtype)
    value = mil.fill(shape=mil.shape(like), value=number(given, dtype))
    return mil.cast(value, dtype="fp16") if dtype is DType.F16 else value


def computed_fill(type_: TensorType, given: Attr) -> Value:
    """A tensor of a symbolic shape that holds one number everywhere."""
    value = mil.fill(shape=vector(type_.shape), value=number(given, type_.dtype))
    return mil.cast(value, dtype="fp16") if type_.dtype is DType.F16 else value


def broadcast_to(value: Value, shape: tuple[Dim, ...]) -> Value:
    """``value`` repeated to ``shape``, as numpy broadcasts."""
    missing = len(shape) - value.rank
    if missing > 0:
        value = mil.expand_dims(value, axes=tuple(range(missing)))
    sizes = value.tensor.shape
    if sizes == shape:
        return value
    fixed = [size for size in shape if isinstance(size, int)]
    if 0 in fixed and len(fixed) == len(shape):
        return filled(fixed, 0, value.tensor.dtype)  # a tile has no reps of 0
    return mil.tile(value, reps=vector([1 if have == want else want for have, want in zip(sizes, shape, strict=True)]))


def with_rank(value: Value, rank: int) -> Value:
    """``value`` with trailing axes of size 1 up to ``rank``."""
    missing = tuple(range(value.rank, rank))
    return mil.expand_dims(value, axes=missing) if missing else value


def flat(value: Value) -> Value:
    """All elements in a row."""
    return value if value.rank == 1 else mil.reshape(value, shape=(-1,))


def reshaped(value: Value, shape: tuple[Dim, ...]) -> Value:
    """``value`` in another shape; nothing is built when it has it already."""
    if value.tensor.shape == shape:
        return value
    fixed = tuple(size if isinstance(size, int) else -1 for size in shape)
    return mil.reshape(value, shape=fixed if fixed.count(-1) <= 1 else vector(shape))


def transposed(value: Value, perm: tuple[int, ...]) -> Value:
    """``value`` with its axes permuted; nothing is built when they stay."""
    return value if perm == tuple(range(len(perm))) else mil.transpose(value, perm=perm)


def inverse_permutation(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes ``perm``."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


def choose(condition: Operand, a: Operand, b: Operand, type_: TensorType) -> Value:
    """``a`` where the condition holds, else ``b``, as a value of ``type_``.

    Core ML's select takes its result shape from ``a`` and ``b`` alone (coremltools,
    ``select.type_inference``), so one of them is brought to the full shape where need be.
    """
    truth = as_value(cast(condition, DType.BOOL))
    left, right = _typed(a, type_.dtype), _typed(b, type_.dtype)
    if isinstance(left, Literal) and isinstance(right, Literal) and truth.tensor.shape == type_.shape:
        if (left.value, right.value) == (1, 0):
            return as_value(cast(truth, type_.dtype))
        if (left.value, right.value) == (0, 1):
            return as_value(cast(mil.logical_not(truth), type_.dtype))
    if _joined_shape(left, right) != type_.shape:
        if isinstance(left, Literal):
            left = _full(left, truth, type_)
        elif isinstance(right, Literal):
            right = _full(right, truth, type_)
        else:
            right = broadcast_to(as_value(right), type_.shape)
    return mil.select(truth, left, right)


def _typed(operand: Operand, dtype: DType) -> Operand:
    found = cast(operand, dtype)
    return Literal(found.value, dtype) if isinstance(found, Literal) else found


def _full(literal: Literal, truth: Value, type_: TensorType) -> Value:
    if type_.is_static:
        return filled(type_.static_shape, literal.value, type_.dtype)
    if truth.tensor.shape != type_.shape:
        return computed_fill(type_, literal.value)
    return filled_like(truth, literal.value, type_.dtype)


def _joined_shape(a: Operand, b: Operand) -> tuple[Dim, ...]:
    shapes = [operand.tensor.shape for operand in (a, b) if isinstance(operand, Value)]
    rank = max(map(len, shapes), default=0)
    joined: list[Dim] = [1] * rank
    for shape in shapes:
        for index, dim in enumerate(shape, rank - len(shape)):
            if dim != 1:
                joined[index] = dim
    return tuple(joined)


def constant_tensor(value: Value, ctx: Context) -> torch.Tensor | None:
    """The numbers of a constant value as a torch tensor; None when it is not constant."""
    from anec.reference.evaluate import evaluate_constant

    return evaluate_constant(value, ctx.module) if is_constant(value) else None


def needs(op: Op, target: int, why: str) -> UnsupportedError:
    """The error of an op that a newer target would take."""
    return UnsupportedError(
        f"{op.name} needs iOS{target}: {why}",
        where=op.origin.place or None,
        hint=f"compile with --target iOS{target}",
    )

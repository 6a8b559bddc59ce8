"""Types: dtypes, tensor types with dimension expressions, states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from anec.errors import AnecError
from anec.ir.dims import Dim, Expr, evaluate


class DType(Enum):
    """An element type, by its name in IR text.

    The sub-byte integers exist for Core ML's compressed weights only.
    """

    F16 = "f16"
    F32 = "f32"
    F64 = "f64"
    BF16 = "bf16"
    C64 = "c64"
    C128 = "c128"
    I4 = "i4"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    U1 = "u1"
    U2 = "u2"
    U3 = "u3"
    U4 = "u4"
    U6 = "u6"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    BOOL = "bool"

    def __repr__(self) -> str:
        return self.value

    def __str__(self) -> str:
        return self.value

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_complex(self) -> bool:
        return self in (DType.C64, DType.C128)

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self is not DType.BOOL and not self.is_float and not self.is_complex

    @property
    def bits(self) -> int:
        """Bits an element takes, packed."""
        if self is DType.BOOL:
            return 8
        return int(self.value.lstrip("bfciu"))

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and largest value of an integer dtype.

        Raises:
            AnecError: the dtype is no integer.
        """
        if not self.is_integer:
            raise AnecError(f"{self} has no integer range")
        if self.value.startswith("u"):
            return 0, 2**self.bits - 1
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    @property
    def largest(self) -> float:
        """The largest finite number of a float dtype; of float64 that of float32, in which Core ML holds it.

        Raises:
            AnecError: the dtype is no float.
        """
        if self not in _LARGEST:
            raise AnecError(f"{self} has no largest float")
        return _LARGEST[self]

    def wrapped(self, number: int) -> int:
        """``number`` modulo 2^bits, within the range of an integer dtype.

        Raises:
            AnecError: the dtype is no integer.
        """
        low, high = self.range
        return (number - low) % (high - low + 1) + low


_LARGEST = {
    DType.F16: 65504.0,
    DType.BF16: 3.3895313892515355e38,
    DType.F32: 3.4028234663852886e38,
    DType.F64: 3.4028234663852886e38,
}
_FLOATS = frozenset(_LARGEST)
DTYPES: Mapping[str, DType] = {dtype.value: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor's dtype and shape; ``f16[1,(S-1)//2+1]``. Rank 0 is ``f32[]``."""

    dtype: DType
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return not any(isinstance(dim, Expr) for dim in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers.

        Raises:
            AnecError: a dimension is symbolic.
        """
        return tuple(_static(dim, self) for dim in self.shape)

    @property
    def size(self) -> int:
        """The number of elements of a static type."""
        total = 1
        for dim in self.static_shape:
            total *= dim
        return total

    @property
    def bytes(self) -> int:
        """Packed size in bytes of a static type."""
        return (self.size * self.dtype.bits + 7) // 8

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def with_shape(self, shape: tuple[Dim, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    def at(self, sizes: Mapping[str, int]) -> TensorType:
        """The type with symbols replaced by ``sizes``."""
        return TensorType(self.dtype, tuple(evaluate(dim, sizes) for dim in self.shape))


def _static(dim: Dim, owner: TensorType) -> int:
    if isinstance(dim, Expr):
        raise AnecError(f"{owner} has the symbolic dimension {dim}", hint="this needs a static shape")
    return dim


@dataclass(frozen=True, slots=True)
class StateType:
    """A buffer that survives between calls; ``state<f16[1,8]>``. Core ML has it from iOS18."""

    tensor: TensorType

    def __str__(self) -> str:
        return f"state<{self.tensor}>"


Type = TensorType | StateType


def tensor_type(type_: Type) -> TensorType:
    """The tensor type of a value, looking through a state."""
    return type_.tensor if isinstance(type_, StateType) else type_


# Core ML computes in f16, f32, i32 and bool; this is what every other dtype is held in there.
NARROW: Mapping[DType, DType] = {
    DType.F64: DType.F32,
    DType.BF16: DType.F32,
    DType.I64: DType.I32,
    DType.I16: DType.I32,
    DType.I8: DType.I32,
    DType.U8: DType.I32,
    DType.U16: DType.I32,
    DType.U32: DType.I32,
}


def narrowed(type_: Type) -> Type:
    """The type Core ML holds values of ``type_`` in."""
    if isinstance(type_, StateType):
        return StateType(type_.tensor.with_dtype(NARROW.get(type_.tensor.dtype, type_.tensor.dtype)))
    return type_.with_dtype(NARROW.get(type_.dtype, type_.dtype))

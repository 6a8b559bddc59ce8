"""Weights: references to tensors that live elsewhere, never copies.

A weight's data is the caller's own torch tensor or a slice of a file; passes move references only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from anec.errors import AnecError
from anec.ir.types import DType, TensorType

if TYPE_CHECKING:
    import torch


class WeightData(Protocol):
    """Where a weight's numbers are."""

    def tensor(self) -> torch.Tensor:
        """A view of the numbers; nothing is copied."""
        ...

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two references to the same storage, offset, strides and type."""
        ...


class TensorData:
    """A weight that is a torch tensor in memory (or a view of a mapped file)."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor.detach()

    def tensor(self) -> torch.Tensor:
        return self._tensor

    @property
    def identity(self) -> tuple[object, ...]:
        t = self._tensor
        return (t.data_ptr(), t.storage_offset(), tuple(t.shape), tuple(t.stride()), str(t.dtype))


class _MappedFile:
    """The bytes of a file, mapped copy-on-write: a kernel that wrote into them could not reach the file."""

    def __init__(self, path: Path, size: int) -> None:
        import torch

        self.bytes = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)


# Files in use, by place and version: mapped once, however many weights they hold.
_MAPPED: WeakValueDictionary[tuple[object, ...], _MappedFile] = WeakValueDictionary()


def _mapped_file(path: Path) -> _MappedFile:
    status = path.stat()
    key = (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    found = _MAPPED.get(key)
    if found is None:
        found = _MAPPED[key] = _MappedFile(path, status.st_size)
    return found


class FileData:
    """A weight that is a slice of a file, little-endian and dense, mapped on first use."""

    def __init__(self, path: Path, offset: int, type_: TensorType) -> None:
        self.path, self.offset, self.type = path, offset, type_
        self._file: _MappedFile | None = None

    @cached_property
    def _mapped(self) -> torch.Tensor:
        import torch

        count = self.type.size
        dtype = {DType.BOOL: torch.bool}.get(self.type.dtype) or getattr(torch, _TORCH_NAMES[self.type.dtype])
        if count == 0:
            return torch.empty(self.type.static_shape, dtype=dtype)
        end = self.offset + count * dtype.itemsize
        if not self.path.is_file() or self.path.stat().st_size < end:
            raise AnecError(f"the weights file {self.path} is missing or too short (need {end} bytes)")
        self._file = _mapped_file(self.path)  # held here, so that other weights find it
        raw = self._file.bytes[self.offset : end]
        if raw.data_ptr() % dtype.itemsize:
            raw = raw.clone()
        return raw.view(dtype).reshape(self.type.static_shape)

    def tensor(self) -> torch.Tensor:
        return self._mapped

    @property
    def identity(self) -> tuple[object, ...]:
        return (str(self.path), self.offset, str(self.type))


_TORCH_NAMES = {
    DType.F16: "float16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.BF16: "bfloat16",
    DType.C64: "complex64",
    DType.C128: "complex128",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.U8: "uint8",
    DType.U16: "uint16",
    DType.U32: "uint32",
    DType.BOOL: "bool",
    # Sub-byte elements are held unpacked, a byte each.
    DType.I4: "int8",
    DType.U1: "uint8",
    DType.U2: "uint8",
    DType.U3: "uint8",
    DType.U4: "uint8",
    DType.U6: "uint8",
}


def torch_dtype(dtype: DType) -> torch.dtype:
    """The torch dtype that holds ``dtype`` (a byte an element for sub-byte ones)."""
    import torch

    found = getattr(torch, _TORCH_NAMES[dtype])
    assert isinstance(found, torch.dtype)
    return found


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor in the order of its elements."""
    import torch

    # A view as bytes wants a step of 1, and a single element may have any.
    flat = tensor.contiguous().as_strided((tensor.numel(),), (1,))
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


@dataclass(eq=False, slots=True)
class Weight:
    """A named weight of a module.

    Args:
        name: unique in the module; the parameter's path in the torch model.
        type: dtype and static shape.
        data: where the numbers are; None in a text that was read without its weights.
    """

    name: str
    type: TensorType
    data: WeightData | None = None
    _digest: str | None = None
    _extent: tuple[float, float] | None = None

    def tensor(self) -> torch.Tensor:
        """The numbers, as a view.

        Raises:
            AnecError: the module was read without its weights.
        """
        if self.data is None:
            raise AnecError(
                f"the weight {self.name!r} has no data",
                hint="read the text beside its dump folder, which refers to the weights",
            )
        return self.data.tensor()

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for weights that are the same memory."""
        return (self.name,) if self.data is None else self.data.identity

    def extent(self) -> tuple[float, float]:
        """The smallest and largest number, NaN if there is one; read once. (0, 0) when empty or complex."""
        if self._extent is None:
            tensor = self.tensor()
            if not tensor.numel() or tensor.is_complex():
                return 0.0, 0.0
            low, high = tensor.aminmax()
            self._extent = float(low), float(high)
        return self._extent

    def digest(self) -> str:
        """SHA-256 of dtype, shape and bytes, computed once."""
        if self._digest is None:
            state = hashlib.sha256(str(self.type).encode())
            state.update(raw_bytes(self.tensor()))
            self._digest = state.hexdigest()
        return self._digest

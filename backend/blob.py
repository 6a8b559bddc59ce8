"""The weights file of a model package: MIL's blob storage format, version 2.

A 64-byte header (count of records, version) and then, for every tensor, a 64-byte record and its
bytes, both at multiples of 64. A program refers to a tensor by the offset of its record. Elements
below a byte are packed from the lowest bit up. (Source: coremltools' ``MILBlob/Blob/StorageFormat.hpp``.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from anec.errors import AnecError
from anec.ir.types import DType, TensorType
from anec.ir.weights import FileData, WeightData

if TYPE_CHECKING:
    import torch

ALIGNMENT = 64
_SENTINEL = 0xDEADBEEF
_VERSION = 2
_HEADER = struct.Struct("<II56x")
_RECORD = struct.Struct("<IIQQQ32x")
_CODES: Mapping[DType, int] = {
    DType.F16: 1,
    DType.F32: 2,
    DType.U8: 3,
    DType.I8: 4,
    DType.I16: 6,
    DType.U16: 7,
    DType.I4: 8,
    DType.U1: 9,
    DType.U2: 10,
    DType.U4: 11,
    DType.U3: 12,
    DType.U6: 13,
    DType.I32: 14,
    DType.U32: 15,
}
# Whole groups of 8 elements end on a byte, so a large tensor is packed in chunks of groups.
_CHUNK = 1 << 20


def pack(elements: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Pack elements of one byte each into ``bits`` bits each, lowest bit first."""
    flat = np.ascontiguousarray(elements).reshape(-1).view(np.uint8)
    packed = np.empty((flat.size * bits + 7) // 8, np.uint8)
    for start in range(0, flat.size, _CHUNK):
        columns = np.unpackbits(flat[start : start + _CHUNK, None], axis=1, bitorder="little", count=bits)
        part = np.packbits(columns, bitorder="little")
        packed[start * bits // 8 : start * bits // 8 + part.size] = part
    return packed


def unpack(packed: np.ndarray[Any, Any], bits: int, count: int, *, signed: bool) -> np.ndarray[Any, Any]:
    """Read ``count`` elements of ``bits`` bits each; one byte an element, sign-extended if signed."""
    found = np.empty(count, np.uint8)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        part = packed[start * bits // 8 : (start * bits + size * bits + 7) // 8]
        columns = np.unpackbits(part, bitorder="little", count=size * bits).reshape(size, bits)
        found[start : start + size] = np.packbits(columns, axis=1, bitorder="little")[:, 0]
    if not signed:
        return found
    high = np.uint8(1 << (bits - 1))
    return ((found ^ high) - high).view(np.int8)


class BlobWriter:
    """Appends tensors to a weights file, which is made when the first one comes.

    Args:
        path: the file, in a folder that may be missing yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._count = 0
        self._end = _HEADER.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, array: np.ndarray[Any, Any], dtype: DType) -> int:
        """Write a tensor (sub-byte elements a byte each) and return the offset of its record."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
            self._file.write(_HEADER.pack(0, _VERSION))
        record = -(-self._end // ALIGNMENT) * ALIGNMENT
        data = record + _RECORD.size
        small = dtype.bits < 8
        payload = pack(array, dtype.bits) if small else np.ascontiguousarray(array)
        padding = payload.nbytes * 8 - array.size * dtype.bits if small else 0
        self._file.write(b"\0" * (record - self._end))
        self._file.write(_RECORD.pack(_SENTINEL, _CODES[dtype], payload.nbytes, data, padding))
        # A uint8 view: not every numpy dtype offers the buffer protocol.
        self._file.write(payload.reshape(-1).view(np.uint8).data)
        self._count += 1
        self._end = data + payload.nbytes
        return record

    def mapped(self, record: int, dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """What was written at ``record``, mapped from the file; not for sub-byte elements."""
        assert self._file is not None
        assert dtype.bits >= 8
        self._file.flush()
        kind = np.dtype({DType.F16: "f2", DType.F32: "f4"}.get(dtype, f"{dtype.value[0]}{dtype.bits // 8}"))
        return np.memmap(self.path, kind, "r", record + _RECORD.size, shape)

    def close(self) -> None:
        """Write the count of records and close the file."""
        if self._file is not None:
            self._file.seek(0)
            self._file.write(_HEADER.pack(self._count, _VERSION))
            self._file.close()
            self._file = None


class PackedData:
    """A weight of sub-byte elements in a file, mapped on first use; :meth:`tensor` unpacks it anew."""

    def __init__(self, path: Path, offset: int, type_: TensorType) -> None:
        self.path, self.offset, self.type = path, offset, type_

    @cached_property
    def _mapped(self) -> np.ndarray[Any, Any]:
        return np.memmap(self.path, np.uint8, "r", self.offset, (self.type.bytes,))

    def tensor(self) -> torch.Tensor:
        """The elements, a byte each."""
        import torch

        signed = self.type.dtype.value.startswith("i")
        elements = unpack(self._mapped, self.type.dtype.bits, self.type.size, signed=signed)
        return torch.from_numpy(elements.reshape(self.type.static_shape))

    @property
    def identity(self) -> tuple[object, ...]:
        return (str(self.path), self.offset, str(self.type))


def reference(path: Path, record: int, type_: TensorType) -> WeightData:
    """A reference to the tensor whose record is at ``record``; nothing but the record is read.

    Raises:
        AnecError: no weights file, no record there, or one of another dtype or size.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            file.seek(record)
            found = file.read(_RECORD.size)
            length = file.seek(0, 2)
    except OSError as error:
        raise AnecError(f"cannot read the weights file {path}: {error.strerror or error}") from error
    if len(head) < _HEADER.size or _HEADER.unpack(head)[1] != _VERSION:
        raise AnecError(f"{path} is not a weights file of version {_VERSION}")
    if len(found) < _RECORD.size:
        raise AnecError(f"the weights file {path} ends before offset {record}")
    sentinel, code, size, offset, _ = _RECORD.unpack(found)
    if sentinel != _SENTINEL:
        raise AnecError(f"the weights file {path} has no record at offset {record}")
    if code != _CODES.get(type_.dtype) or size != type_.bytes:
        raise AnecError(f"the record at offset {record} of {path} does not hold {type_}")
    if offset + size > length:
        raise AnecError(f"the weights file {path} is cut off: {offset + size} bytes wanted, {length} there")
    kind = PackedData if type_.dtype.bits < 8 else FileData
    return kind(path, offset, type_)

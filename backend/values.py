"""Constants of a saved program: protobuf values as plain attributes or as weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anec.backend.blob import reference, unpack
from anec.backend.target import SUB_BYTE, dtype_of_proto
from anec.errors import AnecError, UnsupportedError
from anec.ir.attrs import Attr
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, WeightData

_IN_BYTES: Mapping[DType, np.dtype[Any]] = {
    DType.F16: np.dtype("<f2"),
    DType.I8: np.dtype("i1"),
    DType.U8: np.dtype("u1"),
    DType.U32: np.dtype("<u4"),
}
_IN_FIELDS: Mapping[DType, tuple[str, type[np.generic]]] = {
    DType.F32: ("floats", np.float32),
    DType.I32: ("ints", np.int32),
    DType.I16: ("ints", np.int16),
    DType.U16: ("ints", np.uint16),
    DType.BOOL: ("bools", np.bool_),
}


@dataclass(slots=True)
class Constant:
    """One constant of a saved program.

    Args:
        name: the const op's name; empty for a value written inside an op.
        text: the string, for a string.
        type: dtype and shape otherwise.
        array: the numbers that are in the program itself; sub-byte ones a byte each.
        data: a reference into the weights file.
    """

    name: str
    text: str | None = None
    type: TensorType | None = None
    array: np.ndarray[Any, Any] | None = None
    data: WeightData | None = None

    def attr(self, *, exact: bool = False) -> Attr:
        """The constant as a plain Python value.

        Args:
            exact: the floats as they are; else the shortest decimals that round to them.

        Raises:
            AnecError: the weights file is missing.
        """
        if self.text is not None:
            return self.text
        numbers = self.numbers()
        return plain(numbers.astype(np.float64) if exact and numbers.dtype.kind == "f" else numbers)

    def numbers(self) -> np.ndarray[Any, Any]:
        if self.array is not None:
            return self.array
        assert self.data is not None
        return np.asarray(self.data.tensor().numpy())

    def weight_data(self) -> WeightData:
        """The constant as a weight's data."""
        if self.data is not None:
            return self.data
        import torch

        return TensorData(torch.from_numpy(np.array(self.array)))


def plain(array: np.ndarray[Any, Any]) -> Attr:
    """Nested tuples of Python numbers; a float16 of 1.7021484375 is 1.702, which rounds back to it."""
    if array.ndim:
        return tuple(plain(item) for item in array)
    number = array[()]
    exact: Attr = number.item()
    shortest = float(str(number)) if array.dtype.kind == "f" else None
    # That of float32's largest number is larger still, as a float64.
    return exact if shortest is None or abs(shortest) > float(np.finfo(array.dtype).max) else shortest


def read_value(value: Any, name: str, folder: Path) -> Constant:
    """Read a protobuf value.

    Args:
        value: a ``Value`` of MIL's protobuf.
        name: the name of its const op.
        folder: where weights files lie.

    Raises:
        AnecError: a kind of value that the IR has not, or a damaged weights file.
    """
    kind = value.type.WhichOneof("type")
    if kind != "tensorType":
        raise UnsupportedError(f"the constant {name!r} is a {kind}, not a tensor")
    tensor = value.type.tensorType
    shape = tuple(int(dim.constant.size) for dim in tensor.dimensions)
    field = value.immediateValue.tensor.WhichOneof("value")
    if field == "strings":
        return Constant(name, text="".join(value.immediateValue.tensor.strings.values))
    type_ = TensorType(dtype_of_proto(tensor.dataType), shape)
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        file = folder / Path(blob.fileName.removeprefix("@model_path/weights/")).name
        return Constant(name, type=type_, data=reference(file, int(blob.offset), type_))
    return Constant(name, type=type_, array=_immediate(value.immediateValue.tensor, type_, name))


def _immediate(tensor: Any, type_: TensorType, name: str) -> np.ndarray[Any, Any]:
    dtype, shape = type_.dtype, type_.static_shape
    try:
        if dtype in SUB_BYTE:
            packed = np.frombuffer(tensor.bytes.values, np.uint8)
            signed = dtype.value.startswith("i")
            return unpack(packed, dtype.bits, type_.size, signed=signed).reshape(shape)
        if dtype in _IN_BYTES:
            return np.frombuffer(tensor.bytes.values, _IN_BYTES[dtype]).reshape(shape)
        field, kind = _IN_FIELDS[dtype]
        return np.array(getattr(tensor, field).values, kind).reshape(shape)
    except ValueError as error:
        raise AnecError(f"the constant {name!r} is damaged: its numbers do not fill {type_}") from error

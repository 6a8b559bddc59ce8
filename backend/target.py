"""What a Core ML target is: its opset, specification version and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anec.backend.quiet import MIL_pb2, ct, types
from anec.errors import AnecError, UsageError
from anec.ir.types import DType

# coremltools.__init__: the specification version and opset name of each iOS release.
_OPSETS: Mapping[int, str] = {
    15: "CoreML5",
    16: "CoreML6",
    17: "CoreML7",
    18: "CoreML8",
    26: "CoreML9",
}
_SPECIFICATIONS: Mapping[int, int] = {15: 6, 16: 7, 17: 8, 18: 9, 26: 10}

_BUILTINS: Mapping[DType, str] = {
    DType.F16: "fp16",
    DType.F32: "fp32",
    DType.BOOL: "bool",
    DType.I4: "int4",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.I32: "int32",
    DType.U1: "uint1",
    DType.U2: "uint2",
    DType.U3: "uint3",
    DType.U4: "uint4",
    DType.U6: "uint6",
    DType.U8: "uint8",
    DType.U16: "uint16",
    DType.U32: "uint32",
}
_PROTO: Mapping[DType, str] = {
    DType.F16: "FLOAT16",
    DType.F32: "FLOAT32",
    DType.BOOL: "BOOL",
    **{dtype: f"INT{dtype.bits}" for dtype in (DType.I4, DType.I8, DType.I16, DType.I32)},
    **{
        dtype: f"UINT{dtype.bits}"
        for dtype in (DType.U1, DType.U2, DType.U3, DType.U4, DType.U6, DType.U8, DType.U16, DType.U32)
    },
}
_BY_PROTO: Mapping[int, DType] = {MIL_pb2.DataType.Value(name): dtype for dtype, name in _PROTO.items()}
SUB_BYTE = frozenset({DType.I4, DType.U1, DType.U2, DType.U3, DType.U4, DType.U6})
CONST_DTYPES = frozenset(_PROTO)


def opset(target: str) -> int:
    """The iOS number of ``"iOS18"``.

    Raises:
        UsageError: anec or the installed coremltools cannot write for that target.
    """
    number = target.removeprefix("iOS")
    if not number.isdigit() or int(number) not in _OPSETS:
        raise UsageError(f"unknown target {target!r}", hint="known: " + ", ".join(f"iOS{n}" for n in _OPSETS))
    if not hasattr(ct.target, target):
        raise UsageError(f"coremltools {ct.__version__} does not know {target}", hint="install a newer one")
    return int(number)


def available_target(number: int) -> Any:
    """The target in coremltools' own terms, ``coremltools.target.iOS18``."""
    return getattr(ct.target, f"iOS{number}")


def specification(number: int) -> int:
    """The specification version of the target, as ``Model.specificationVersion`` holds it."""
    return _SPECIFICATIONS[number]


def target_of_opset(name: str) -> str:
    """The target whose opset is called ``name``.

    Raises:
        AnecError: the opset is none of an ML Program that anec knows.
    """
    for number, known in _OPSETS.items():
        if known == name:
            return f"iOS{number}"
    raise AnecError(f"unknown opset {name!r}", hint="known: " + ", ".join(_OPSETS.values()))


def builtin(dtype: DType) -> Any:
    """The type of ``dtype`` in coremltools.

    Raises:
        AnecError: MIL has no such type.
    """
    if dtype not in _BUILTINS:
        raise AnecError(f"Core ML has no {dtype} tensors")
    return types.string_to_builtin(_BUILTINS[dtype])


_BY_BUILTIN = {builtin(dtype): dtype for dtype in _BUILTINS}


def dtype_of_builtin(kind: Any) -> DType | None:
    """The dtype of coremltools' type ``kind``; None when the IR has none."""
    return _BY_BUILTIN.get(kind)


def mil_name(dtype: DType) -> str:
    """The dtype as MIL spells it in parameters such as ``cast``'s: ``"fp16"``."""
    return _BUILTINS.get(dtype, str(dtype))


def dtype_of_proto(number: int) -> DType:
    """The dtype of a number in MIL's protobuf.

    Raises:
        AnecError: the IR has no such dtype (a string, a 64-bit type).
    """
    if number not in _BY_PROTO:
        raise AnecError(f"tensors of {MIL_pb2.DataType.Name(number)} are not supported")
    return _BY_PROTO[number]


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The numpy dtype that holds ``dtype``: a byte an element for sub-byte ones, tagged for coremltools."""
    found: np.dtype[Any] = np.dtype(types.nptype_from_builtin(builtin(dtype)))
    return found

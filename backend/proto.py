"""A module as Core ML's protobuf: the emitted program through coremltools' exporter, and a description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anec.backend.constants import MemoryStore, Store
from anec.backend.describe import describe
from anec.backend.emission import emit
from anec.backend.quiet import MIL_pb2, Model_pb2, quiet
from anec.backend.target import opset, specification
from anec.errors import AnecError
from anec.ir.graph import Module

with quiet():
    from coremltools.converters.mil.backend.mil.helper import create_immediate_value, types_to_proto_primitive
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter

WEIGHTS = "@model_path/weights/weight.bin"
_FIELDS = {np.dtype(np.float32): "floats", np.dtype(np.int32): "ints", np.dtype(np.bool_): "bools"}


class _Exporter(MILProtoExporter):  # type: ignore[misc]  # coremltools is untyped
    """coremltools' exporter, with weights already written by the store."""

    def __init__(self, program: Any, store: Store, version: int) -> None:
        super().__init__(program, "", version)
        self._store = store

    def get_milproto_value(self, var: Any) -> Any:
        record = self._store.record(var.op.weight_id) if var.op is not None else None
        if record is None:
            return immediate_value(var)
        value = MIL_pb2.Value()
        value.type.CopyFrom(self.types_to_proto(var.sym_type))
        value.blobFileValue.fileName = WEIGHTS
        value.blobFileValue.offset = record
        return value


def immediate_value(var: Any) -> Any:
    """A constant inside the program; arrays are copied whole where coremltools goes number by number."""
    array = var.val
    field = _FIELDS.get(array.dtype) if isinstance(array, np.ndarray) and array.size else None
    if field is None:
        return create_immediate_value(var)
    value = MIL_pb2.Value()
    kind = value.type.tensorType
    kind.dataType = types_to_proto_primitive(var.dtype)
    kind.rank = array.ndim
    for size in array.shape:
        kind.dimensions.add().constant.size = size
    getattr(value.immediateValue.tensor, field).values.extend(array.reshape(-1).tolist())
    return value


def to_spec(module: Module, metadata: Mapping[str, str] | None = None, *, store: Store | None = None) -> Any:
    """The ``Model`` protobuf of a module.

    Args:
        module: holds ``mil`` ops only.
        metadata: see :func:`anec.backend.describe.describe`.
        store: holds the weights; None puts them into the protobuf itself.

    Raises:
        UnsupportedError: something the target does not have.
    """
    number = opset(module.target)
    kept = store or MemoryStore()
    program = emit(module, kept)
    model = Model_pb2.Model(specificationVersion=specification(number))
    model.description.CopyFrom(describe(module, metadata or {}))
    model.mlProgram.CopyFrom(_Exporter(program, kept, specification(number)).export())
    return model


def serialize(model: Any) -> bytes:
    """The protobuf's bytes, the same for the same model.

    Raises:
        AnecError: the model is beyond protobuf's 2 GB.
    """
    try:
        data = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's own kinds of error differ from version to version
        raise AnecError(f"the model cannot be written: {error}", hint="protobuf stops at 2 GB") from error
    assert isinstance(data, bytes)
    return data

"""Constants of a program: which values are constant, what they hold, and where the bytes go."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anec.backend.blob import BlobWriter
from anec.backend.target import CONST_DTYPES, SUB_BYTE, numpy_dtype
from anec.errors import AnecError
from anec.ir.attrs import attr_key
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.types import DType

if TYPE_CHECKING:
    import torch

# As coremltools' should_use_weight_file: what is smaller stays in the program.
_SMALLEST_IN_FILE = 10
# Bytes from which a computed constant is mapped rather than kept in memory.
_SMALLEST_MAPPED = 1 << 16
_IN_FILE = frozenset({DType.F16, DType.F32, DType.U8, DType.I8}) | SUB_BYTE
_IN_FILE_SINCE_18 = frozenset({DType.U16, DType.I16, DType.I32, DType.U32})


def constant_values(graph: Graph) -> set[Value]:
    """The weights, and the results that are computed once at emission rather than by the program.

    A constant result comes from an effect-free op whose operands are all constant. It is not an
    output (Core ML's outputs are results of ops), and no ``constexpr_*`` op: those keep a weight compressed.
    """
    found = set(graph.weights.values())
    outputs = set(graph.outputs)
    for op in graph.ops():
        if op.defn.effects is not Effect.NONE or op.defn.root.startswith("constexpr_"):
            continue
        if all(value in found for value in op.inputs) and not outputs.intersection(op.results):
            found.update(op.results)
    return found


def constant_array(value: Value, module: Module) -> np.ndarray[Any, Any]:
    """The numbers of a weight (a view of its memory) or of a constant result (computed now).

    Raises:
        AnecError: Core ML has no such dtype, a whole number is beyond 32 bits, or there is no data.
    """
    if value.weight is not None:
        return as_array(value.weight.tensor(), value.tensor.dtype, f"the weight {value.weight.name!r}")
    from anec.reference.evaluate import evaluate_constant

    assert value.op is not None
    _check_narrowing(value.op, module)
    return as_array(evaluate_constant(value, module), value.tensor.dtype, f"the constant %{value.name}")


def _check_narrowing(op: Op, module: Module) -> None:
    """Refuse the cast of a 64-bit constant that 32 bits cannot hold; torch would wrap it around."""
    for operand in op.inputs if op.defn.root == "cast" else ():
        target = op.result.tensor.dtype
        if operand.tensor.dtype is not DType.I64 or not target.is_integer:
            continue
        from anec.reference.evaluate import evaluate_constant

        tensor = evaluate_constant(operand, module)
        low, high = target.range
        if tensor.numel() and not (low <= int(tensor.min()) and int(tensor.max()) <= high):
            raise AnecError(
                f"%{operand.name} holds {int(tensor.min())}..{int(tensor.max())}, beyond {target}",
                where=op.origin.place or None,
                hint="Core ML's whole numbers have 32 bits",
            )


def as_array(tensor: torch.Tensor, dtype: DType, what: str) -> np.ndarray[Any, Any]:
    """A numpy view of ``tensor``; sub-byte elements are tagged for coremltools.

    Raises:
        AnecError: Core ML has no constants of that dtype.
    """
    if dtype not in CONST_DTYPES:
        raise AnecError(
            f"{what} is {dtype}, which Core ML does not have",
            hint="model.float() gives float32" if dtype.is_float else "narrow it to i32 first",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return array.view(numpy_dtype(dtype)) if dtype in SUB_BYTE else array


class Store(Protocol):
    """Where emission puts the bytes of constants."""

    def put(self, ident: str, value: Value, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Keep the numbers of ``value``; what comes back is what the program should hold."""

    def record(self, ident: str | None) -> int | None:
        """The record in the weights file of the constant ``ident``; None for what stays in the program."""


class MemoryStore:
    """Keeps every constant in memory, and in the program's own text."""

    def put(self, ident: str, value: Value, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array

    def record(self, ident: str | None) -> int | None:
        return None


class FileStore:
    """Writes large constants to a weights file as they come.

    A computed constant is then held as a map of the file, so memory stays near the largest one.
    """

    def __init__(self, writer: BlobWriter, opset: int) -> None:
        self._writer = writer
        self._dtypes = _IN_FILE | (_IN_FILE_SINCE_18 if opset >= 18 else frozenset())
        self._records: dict[str, int] = {}

    def put(self, ident: str, value: Value, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        dtype = value.tensor.dtype
        if array.size < _SMALLEST_IN_FILE or dtype not in self._dtypes:
            return array
        record = self._records[ident] = self._writer.append(array, dtype)
        if value.weight is not None or dtype in SUB_BYTE or array.nbytes < _SMALLEST_MAPPED:
            return array
        return self._writer.mapped(record, dtype, array.shape)

    def record(self, ident: str | None) -> int | None:
        return None if ident is None else self._records.get(ident)


class Constants:
    """The constants of a module: equal ones, also of different functions, are held once."""

    def __init__(self, module: Module, store: Store) -> None:
        self.module, self.store = module, store
        self._numbers: dict[tuple[object, ...], int] = {}
        self._by_value: dict[Value, int] = {}
        self._arrays: dict[int, np.ndarray[Any, Any]] = {}

    def get(self, value: Value) -> tuple[np.ndarray[Any, Any], str]:
        """The numbers of a constant value, and coremltools' weight id for them.

        Raises:
            AnecError: see :func:`constant_array`.
        """
        number = self._number(value)
        ident = f"constant{number}"
        array = self._arrays.get(number)
        if array is None:
            array = self.store.put(ident, value, constant_array(value, self.module))
            self._arrays[number] = array
        return array, ident

    def _number(self, value: Value) -> int:
        """Equal for constants that are the same memory, or are made of such in the same way."""
        pending = [value]
        while pending:
            at = pending[-1]
            missing = [item for item in (at.op.inputs if at.op else ()) if item not in self._by_value]
            if missing and at not in self._by_value:
                pending.extend(missing)
                continue
            pending.pop()
            if at not in self._by_value:
                self._by_value[at] = self._numbers.setdefault(self._key(at), len(self._numbers))
        return self._by_value[value]

    def _key(self, value: Value) -> tuple[object, ...]:
        if value.weight is not None:
            return ("weight", *value.weight.identity, str(value.type))
        assert value.op is not None
        op = value.op
        operands = tuple(self._by_value[item] if isinstance(item, Value) else str(item) for item in op.operands)
        lengths = tuple(len(op.slot(param.name)) for param in op.defn.operand_params)
        attrs = tuple(sorted((name, attr_key(attr)) for name, attr in op.attrs.items()))
        return (op.name, operands, lengths, attrs, value.index, str(value.type))

"""What Core ML takes on a target, op by op: the one place that knows.

``legalize-target`` reports it, ``analyze`` counts it, the emitter refuses what is left.
Source: coremltools' op registry, and its documentation where a fact is not in the registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind, Param
from anec.ir.types import DType

MAX_RANK = 5
# The dtypes a value may have while a program runs; sub-byte ones exist inside constexpr ops only.
_VALUE_DTYPES = frozenset({DType.F16, DType.F32, DType.BOOL, DType.I32})
_VALUE_DTYPES_SINCE_17 = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
_EINSUM = {"abcd,adce->abce": "nchw,nwhu->nchu", "abc,cbd->abd": "chw,whr->chr"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a target does not take an op, and what to do about it."""

    message: str
    hint: str = ""

    def __str__(self) -> str:
        return self.message


def is_folded(op: Op) -> bool:
    """True for an op that is computed before emission: Core ML never sees it, nor its dtypes."""
    return (
        bool(op.results)
        and not op.defn.root.startswith("constexpr_")
        and all(is_constant(result) and not result.is_output for result in op.results)
    )


def problems(op: Op, opset: int) -> Iterator[Problem]:
    """Everything of ``op`` that the target (an iOS number) does not take: op, parameters, dtypes, ranks."""
    try:
        version = op.defn.version(opset)
    except AnecError as error:
        yield Problem(error.message, error.hint or "")
        return
    params = {param.name: param for param in version.params}
    for name in _given(op):
        if name not in params:
            yield _unknown(op, name, opset)
    for param in version.params:
        if param.kind is not Kind.ATTR:
            yield from _operands(op, param, opset)
        if param.required and not _present(op, param):
            yield Problem(f"{op.name} needs {param.name!r} on iOS{opset}")
    for result in op.results:
        yield from _result(op, result, opset)
    if op.defn.root == "einsum":
        yield from _einsum(op)
    if op.defn.root == "clip" and opset >= 17:
        yield from _clip(op)


def _given(op: Op) -> list[str]:
    """The names of the parameters the op gives."""
    names = [name for name, value in op.attrs.items() if value is not None]
    return names + [param.name for param in op.defn.operand_params if _present(op, param)]


def _present(op: Op, param: Param) -> bool:
    if param.kind is Kind.ATTR:
        return op.attrs.get(param.name) is not None
    if param.name not in op.defn.by_name or op.defn.by_name[param.name].kind is Kind.ATTR:
        return op.attrs.get(param.name) is not None
    return any(op.operands[index] is not None for index in op.slot(param.name))


def _unknown(op: Op, name: str, opset: int) -> Problem:
    having = [version.since for version in op.defn.versions if name in {p.name for p in version.params}]
    if having and having[0] > opset:
        return Problem(f"{op.name} has no {name!r} before iOS{having[0]}", f"compile with --target iOS{having[0]}")
    return Problem(f"{op.name} has no {name!r} on iOS{opset}", "run the pass legalize-target")


def _operands(op: Op, param: Param, opset: int) -> Iterator[Problem]:
    if op.defn.by_name[param.name].kind is Kind.ATTR:
        return
    for index in op.slot(param.name):
        operand = op.operands[index]
        if operand is None or (isinstance(operand, Literal) and operand.dtype is None):
            continue
        dtype = operand.tensor.dtype if isinstance(operand, Value) else operand.dtype
        if param.dtypes and dtype not in param.dtypes:
            allowed = ", ".join(map(str, param.dtypes))
            yield Problem(f"{op.name}: {param.name} is {dtype}; on iOS{opset} it takes {allowed}")
        if param.const and isinstance(operand, Value) and not is_constant(operand):
            yield Problem(f"{op.name}: {param.name} must be constant on iOS{opset}")


def _result(op: Op, value: Value, opset: int) -> Iterator[Problem]:
    if op.defn.root.startswith("constexpr_"):
        return
    if value.rank > MAX_RANK:
        yield Problem(
            f"%{value.name} has rank {value.rank}; Core ML's tensors have at most {MAX_RANK} dimensions",
            "reshape so that neighbouring dimensions are one",
        )
    dtype = value.tensor.dtype
    if dtype not in _VALUE_DTYPES | (_VALUE_DTYPES_SINCE_17 if opset >= 17 else frozenset()):
        yield Problem(f"%{value.name} is {dtype}, which no value of a program may be on iOS{opset}")


def _clip(op: Op) -> Iterator[Problem]:
    """From iOS17 the bounds must be in order (coremltools' type inference refuses the op otherwise)."""
    low, high = op.attr("alpha"), op.attr("beta")
    if isinstance(low, float) and isinstance(high, float) and low >= high:
        yield Problem(f"mil.clip has the bounds {low:g} and {high:g}, which are not in order")


def _einsum(op: Op) -> Iterator[Problem]:
    """Core ML has two equations, whatever their letters (coremltools says so in its docs of ``einsum``)."""
    equation = op.attr("equation")
    letters: dict[str, str] = {}
    shape = ""
    for char in str(equation).replace(" ", ""):
        shape += letters.setdefault(char, chr(ord("a") + len(letters))) if char.isalpha() else char
    if shape not in _EINSUM:
        known = " and ".join(_EINSUM.values())
        yield Problem(f"Core ML has no einsum {equation!r}", f"it has {known}; write others as transpose and matmul")

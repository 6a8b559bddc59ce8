"""What the raising rules share."""

from __future__ import annotations

from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.rewrite import reject

# torch.finfo(dtype).eps: torch's epsilon where the caller gave none.
MACHINE_EPSILON = {DType.F16: 2.0**-10, DType.BF16: 2.0**-7, DType.F32: 2.0**-23, DType.F64: 2.0**-52}


def only_first(op: Op) -> None:
    """Reject an op whose further results are used; `nn` has no word for them."""
    for index, result in enumerate(op.results[1:], 1):
        if result.uses or result.is_output:
            reject(f"result {index} of {op.name} is used")


def number(op: Op, name: str) -> float:
    """The attribute ``name`` as a float; rejects an absent or symbolic one."""
    found = op.attr(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        reject(f"{op.name}: {name} is {found}, not a number")
    return float(found)


def integer(op: Op, name: str) -> int:
    """The attribute ``name`` as an integer; rejects a symbolic one."""
    found = op.attr(name)
    if isinstance(found, bool) or not isinstance(found, int):
        reject(f"{op.name}: {name} is {found}, not an integer")
    return found


def optional(op: Op, name: str) -> Value | None:
    """The operand ``name`` if it is given; rejects a literal."""
    found = op.operand(name)
    if found is not None and not isinstance(found, Value):
        reject(f"{op.name}: {name} is {found}, not a tensor")
    return found


def last_axes(shape: Attr) -> tuple[int, ...]:
    """The axes that torch's ``normalized_shape`` means, counted from the end."""
    if not isinstance(shape, tuple) or not shape:
        reject(f"the normalized shape is {shape}")
    return tuple(range(-len(shape), 0))

"""Casts and copies.

    %y = aten._to_copy.default(%x) {dtype=i64}     ->     %y = mil.cast(%x) {dtype="int32"}
    %y = aten.clone.default(%x)                    ->     %x

A copy, a view of the same shape and a change of device or memory format are nothing in the IR.
"""

from __future__ import annotations

from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.passes.lower_to_mil.elementwise import same
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shared import as_value, broadcast_to
from anec.passes.lower_to_mil.typing import NARROW_INTEGERS, dtype_of, result_type, value, wrap
from anec.pipeline.base import Context
from anec.rewrite import Rule, reject, rewrite


@rewrite(
    each(
        "_to_copy",
        "to.dtype",
        "to.device",
        "to.other",
        "type_as",
        *(f"_cast_{name}" for name in "Byte Char Double Float Half Int Long Short".split()),
    )
)
def convert(op: Op, ctx: Context) -> Value:
    """MIL truncates floats as torch does; integers that get narrower wrap around."""
    return _converted(as_value(op.operand("self")), op, ctx)


def _converted(x: Value, op: Op, ctx: Context) -> Value:
    """``x`` in the dtype of the result of ``op``."""
    result, dtype = value(x, result_type(op).dtype), op.results[0].tensor.dtype
    if dtype not in NARROW_INTEGERS or dtype_of(x) is not DType.I32:
        return result
    low, high = dtype.range
    known = ctx.facts.range(x)
    return result if low <= known.lower and known.upper <= high else wrap(result, dtype)


@rewrite(
    each(
        "clone",
        "alias",
        "alias_copy",
        "detach",
        "detach_copy",
        "contiguous",
        "lift",
        "lift_fresh",
        "lift_fresh_copy",
        "positive",
        "_conj",
        "_conj_copy",
        "_conj_physical",
        "conj",
        "conj_physical",
        "resolve_conj",
        "resolve_neg",
        "real",
        "pin_memory",
        "_lazy_clone",
    )
)
def copy_of(op: Op) -> Value:
    """The tensor itself."""
    return same(op)


@rewrite(each("copy", "fill.Tensor"))
def copy_into(op: Op, ctx: Context) -> Value:
    """``src`` in the shape and dtype of ``self``, whose numbers do not matter."""
    source = _converted(as_value(op.operand("src" if op.defn.root == "copy" else "value")), op, ctx)
    shape = op.results[0].tensor.shape
    return source if source.tensor.shape == shape else broadcast_to(source, shape)


@rewrite(each("view.dtype", "view_copy.dtype"))
def view_as_dtype(op: Op) -> Value:
    """Only where the dtype stays: MIL reinterprets no bits."""
    x = as_value(op.operand("self"))
    if dtype_of(x) is not result_type(op).dtype or x.tensor.shape != op.results[0].tensor.shape:
        reject("it reinterprets bits as another dtype, which Core ML cannot")
    return same(op)


RULES: list[Rule] = [convert, copy_of, copy_into, view_as_dtype]

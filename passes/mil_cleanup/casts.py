"""Casts to the same dtype, and casts of casts.

    %1 = mil.cast(%x) {dtype="fp32"}     %x: f16[4]
    %y = mil.cast(%1) {dtype="int32"}
        ->
    %y = mil.cast(%x) {dtype="int32"}

A cast that rounds, as f32 to f16, is never skipped.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.passes.common import holds, tensor
from anec.rewrite import Rule, reject, rewrite, var

x = tensor("x")


@rewrite(mil.cast(x, dtype=var("dtype")))
def drop_cast(op: Op, x: Value) -> Value:
    """A cast to the dtype there is.

    %y = mil.cast(%x) {dtype="fp32"}     ->     %x
    """
    return x if x.type == op.result.type else reject("the dtype changes")


@rewrite(mil.cast(mil.cast(x, dtype=var("middle")), dtype=var("dtype")))
def merge_casts(op: Op, x: Value, dtype: str) -> Value:
    """A cast through a dtype that holds every number of the first one.

    %x: f16[2,8]
    %1 = mil.cast(%x) {dtype="fp32"}
    %y = mil.cast(%1) {dtype="fp16"}     ->     %x

    f32 -> f16 -> f32 stays: it rounds.
    """
    middle = op.value("x").tensor.dtype
    if not holds(middle, x.tensor.dtype):
        reject(f"{middle} does not hold every {x.tensor.dtype}")
    return x if x.type == op.result.type else mil.cast(x, dtype=dtype)


RULES: list[Rule] = [drop_cast, merge_casts]

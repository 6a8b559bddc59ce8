"""Constant tensors that lowerings make: weights named after the op they serve, shared when equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anec.dialects import mil
from anec.ir.graph import Op, Value
from anec.ir.types import DType
from anec.ir.weights import TensorData, Weight
from anec.passes.lower_to_mil.typing import MIL_NAMES
from anec.pipeline.base import Context

if TYPE_CHECKING:
    import torch


def constant(ctx: Context, op: Op, tensor: torch.Tensor, what: str, dtype: DType) -> Value:
    """``tensor`` as a constant of ``dtype`` in the function at hand.

    Weights of one kind (``what``) that hold the same numbers are one weight. Floats are kept in the
    precision given, float64 for instance, and cast: what is computed from them in float64 is exact.
    """
    from anec.reference.infer import type_of

    made = Weight(f"{op.results[0].name}.{what}", type_of(tensor), TensorData(tensor.contiguous()))
    weight = _known(ctx, made, what) or ctx.module.add_weight(made)
    value = ctx.graph.add_weight(weight)
    return value if value.tensor.dtype is dtype else mil.cast(value, dtype=MIL_NAMES[dtype])


def _known(ctx: Context, made: Weight, what: str) -> Weight | None:
    for weight in ctx.module.weights.values():
        alike = f".{what}" in weight.name and weight.type == made.type and weight.data is not None
        if alike and weight.digest() == made.digest():
            return weight
    return None

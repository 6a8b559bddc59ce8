"""Folding one op whose operands are all constant into a weight."""

from __future__ import annotations

from anec.ir.graph import Op
from anec.ir.types import TensorType, narrowed
from anec.ir.weights import TensorData, Weight, torch_dtype
from anec.pipeline.base import Context


def fold(op: Op, ctx: Context, *, narrow: bool = False) -> None:
    """Compute the results of ``op`` and put weights in their place.

    Args:
        op: an op whose operands are all constant.
        ctx: the pass's context.
        narrow: hold the numbers in the dtype Core ML has for them.
    """
    from anec.reference.evaluate import evaluate_constant  # loads torch

    for result in op.results:
        if not result.uses and not result.is_output:
            continue
        tensor = evaluate_constant(result, ctx.module)
        type_ = narrowed(result.type) if narrow else result.type
        assert isinstance(type_, TensorType)
        data = TensorData(tensor.to(torch_dtype(type_.dtype)).contiguous())
        weight = ctx.module.add_weight(Weight(f"{ctx.graph.name}.{result.name}", type_, data))
        ctx.graph.replace(result, ctx.graph.add_weight(weight, result.name))
    dead = [op]
    while dead:
        at = dead.pop()
        if at.graph is ctx.graph and not any(r.uses or r.is_output for r in at.results):
            producers = [value.op for value in at.inputs if value.op is not None]
            ctx.graph.erase(at)
            dead.extend(producers)

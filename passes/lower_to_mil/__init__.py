"""Lowering: every `aten` and `nn` op becomes `mil` ops, by one rule each.

    %y = aten.relu.default(%x)     ->     %y = mil.relu(%x)

A plugin overrides a lowering with a rule of its own on the same op; see ``register_lowering``.
What no rule took is reported as one table.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.facts import is_constant
from anec.ir.graph import Graph, Value
from anec.ir.types import NARROW, DType, narrowed
from anec.passes.lower_to_mil import families
from anec.passes.lower_to_mil.report import unsupported
from anec.passes.lower_to_mil.typing import INT32_MAX, INT32_MIN, MIL_NAMES
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import lowerings, register
from anec.rewrite import Rule


@register
@dataclass
class LowerToMil(Pass):
    """Lower every op to the dialect Core ML runs."""

    name = "lower-to-mil"
    fidelity = EXACT
    dialects = None
    produces = frozenset({"mil"})

    def run(self, graph: Graph, ctx: Context) -> None:
        _narrow_inputs(graph)
        _narrow_weights(graph, ctx)
        ctx.rewrite(self.all_rules(), opts=self, narrow=True)
        _fold_leftovers(graph, ctx)
        left = [op for op in graph.ops() if op.defn.dialect != "mil"]
        if left:
            raise unsupported(left, self.all_rules(), ctx.misses)

    @staticmethod
    def all_rules() -> list[Rule]:
        """Plugins' rules first, then the built-in ones."""
        return [*lowerings(), *families.rules()]


def _narrow_inputs(graph: Graph) -> None:
    for value in graph.inputs:
        value.type = narrowed(value.type)


def _narrow_weights(graph: Graph, ctx: Context) -> None:
    """Cast weights of a dtype Core ML lacks; a cast of a weight is computed before emission."""
    from anec.passes.folding import fold

    for value in list(graph.weights.values()):
        dtype = value.tensor.dtype
        if dtype not in NARROW or value.weight is None:
            continue
        if dtype.is_integer:
            _check_int32(value)
        uses = list(value.uses)
        if not uses and not value.is_output:
            continue
        with ctx.builder(before=graph.first) as builder:
            builder.name = value.name
            cast = mil.cast(value, dtype=MIL_NAMES[NARROW[dtype]])
        for op, index in uses:
            op.set_operand(index, cast)
        if value.is_output:
            graph.outputs = [cast if output is value else output for output in graph.outputs]
            if value.weight.data is not None and cast.op is not None:
                # Emission computes what ops read; what the program returns has to be there.
                fold(cast.op, ctx, narrow=True)


def _check_int32(value: Value) -> None:
    weight = value.weight
    if weight is None or weight.data is None or weight.type.size == 0 or weight.type.dtype is not DType.I64:
        return
    low, high = weight.tensor().aminmax()
    if int(low) < INT32_MIN or int(high) > INT32_MAX:
        users = [op.origin.place for op in value.users if op.origin.place]
        raise AnecError(
            f"the constant {weight.name!r} holds {int(low if int(low) < INT32_MIN else high)}, beyond int32",
            where=users[0] if users else None,
            hint="Core ML's widest integer is int32; clamp the constant in the model",
        )


def _fold_leftovers(graph: Graph, ctx: Context) -> None:
    """Compute constant ops that have no lowering: Core ML never runs them anyway."""
    from anec.passes.folding import fold

    for op in list(graph.ops()):
        if op.defn.dialect != "mil" and op.graph is graph and all(is_constant(r) for r in op.results):
            fold(op, ctx, narrow=True)


__all__ = ["LowerToMil"]

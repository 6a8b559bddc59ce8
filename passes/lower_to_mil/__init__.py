"""Lowering: every `aten` and `nn` op becomes `mil` ops, by one rule each.

    %y = aten.relu.default(%x)     ->     %y = mil.relu(%x)

A plugin overrides a lowering with a rule of its own on the same op; see ``register_lowering``.
What no rule took is reported as one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.facts import is_constant
from anec.ir.graph import Graph, Value
from anec.ir.types import NARROW, DType, narrowed
from anec.passes.lower_to_mil import families
from anec.passes.lower_to_mil.report import unsupported
from anec.passes.lower_to_mil.typing import END, INT32_MAX, INT32_MIN, MIL_NAMES
from anec.passes.split_complex import ComplexError, split_complex
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import lowerings, register
from anec.rewrite import Rule


@register
@dataclass
class LowerToMil(Pass):
    """Lower every op to the dialect Core ML runs.

    Attributes:
        norms: the form of RMS and L2 norms; ``auto`` chooses by target, see ``length_norm``.
    """

    name = "lower-to-mil"
    fidelity = EXACT
    dialects = None
    produces = frozenset({"mil"})

    norms: Literal["auto", "layernorm", "maxscale", "plain"] = "auto"

    def run(self, graph: Graph, ctx: Context) -> None:
        refused = split_complex(graph, ctx)
        _narrow_inputs(graph)
        _narrow_weights(graph, ctx)
        ctx.rewrite(self.all_rules(), opts=self, narrow=True)
        _fold_leftovers(graph, ctx)
        left = [op for op in graph.ops() if op.defn.dialect != "mil"]
        if refused:
            raise ComplexError(refused)
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
        endless = dtype.is_integer and _check_int32(value)
        uses = list(value.uses)
        if not uses and not value.is_output:
            continue
        with ctx.builder(before=graph.first) as builder:
            builder.name = value.name
            # Computed in int64 before emission.
            within = mil.minimum(mil.maximum(value, INT32_MIN), INT32_MAX) if endless else value
            cast = mil.cast(within, dtype=MIL_NAMES[NARROW[dtype]])
        for op, index in uses:
            op.set_operand(index, cast)
        if value.is_output:
            graph.outputs = [cast if output is value else output for output in graph.outputs]
            if value.weight.data is not None and cast.op is not None:
                # Emission computes what ops read; what the program returns has to be there.
                fold(cast.op, ctx, narrow=True)


def _check_int32(value: Value) -> bool:
    """True for a constant with int64's own extremes: torch's "no number is beyond" becomes int32's.

    Raises:
        AnecError: another integer beyond int32.
    """
    weight = value.weight
    if weight is None or weight.data is None or weight.type.size == 0 or weight.type.dtype is not DType.I64:
        return False
    numbers = weight.tensor()
    low, high = (int(number) for number in numbers.aminmax())
    if low >= INT32_MIN and high <= INT32_MAX:
        return False
    wrong = numbers[((numbers < INT32_MIN) | (numbers > INT32_MAX)) & (numbers != -END - 1) & (numbers != END)]
    if wrong.numel():
        users = [op.origin.place for op in value.users if op.origin.place]
        raise AnecError(
            f"the constant {weight.name!r} holds {int(wrong[0])}, beyond int32",
            where=users[0] if users else None,
            hint="Core ML's widest integer is int32; clamp the constant in the model",
        )
    return True


def _fold_leftovers(graph: Graph, ctx: Context) -> None:
    """Compute constant ops that have no lowering: Core ML never runs them anyway."""
    from anec.passes.folding import fold

    for op in list(graph.ops()):
        if op.defn.dialect != "mil" and op.graph is graph and all(is_constant(r) for r in op.results):
            fold(op, ctx, narrow=True)


__all__ = ["LowerToMil"]

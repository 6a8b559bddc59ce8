"""Complex numbers become pairs of real ones, which is all that Core ML has.

    %1 = aten.view_as_complex.default(%x)               %x: f32[2,4,2], %y: f32[2,4,2]
    %2 = aten.view_as_complex.default(%y)
    %3 = aten.add.Tensor(%1, %2)
    %z = aten.view_as_real.default(%3)
        ->
    %1 = aten.select.int(%x) {dim=-1, index=0}
    %2 = aten.select.int(%x) {dim=-1, index=1}
    %3 = aten.select.int(%y) {dim=-1, index=0}
    %4 = aten.select.int(%y) {dim=-1, index=1}
    %5 = aten.add.Tensor(%1, %3)
    %6 = aten.add.Tensor(%2, %4)
    %z = aten.stack.default([%5, %6]) {dim=-1}

One walk over the function: each op on complex values is written with the parts of its operands, by
the function for it in ``linear``, ``arithmetic``, ``products``, ``making`` or ``fft``. A complex
weight is two views of its memory. ``lower-to-mil`` begins with this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anec.errors import UnsupportedError
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.types import TensorType
from anec.ir.weights import TensorData, Weight
from anec.passes.split_complex import arithmetic, fft, linear, making, products
from anec.passes.split_complex.parts import HANDLERS, Parts, Split, Splitter, part_type
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite import reject
from anec.rewrite.rule import Reject

# Parts of larger weights are not searched for being zero everywhere.
_LARGEST_SEARCHED = 1 << 16


@register
@dataclass
class SplitComplex(Pass):
    """Write complex arithmetic, and Fourier transforms, with real tensors."""

    name = "split-complex"
    fidelity = EXACT
    dialects = frozenset({"aten", "nn"})

    def run(self, graph: Graph, ctx: Context) -> None:
        refused = split_complex(graph, ctx)
        if refused:
            raise ComplexError(refused)


def split_complex(graph: Graph, ctx: Context) -> dict[Op, str]:
    """Split every complex value of a function; return the ops that could not be, and why."""
    refused = _at_the_boundary(graph)
    touched = [op for op in graph.ops() if is_complex(op)]
    if not touched:
        return refused
    splitter = Splitter(ctx)
    weights = {value for value in graph.weights.values() if not value.tensor.dtype.is_complex}
    for value in list(graph.weights.values()):
        if value.tensor.dtype.is_complex:
            splitter.known[value] = _split_weight(value, ctx)
    before = set(graph.ops())
    for op in list(graph.ops()):
        if op not in refused:
            _visit(op, splitter, refused)
    _sweep(graph, {*touched, *splitter.replaced, *(op for op in graph.ops() if op not in before)})
    _drop_weights({value for value in graph.weights.values() if value not in weights}, graph, ctx.module)
    return refused


def is_complex(op: Op) -> bool:
    """True for an op that reads or makes complex numbers."""
    return any(value.tensor.dtype.is_complex for value in (*op.inputs, *op.results))


def _visit(op: Op, splitter: Splitter, refused: dict[Op, str]) -> None:
    """Write one op with parts."""
    if op.graph is None:
        return
    complex_ = is_complex(op)
    if not complex_ and not any(value in splitter.stacks or value in splitter.magnitudes for value in op.inputs):
        return
    unsplit = [v for v in op.inputs if v.tensor.dtype.is_complex and v not in splitter.known]
    if any(value.op in refused for value in unsplit):
        refused[op] = ""  # told where it begins
        return
    with splitter.ctx.builder(before=op) as builder:
        builder.origin = op.origin.by(SplitComplex.name)
        try:
            if complex_:
                made = _split(op, splitter)
            else:
                shortcuts = (making.part_of_stack, making.on_both_parts, arithmetic.square_of_magnitude)
                found = next(filter(None, (shortcut(op, splitter) for shortcut in shortcuts)), None)
                if found is None:
                    return
                made = [found]
                splitter.replaced.add(op)
        except (Reject, UnsupportedError) as declined:
            for new in reversed(builder.created):
                splitter.ctx.graph.erase(new)
            if not _fold(op, splitter):
                refused[op] = declined.reason if isinstance(declined, Reject) else declined.message
            return
    _replace(op, made, splitter, set(builder.created))


def _split(op: Op, splitter: Splitter) -> Sequence[Split]:
    name = op.name.removeprefix("aten.")
    handler = HANDLERS.get(name) or HANDLERS.get(op.defn.root) if op.defn.dialect == "aten" else None
    if handler is None:
        reject("nothing tells how to write it with real numbers")
    made = handler(op, splitter)
    results = made if isinstance(made, list) else [made]
    return [found.settled if isinstance(found, Parts) else found for found in results]


def _fold(op: Op, splitter: Splitter) -> bool:
    """Compute an op on constants, of which no handler knew what to do."""
    from anec.passes.folding import fold

    if not op.is_constant or any(v.weight is not None and v.weight.data is None for v in op.inputs):
        return False
    graph = splitter.ctx.graph
    try:
        fold(op, splitter.ctx)
    except UnsupportedError:
        return False
    for value in list(graph.weights.values()):
        if value.tensor.dtype.is_complex and value not in splitter.known:
            splitter.known[value] = _split_weight(value, splitter.ctx)
    return True


def _replace(op: Op, made: Sequence[Split], splitter: Splitter, created: set[Op]) -> None:
    """Put real results in place of the old ones, and remember the parts of complex ones."""
    graph = splitter.ctx.graph
    for old, new in zip(op.results, made, strict=True):
        name = old.name
        if isinstance(new, Parts):
            splitter.known[old] = new
            for part, suffix in ((new.real, "real"), (new.imag, "imag")):
                if isinstance(part, Value) and part.op in created:
                    graph.rename(part, f"{name}_{suffix}")
            continue
        graph.replace(old, new)
        if new.op in created:
            graph.rename(old, f"{name}_before")
            graph.rename(new, name)


def _split_weight(value: Value, ctx: Context) -> Parts:
    """Two views of the weight's memory; a small one that is real or imaginary has one part."""
    weight, type_ = value.weight, part_type(value)
    assert weight is not None
    found: list[Value | None] = []
    for index, name in enumerate(("real", "imag")):
        data = None
        if weight.data is not None:
            import torch

            tensor = torch.view_as_real(weight.tensor().resolve_conj())[..., index]
            if type_.size <= _LARGEST_SEARCHED and not bool(tensor.any()):
                found.append(None)
                continue
            data = TensorData(tensor)
        part = ctx.module.add_weight(Weight(f"{weight.name}.{name}", type_, data))
        found.append(ctx.graph.add_weight(part))
    parts = Parts(found[0], found[1], type_)
    return parts if any(found) else _zero(value, type_, ctx)


def _zero(value: Value, type_: TensorType, ctx: Context) -> Parts:
    """A weight that is zero everywhere keeps its real part."""
    import torch

    assert value.weight is not None
    tensor = torch.view_as_real(value.weight.tensor())[..., 0]
    weight = ctx.module.add_weight(Weight(f"{value.weight.name}.real", type_, TensorData(tensor)))
    return Parts(ctx.graph.add_weight(weight), None, type_)


def _sweep(graph: Graph, candidates: set[Op]) -> None:
    """Erase complex ops, and parts that nothing asks for."""
    for op in list(graph.reversed_ops()):
        unused = not any(result.uses or result.is_output for result in op.results)
        if op in candidates and unused and op.defn.effects is Effect.NONE:
            graph.erase(op)


def _drop_weights(candidates: set[Value], graph: Graph, module: Module) -> None:
    """Drop complex weights, and parts of them that nothing asks for."""
    elsewhere = {name for other in module.functions.values() if other is not graph for name in other.weights}
    for value in list(graph.weights.values()):
        if value in candidates and value.weight is not None and not value.uses and not value.is_output:
            graph.remove_weight(value)
            if value.weight.name not in elsewhere:
                module.weights.pop(value.weight.name, None)


def _at_the_boundary(graph: Graph) -> dict[Op, str]:
    """Ops that read a complex input or make a complex output: Core ML can have neither."""
    refused: dict[Op, str] = {}
    for value in graph.inputs:
        if value.tensor.dtype.is_complex:
            why = f"the input {value.name} is complex; take real numbers and call torch.view_as_complex on them"
            refused.update(dict.fromkeys(value.users, why))
    for value in graph.outputs:
        if value.tensor.dtype.is_complex and value.op is not None:
            refused[value.op] = "an output of the model is complex; return torch.view_as_real of it"
    return refused


class ComplexError(UnsupportedError):
    """Ops on complex numbers that are not written with real ones; ``ops`` tells why, "" in what follows them."""

    def __init__(self, ops: dict[Op, str]) -> None:
        told = {op: why for op, why in ops.items() if why}
        first = next(iter(told))
        super().__init__(
            f"Core ML has no complex numbers; {first.name}: {told[first]}",
            where=first.origin.place or None,
            window="\n".join(f"{op.name}  {op.origin.place}  {why}" for op, why in told.items()),
            hint="write these ops with real tensors: torch.view_as_real, .real, .imag",
        )
        self.ops = ops


__all__ = ["ComplexError", "SplitComplex", "fft", "is_complex", "linear", "products", "split_complex"]

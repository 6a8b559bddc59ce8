"""Rebuild a function with the chosen ops in their other form."""

from __future__ import annotations

from anec.errors import AnecError
from anec.ir.graph import Graph, Op, Value
from anec.passes.ane_layout.forms import Form, Route, shape_in
from anec.passes.ane_layout.prices import squeezed
from anec.passes.ane_layout.problem import Problem
from anec.passes.ane_layout.transfer import build
from anec.passes.lower_to_mil.movement import moved
from anec.pipeline.base import Context


class Rebuilder:
    """Walks a function once, in order.

    Args:
        graph: the function.
        ctx: the pass's context.
        problem: where each use comes from.
        chosen: the ops to build in their other form.
    """

    def __init__(self, graph: Graph, ctx: Context, problem: Problem, chosen: set[Op]) -> None:
        self.graph = graph
        self.ctx = ctx
        self.problem = problem
        self.chosen = chosen
        # The tensor that holds a value in another form, and that form.
        self.held: dict[Value, tuple[Value, Form]] = {}
        self.made: dict[tuple[Value, int, Form], Value] = {}

    def run(self) -> None:
        """Rebuild the chosen ops, and bring to the others what they use."""
        for op in list(self.graph.ops()):
            if op.is_constant or op in self.problem.steps:
                continue
            with self.ctx.builder(before=op, like=op):
                if op in self.chosen:
                    self._rebuild(op)
                    continue
                for index, operand in enumerate(op.operands):
                    if isinstance(operand, Value) and not operand.is_constant:
                        found = self.written(operand)
                        if found is not operand:
                            op.set_operand(index, found)
        with self.ctx.builder(like=next(self.graph.reversed_ops(), None)):
            outputs = [value if value.is_constant else self.written(value) for value in self.graph.outputs]
        for old, new in zip(self.graph.outputs, outputs, strict=True):
            if new is not old and new.op is not None:
                self._take_name(old, new)
        self.graph.outputs = outputs

    def _rebuild(self, op: Op) -> None:
        how, form = self.problem.movable[op], self.problem.form[op]
        results = build(op, form, how.rank, lambda value: self.other(value, how.rank, form))
        for old, new in zip(op.results, results, strict=True):
            shape = shape_in(old.tensor.shape, form)
            if not how.keeps_rank:
                movement = squeezed(op, old).movement(form, form)
                assert movement is not None, old.name
                new = moved(new, movement, shape)
            if new.tensor.shape != shape:
                raise AnecError(
                    f"{op.name} gives {new.type} {form.value}, not {list(shape)}", where=op.origin.place or None
                )
            self.held[old] = (new, form)
            self._take_name(old, new)

    def _take_name(self, old: Value, new: Value) -> None:
        name = old.name
        self.graph.rename(old, f"{name}_as_written")
        self.graph.rename(new, name)

    def written(self, value: Value) -> Value:
        """``value`` as written."""
        route = self.problem.routes[value]
        stays = route.root not in self.held and not route.is_roundabout
        return value if stays else self._bring(value, route, Form.WRITTEN)

    def other(self, value: Value, rank: int, form: Form) -> Value:
        """``value`` in another form, broadcast to ``rank`` by axes of size 1."""
        if value.is_constant and value.tensor.size == 1 and value.rank != rank:
            return value  # a number, which broadcasts by itself; what is joined has the rank of the op
        route = Route(value) if value.is_constant else self.problem.routes[value]
        return self._bring(value, route.broadcast(rank), form)

    def _bring(self, value: Value, route: Route, wanted: Form) -> Value:
        key = (value, len(route.shape), wanted)
        if key not in self.made:
            tensor, held = self.held.get(route.root, (route.root, Form.WRITTEN))
            movement = route.movement(held, wanted)
            assert movement is not None, value.name
            self.made[key] = moved(tensor, movement, shape_in(route.shape, wanted))
        return self.made[key]

"""What the split form of attention writes more, as it stands, than Core ML's own op would have asked for.

    %1 = mil.reshape(%x, [2, 15, 4, 12])                     %x: f32[2,15,48], a projection
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3]}               what attention takes
    %3 = mil.transpose(%2) {perm=[0, 1, 3, 2]}
    %4 = mil.reshape(%3, [2, 48, 1, 15])                     what its heads are split from

``ane-attention`` brings queries, keys and values into (B, H E, 1, S), for ``ane-layout`` to meet: where it does
not, those moves came on top of the program's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from anec.dialects import mil
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import TensorType
from anec.passes.ane_layout.forms import Form, Route, Step, tensors_written
from anec.passes.ane_layout.prices import size_of
from anec.passes.ane_layout.problem import Problem

_MASKING = (mil.add, mil.mul, mil.maximum, mil.tanh)
_EQUATION = "nchw,nwhu->nchu"


def surplus(graph: Graph) -> int:
    """The elements that split heads write more than whole ones in a function of static shapes; below 0 if fewer."""
    products = [op for op in graph.ops() if op.defn is mil.einsum and op.attr("equation") == _EQUATION]
    if not products:
        return 0
    problem = Problem.of(graph)
    uses: dict[Value, list[Value]] = {}
    for value in problem.written:
        uses.setdefault(problem.routes[value].root, []).append(value)
    ways: dict[Value, Route] = {}
    for op in products:
        ways |= _whole(problem, op, uses)
    return sum(size_of(value) * (_copies(problem.routes[value]) - _copies(way)) for value, way in ways.items())


def _copies(route: Route) -> int:
    if route.movement(Form.WRITTEN, Form.WRITTEN) is None:
        # A view whose axes straddle those before takes a copy of its own.
        return 1 + len(route.steps)
    return len(tensors_written(route, Form.WRITTEN, Form.WRITTEN))


def _whole(problem: Problem, op: Op, uses: dict[Value, list[Value]]) -> dict[Value, Route]:
    """For what a product of heads is made from, and what is made from it, the way that whole heads would take."""
    left, right = op.variadic("values")
    if not isinstance(left, Value) or not isinstance(right, Value):
        return {}
    first, second = _unsplit(problem, left), _unsplit(problem, right)
    if second.op is not None and second.op.defn is mil.softmax:
        ways = _heads(problem, first, 1, left)
        return ways | dict(_masks(problem, second.op)) | dict(_behind(problem, op, uses))
    return _heads(problem, first, 3, left) | _heads(problem, second, 1, right)


def _heads(problem: Problem, value: Value, axis: int, head: Value) -> dict[Value, Route]:
    """The way to [B, H, S, E], where heads are split from [B, H E, 1, S], or along the last axis of [B, S, 1, H E].

    Nothing for a product that is no head of an attention.
    """
    route = problem.routes.get(value)
    if route is None or value.rank != 4 or value.shape[2] != 1 or value.shape[axis] % head.shape[axis]:
        return {}
    batch, size, heads = value.shape[0], head.shape[axis], value.shape[axis] // head.shape[axis]
    if axis == 1:
        return {value: route.then(Step((batch, heads, size, value.shape[3]))).then(Step(perm=(0, 1, 3, 2)))}
    return {value: route.then(Step((batch, value.shape[1], heads, size))).then(Step(perm=(0, 2, 1, 3)))}


def _masks(problem: Problem, softmax: Op) -> Iterator[tuple[Value, Route]]:
    """What is added to [B, S, H, L] instead of [B, H, L, S]."""
    scores = softmax.value("x")
    while scores.op is not None and scores.op.defn in _MASKING:
        bias, inner = scores.op.arguments().get("y"), scores.op.operand("x")
        if isinstance(bias, Value) and not bias.is_constant and bias.rank == 4:
            bias = _unsplit(problem, bias)
            if bias in problem.routes:
                yield bias, problem.routes[bias].then(Step(perm=(0, 2, 3, 1)))
        if not isinstance(inner, Value):
            return
        scores = inner


def _unsplit(problem: Problem, value: Value) -> Value:
    """What heads were split from, in front of what scales or bounds them."""
    while (
        value.op is not None
        and value in problem.routes
        and not problem.routes[value].steps
        and value.op.defn in (mil.split, *_MASKING)
    ):
        inner = value.op.operand("x")
        if not isinstance(inner, Value) or inner not in problem.routes or inner.rank != 4:
            break
        value = inner
    return value


def _behind(problem: Problem, op: Op, uses: dict[Value, list[Value]]) -> Iterator[tuple[Value, Route]]:
    """The uses of the heads that are joined again."""
    batch, size, *_ = op.results[0].shape
    joined = op.results[0]
    while len(joined.users) == 1 and next(iter(joined.users)).defn in (mil.concat, mil.mul, mil.select):
        joined = next(iter(joined.users)).results[0]
    if joined.rank != 4 or joined.shape[0] != batch or joined.shape[2] != 1 or joined.shape[1] % size:
        return
    heads = Value(joined.name, TensorType(joined.tensor.dtype, (batch, joined.shape[1] // size, joined.shape[3], size)))
    start = Route(heads).then(Step(perm=(0, 1, 3, 2))).then(Step(joined.tensor.shape))
    for value in uses.get(joined, ()):
        yield value, Route(heads, (*start.steps, *problem.routes[value].steps))

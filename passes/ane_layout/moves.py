"""What a choice of forms moves: its edges, and the elements that transposes and reshapes then write.

    %1 = mil.reshape(%x, [1, 77, 2, 8])         %x: f32[1,77,16]
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3]}
    %3 = mil.transpose(%1) {perm=[0, 2, 3, 1]}

Two edges; what they begin with is written once, so three tensors of 1232 elements are. Views that
only add or drop axes of size 1 write nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.graph import Graph, Op, Value
from anec.passes.ane_layout.forms import Copy, Form, Route, cost, tensors_written
from anec.passes.ane_layout.prices import size_of, squeezed
from anec.passes.ane_layout.problem import Problem


@dataclass(frozen=True, slots=True)
class Move:
    """An edge: a value brought to a form, once for all ops that want it so.

    Args:
        value: what an op made, or an input.
        held: the form it is held in.
        wanted: the form it is brought to.
        price: what that takes in the unit of the cut, the bytes moved in float16; 0 for a view.
        users: the ops that want it; None is the function's end.
    """

    value: Value
    held: Form
    wanted: Form
    price: int
    users: tuple[Op | None, ...]

    @property
    def is_cut(self) -> bool:
        """Whether the cut goes through it. Others are moves of the model's own, as keys are turned."""
        return self.held is not self.wanted


def moves(problem: Problem, chosen: set[Op]) -> Iterator[Move]:
    """Every edge as it is built: one for a route, the rank it is broadcast to, and a form."""
    for (value, rank, form), users in _edges(problem, chosen).items():
        route = problem.routes[value].broadcast(rank)
        held = _held(problem, chosen, route)
        yield Move(route.root, held, form, cost(route, held, form), tuple(users))


def _edges(problem: Problem, chosen: set[Op]) -> dict[tuple[Value, int, Form], list[Op | None]]:
    edges: dict[tuple[Value, int, Form], list[Op | None]] = {}
    for value, users in problem.written.items():
        for user in users:
            if user is not None and user in chosen:
                edge = value, problem.movable[user].rank, problem.form[user]
            else:
                edge = value, value.rank, Form.WRITTEN
            edges.setdefault(edge, []).append(user)
    return edges


def _held(problem: Problem, chosen: set[Op], route: Route) -> Form:
    maker = problem.maker(route)
    return problem.form[maker] if maker is not None and maker in chosen else Form.WRITTEN


def elements_written(problem: Problem, chosen: set[Op]) -> int:
    """The elements that transposes and reshapes write when ``chosen`` are built in their other form."""
    made: dict[object, int] = {}
    for value, route in problem.routes.items():
        if not route.steps and value.op is not None and is_written(value.op):
            made[value.op] = size_of(value)
    for (value, rank, form), users in _edges(problem, chosen).items():
        route = problem.routes[value].broadcast(rank)
        held = _held(problem, chosen, route)
        if form is held is Form.WRITTEN and not route.is_roundabout:
            made |= {step: size_of(step.results[0]) for step in _steps_to(problem, value) if is_written(step)}
        else:
            way = tensors_written(route, held, form)
            if way and _swaps_last(way[-1]) and all(user is not None and user.defn is mil.matmul for user in users):
                # The product swaps them itself.
                way = way[:-1]
            # What ways from one tensor begin with alike is one op.
            made |= {(route.root, held, way[: count + 1]): size_of(route.root) for count in range(len(way))}
    for op in chosen:
        if not problem.movable[op].keeps_rank:
            form = problem.form[op]
            for result in op.results:
                made[result] = size_of(result) * len(tensors_written(squeezed(op, result), form, form))
    return sum(made.values())


def _swaps_last(copy: Copy) -> bool:
    _, perm = copy
    return perm is not None and perm == (*range(len(perm) - 2), len(perm) - 1, len(perm) - 2)


def _steps_to(problem: Problem, value: Value) -> Iterator[Op]:
    while value.op is not None and value.op in problem.steps:
        yield value.op
        value = value.op.value("x")


def elements_given(graph: Graph) -> int:
    """The elements that transposes and reshapes of a function of static shapes write as it stands."""
    return sum(size_of(op.results[0]) for op in graph.ops() if is_written(op))


def is_written(op: Op) -> bool:
    """Whether ``op`` copies data only to move them."""
    return op.defn in (mil.reshape, mil.transpose) and not op.is_constant

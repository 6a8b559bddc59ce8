"""What the layout cut decided, as data: which edges it cuts at what price, and what holds ops back.

    %g: f32[8] weight, %w: f32[32,8] weight
    %1 = mil.layer_norm(%x, %g) {axes=[-1]}
    %y = mil.linear(%1, %w)

Both ops are held channels first. The cut goes through two edges: %x to the norm, one transpose for one
user, and %y to the end of the function, one for that. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anec.ir.graph import Graph, Op, Value
from anec.passes.ane_layout.cut import decide
from anec.passes.ane_layout.forms import Form, cost, is_movement
from anec.passes.ane_layout.problem import Problem
from anec.passes.ane_layout.transfer import judged


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


@dataclass(frozen=True, slots=True)
class Report:
    """The layout of a function.

    Args:
        turned: the ops held in another form than the written one.
        kept: those that could be, and are not: turning costs more than it gains.
        fixed: those that cannot be, and why.
        moves: the edges along which data move, the most expensive first.
        views: how many more edges are cut, but by views, which cost nothing.
    """

    turned: tuple[Op, ...]
    kept: tuple[Op, ...]
    fixed: tuple[tuple[Op, str], ...]
    moves: tuple[Move, ...]
    views: int


def report(graph: Graph) -> Report:
    """What :func:`anec.passes.ane_layout.cut.decide` says of a function of static shapes."""
    problem = Problem.of(graph)
    chosen = decide(problem)
    moves = list(_moves(problem, chosen))
    others = [
        op for op in graph.ops() if not op.is_constant and op not in problem.steps and op not in problem.movable
    ]
    return Report(
        tuple(op for op in problem.movable if op in chosen),
        tuple(op for op in problem.movable if op not in chosen),
        tuple((op, _hindrance(op)) for op in others),
        tuple(sorted((move for move in moves if move.price), key=lambda move: -move.price)),
        sum(move.is_cut and not move.price for move in moves),
    )


def _hindrance(op: Op) -> str:
    if is_movement(op):
        return "it joins or parts axes that stand apart in another form"
    found = judged(op)
    assert isinstance(found, str)
    return found


def _moves(problem: Problem, chosen: set[Op]) -> Iterator[Move]:
    """Every edge as it is built: one for a route, the rank it is broadcast to, and a form."""
    wanted: dict[tuple[Value, int, Form], list[Op | None]] = {}
    for value, users in problem.written.items():
        for user in users:
            if user is not None and user in chosen:
                edge = value, problem.movable[user].rank, problem.form[user]
            else:
                edge = value, value.rank, Form.WRITTEN
            wanted.setdefault(edge, []).append(user)
    for (value, rank, form), users in wanted.items():
        route = problem.routes[value].broadcast(rank)
        maker = problem.maker(route)
        held = problem.form[maker] if maker is not None and maker in chosen else Form.WRITTEN
        yield Move(route.root, held, form, cost(route, held, form), tuple(users))

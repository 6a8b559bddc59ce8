"""What the layout cut decided, as data: which edges it cuts at what price, and what holds ops back.

    %g: f32[8] weight, %w: f32[32,8] weight
    %1 = mil.layer_norm(%x, %g) {axes=[-1]}
    %y = mil.linear(%1, %w)

Both ops are held channels first. The cut goes through two edges: %x to the norm, one transpose for one
user, and %y to the end of the function, one for that. Nothing is changed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Op
from anec.passes.ane_layout.decision import Decision
from anec.passes.ane_layout.forms import is_movement
from anec.passes.ane_layout.moves import Move, moves
from anec.passes.ane_layout.transfer import judged


@dataclass(frozen=True, slots=True)
class Report:
    """The layout of a function.

    Args:
        turned: the ops held in another form than the written one.
        kept: those that could be, and are not: turning costs more than it gains.
        fixed: those that cannot be, and why.
        moves: the edges along which data move, the most expensive first.
        views: how many more edges are cut, but by views, which cost nothing.
        note: why less is moved than prices alone would have it; None where they decide.
    """

    turned: tuple[Op, ...]
    kept: tuple[Op, ...]
    fixed: tuple[tuple[Op, str], ...]
    moves: tuple[Move, ...]
    views: int
    note: str | None = None


def report(found: Decision) -> Report:
    """What a decision says of a function."""
    problem, chosen = found.problem, found.chosen
    edges = list(moves(problem, chosen))
    others = [op for op in problem.graph.ops() if not (op.is_constant or op in problem.steps or op in problem.movable)]
    return Report(
        tuple(op for op in problem.movable if op in chosen),
        tuple(op for op in problem.movable if op not in chosen),
        tuple((op, _hindrance(op)) for op in others),
        tuple(sorted((move for move in edges if move.price), key=lambda move: -move.price)),
        sum(move.is_cut and not move.price for move in edges),
        found.note,
    )


def _hindrance(op: Op) -> str:
    if is_movement(op):
        return "it joins or parts axes that stand apart in another form"
    found = judged(op)
    assert isinstance(found, str)
    return found

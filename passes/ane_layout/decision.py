"""One choice of forms for a function, which moves no more data than the function did as it was written.

What the hardware gains from products over channels first is priced as data moved (``prices.py``): where
it is bought with transposes, a program may write more of them than before. Such a choice is made again
with dearer copies, in the end so dear that nothing else counts; all ops as written are always a choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.ir.graph import Graph, Op
from anec.passes.ane_layout.cut import decide
from anec.passes.ane_layout.moves import elements_written
from anec.passes.ane_layout.prices import Prices
from anec.passes.ane_layout.problem import Problem

# What an element written costs besides: nothing, two transposes, and more than all else together.
_COPIES = (0, 4, 1 << 32)


@dataclass(frozen=True, slots=True)
class Decision:
    """The forms of a function's ops.

    Args:
        problem: what there was to decide; it names the form of each op.
        chosen: the ops that are held in another form than the written one.
        written: the elements that transposes and reshapes then write.
        priced: the elements they would write if only prices counted.
        allowed: the elements they may write; None for any number.
    """

    problem: Problem
    chosen: set[Op]
    written: int
    priced: int
    allowed: int | None

    @property
    def note(self) -> str | None:
        """Why the choice is not the one of the best price; None where it is."""
        if self.allowed is None or self.priced <= self.allowed:
            return None
        found = f"products over channels first would write {self.priced} elements by transposes and reshapes"
        held = f"{len(self.chosen)} ops are held in another form" if self.chosen else "all ops stay as written"
        return f"{found}, where the program writes {self.allowed}: {held}, which writes {self.written}"


def is_static(graph: Graph) -> bool:
    """Whether no size of a function is flexible, of an input that only static parts are used of either."""
    return all(value.tensor.is_static for value in (*graph.inputs, *(r for op in graph.ops() for r in op.results)))


def decided(graph: Graph, allowed: int | None = None) -> Decision:
    """The best choice for a function of static shapes that writes at most ``allowed`` elements.

    Where there is none, the one that writes least.
    """
    best: Decision | None = None
    priced = 0
    for copies in _COPIES:
        problem = Problem.of(graph, Prices(copies))
        chosen = decide(problem)
        written = elements_written(problem, chosen)
        priced = written if best is None else priced
        if best is None or written < best.written:
            best = Decision(problem, chosen, written, priced, allowed)
        if allowed is None or written <= allowed:
            break
    assert best is not None
    return best

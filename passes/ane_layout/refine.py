"""Choices that no minimum cut expresses: what hangs together is tried in every form, at its exact price.

    %1 = mil.sub(%m, 1.0)                               %m: f32[1,1,32,32]
    %2 = mil.mul(%1, 40000.0)
    %3 = mil.transpose(%2) {perm=[0, 3, 1, 2]}          what several layers add to their scores
    %4 = mil.reduce_max(%m) {axes=[3], keep_dims=true}  what they multiply queries with

All four are free channels first. A cut sees that neither for one op alone nor, as it knows one other
form and counts no use in the written form as cheaper from there, for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from anec.ir.graph import Op, Value
from anec.passes.ane_layout.forms import Form
from anec.passes.ane_layout.problem import Problem, used

_SWEEPS = 4


def refined(problem: Problem, chosen: set[Op]) -> set[Op]:
    """A choice that costs no more than ``chosen``, nor than all ops as written.

    Sets ``problem.form`` where it finds a better one.
    """
    choice = _Choice(problem, chosen)
    groups = [*problem.components(problem.movable), *([op] for op in problem.movable)]
    for _ in range(_SWEEPS):
        improved = [group for group in groups if choice.improve(group)]
        if not improved:
            break
    if choice.total() >= _Choice(problem, set()).total():
        return set()
    turned = {op: form for op, form in choice.form.items() if form is not Form.WRITTEN}
    problem.form.update(turned)
    return set(turned)


class _Choice:
    """A form for each movable op."""

    def __init__(self, problem: Problem, chosen: set[Op]) -> None:
        self.problem = problem
        self.form = {op: problem.form[op] if op in chosen else Form.WRITTEN for op in problem.movable}
        self.prices: dict[tuple[Op, Form], int] = {}
        self.makers = {value: problem.maker(problem.routes[value]) for value in problem.written}
        self.uses = {value: self._uses(value) for value in problem.written}
        self.costs: dict[tuple[Value, int, Form, Form], int] = {}
        self.ends: dict[Op, list[Value]] = {}
        for value, maker in self.makers.items():
            if maker is not None:
                self.ends.setdefault(maker, []).append(value)

    def _uses(self, value: Value) -> list[tuple[Op | None, int]]:
        """Who uses a value, None for what is fixed, and the rank it has there in another form."""
        users = (user if user in self.form else None for user in self.problem.written[value])
        return [(user, value.rank if user is None else self.problem.movable[user].rank) for user in users]

    def improve(self, group: list[Op]) -> bool:
        """Give a group the form that costs least; false when it has that already."""
        forms = [form for form in self.problem.movable[group[0]].forms if self._all_have(group, form)]
        values = dict.fromkeys(value for op in group for value in (*used(op), *self.ends.get(op, ())))
        before = {op: self.form[op] for op in group}
        best, least = before, self._price(group, values)
        for form in (Form.WRITTEN, *forms):
            self.form.update(dict.fromkeys(group, form))
            found = self._price(group, values)
            if found < least:
                best, least = dict.fromkeys(group, form), found
        self.form.update(best)
        return best is not before

    def _all_have(self, group: list[Op], form: Form) -> bool:
        return all(form in self.problem.movable[op].forms for op in group)

    def total(self) -> int:
        """What the whole choice costs."""
        return self._price(self.form, self.problem.written)

    def _price(self, ops: Iterable[Op], values: Iterable[Value]) -> int:
        return sum(map(self._of_op, ops)) + sum(map(self._of_value, values))

    def _of_op(self, op: Op) -> int:
        key = (op, self.form[op])
        if key not in self.prices:
            self.prices[key] = self.problem.prices.working(op, self.problem.movable[op], self.form[op])
        return self.prices[key]

    def _of_value(self, value: Value) -> int:
        """Bringing a value to all who use it, once for each form they want."""
        maker = self.makers[value]
        held = Form.WRITTEN if maker is None else self.form[maker]
        wanted: set[tuple[int, Form]] = set()
        for user, rank in self.uses[value]:
            form = Form.WRITTEN if user is None else self.form[user]
            wanted.add((value.rank if form is Form.WRITTEN else rank, form))
        return sum(self._cost(value, rank, held, form) for rank, form in wanted)

    def _cost(self, value: Value, rank: int, held: Form, wanted: Form) -> int:
        key = (value, rank, held, wanted)
        if key not in self.costs:
            self.costs[key] = self.problem.prices.moving(self.problem.routes[value].broadcast(rank), held, wanted)
        return self.costs[key]

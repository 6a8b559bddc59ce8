"""What a function asks of a layout: its movable ops, the form each may take, and who uses what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import LayoutKind
from anec.passes.ane_layout.forms import Form, Route, extended, is_movement
from anec.passes.ane_layout.prices import PRICED, Prices
from anec.passes.ane_layout.transfer import Moving, moving


@dataclass(slots=True)
class Problem:
    """What there is to decide.

    Args:
        graph: the function.
        prices: what things cost.
        movable: the ops that can work in another form.
        form: which one each of them would take.
        routes: the route to each value.
        steps: the views and permutes that are part of routes.
        written: for each value the ops that may use it as written; None is the function's end.
        other: for each value, the rank it is broadcast to and the form, the ops that may use it so.
    """

    graph: Graph
    prices: Prices = PRICED
    movable: dict[Op, Moving] = field(default_factory=dict)
    form: dict[Op, Form] = field(default_factory=dict)
    routes: dict[Value, Route] = field(default_factory=dict)
    steps: set[Op] = field(default_factory=set)
    written: dict[Value, list[Op | None]] = field(default_factory=dict)
    other: dict[tuple[Value, int, Form], list[Op]] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, prices: Prices = PRICED) -> Problem:
        """The problem a function poses."""
        found = Problem(graph, prices)
        found.routes.update({value: Route(value) for value in graph.inputs})
        for op in graph.ops():
            if op.is_constant or found._is_step(op):
                continue
            found.routes.update({value: Route(value) for value in op.results})
            how = moving(op)
            if how is not None:
                found.movable[op] = how
                found.form[op] = how.forms[0]
            for value in used(op):
                found._add(value, op)
        for value in dict.fromkeys(graph.outputs):
            if not value.is_constant:
                found._add(value, None)
        found._choose_forms()
        for op, how in found.movable.items():
            for value in used(op):
                found.other.setdefault((value, how.rank, found.form[op]), []).append(op)
        return found

    def _is_step(self, op: Op) -> bool:
        """Whether ``op`` is part of a route, which it then extends."""
        route = extended(self.routes[op.value("x")], op) if is_movement(op) else None
        if route is None:
            return False
        self.routes[op.results[0]] = route
        self.steps.add(op)
        return True

    def _add(self, value: Value, op: Op | None) -> None:
        self.written.setdefault(value, []).append(op)

    def maker(self, route: Route) -> Op | None:
        """The movable op that made a route's root, if one did."""
        op = route.root.op
        return op if op in self.movable else None

    # -- one form for what hangs together ----------------------------------------------------------

    def _choose_forms(self) -> None:
        """Where there are several other forms, the one that neighbours are reached from most cheaply."""
        ends: dict[Op, list[Value]] = {}
        for value in self.written:
            maker = self.maker(self.routes[value])
            if maker is not None:
                ends.setdefault(maker, []).append(value)
        for members in self.components(op for op, how in self.movable.items() if len(how.forms) > 1):
            shared = [
                form for form in self.movable[members[0]].forms if all(form in self.movable[op].forms for op in members)
            ]
            if len(shared) > 1:
                reached = [value for op in members for value in ends.get(op, ())]
                best = min(shared, key=lambda form: self._price(members, reached, form))
                self.form.update(dict.fromkeys(members, best))

    def components(self, ops: Iterable[Op]) -> list[list[Op]]:
        """Movable ops, joined where one uses the other's result as it is.

        What is broadcast is small: bringing it into another form is cheap, and joins nothing.
        """
        leader: dict[Op, Op] = {op: op for op in ops}

        def find(op: Op) -> Op:
            while leader[op] is not op:
                leader[op] = leader[leader[op]]
                op = leader[op]
            return op

        for op in leader:
            for value in used(op):
                maker = self.routes[value].root.op
                if (
                    maker in leader
                    and self.movable[maker].rank == self.movable[op].rank == value.rank
                    and not self.routes[value].steps
                    and not _is_broadcast(op, value)
                ):
                    leader[find(op)] = find(maker)
        groups: dict[Op, list[Op]] = {}
        for op in leader:
            groups.setdefault(find(op), []).append(op)
        return list(groups.values())

    def _price(self, members: list[Op], reached: list[Value], form: Form) -> int:
        """What a component takes, and moving data into and out of it, each neighbour being as near as it can."""
        inside = set(members)
        total = sum(self.prices.working(op, self.movable[op], form) for op in members)
        for op in members:
            for value in used(op):
                route = self.routes[value].broadcast(self.movable[op].rank)
                maker = self.maker(route)
                if maker not in inside:
                    held = self.movable[maker].forms if maker else ()
                    total += min(self.prices.moving(route, at, form) for at in (Form.WRITTEN, *held))
        for value in reached:
            for user in self.written[value]:
                if user not in inside:
                    total += min(self.prices.moving(self.routes[value], form, at) for at in self._wanted(user, value))
        return total

    def _wanted(self, user: Op | None, value: Value) -> tuple[Form, ...]:
        how = self.movable.get(user) if user else None
        return (Form.WRITTEN, *(how.forms if how and how.rank == value.rank else ()))


def _is_broadcast(op: Op, value: Value) -> bool:
    return op.defn.layout.kind is LayoutKind.ELEMENTWISE and value.tensor.shape != op.results[0].tensor.shape


def used(op: Op) -> list[Value]:
    """The values an op uses that are not constant, each once."""
    return [value for value in dict.fromkeys(op.inputs) if not value.is_constant]

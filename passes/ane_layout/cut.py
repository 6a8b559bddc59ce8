"""Which form each op's results are held in: a minimum cut.

Every op that can work in another form than the written one is a node. A form costs what the op takes
in it; an edge to each use costs what bringing the data there takes, once for each tensor and form
wanted, however many ops want it. The cheapest assignment is a minimum cut between the written and
the other form (Boykov, Veksler, Zabih 2001, "Fast approximate energy minimization via graph cuts").

Where moving data between two ops in other forms costs more than from the written one, or less from
another form to the written one, no cut says so: ``refine.py`` looks at those again.
"""

from __future__ import annotations

from anec.ir.graph import Op, Value
from anec.passes.ane_layout.forms import Form
from anec.passes.ane_layout.network import FAR, NEAR, Network
from anec.passes.ane_layout.problem import Problem
from anec.passes.ane_layout.refine import refined


def decide(problem: Problem) -> set[Op]:
    """The ops to hold in another form, which ``problem.form`` names."""
    return refined(problem, _cut(problem))


def _cut(problem: Problem) -> set[Op]:
    """The ops on the far side of a minimum cut."""
    network = Network()
    cost = problem.prices.moving
    for op, how in problem.movable.items():
        network.pay(NEAR, op, problem.prices.working(op, how, problem.form[op]))
        network.pay(op, FAR, problem.prices.working(op, how, Form.WRITTEN))
    alone: set[Value] = set()
    for value, users in problem.written.items():
        route = problem.routes[value]
        maker = problem.maker(route)
        only = users[0] if len(users) == 1 else None
        if only is not None and only in problem.movable:
            alone.add(value)
            _join(network, problem, value, maker, only)
            continue
        # This node is near as soon as one user wants the value as written.
        for user in users:
            network.forbid(user if user in problem.movable else NEAR, value)
        low = cost(route, Form.WRITTEN, Form.WRITTEN)
        network.pay(value, FAR, low)
        if maker is not None:
            network.pay(value, maker, cost(route, problem.form[maker], Form.WRITTEN) - low)
    for wish, movers in problem.other.items():
        # This node is far as soon as one user wants the value in the other form.
        value, rank, form = wish
        if value in alone:
            continue
        route = problem.routes[value].broadcast(rank)
        maker = problem.maker(route)
        for op in movers:
            network.forbid(wish, op)
        high = cost(route, Form.WRITTEN, form)
        low = high if maker is None else min(high, cost(route, problem.form[maker], form))
        network.pay(NEAR, wish, low)
        if maker is not None:
            network.pay(maker, wish, high - low)
    far = network.far_side()
    return {op for op in problem.movable if op in far}


def _join(network: Network, problem: Problem, value: Value, maker: Op | None, user: Op) -> None:
    """The price of an edge to the only user, which depends on the forms at both ends."""
    form, plain, cost = problem.form[user], problem.routes[value], problem.prices.moving
    route = plain.broadcast(problem.movable[user].rank)
    near = cost(plain, Form.WRITTEN, Form.WRITTEN)
    into = cost(route, Form.WRITTEN, form)
    if maker is None:
        _charge(network, user, into - near)
        return
    back = cost(plain, problem.form[maker], Form.WRITTEN)
    far = min(cost(route, problem.form[maker], form), into + back - near)
    network.pay(maker, user, into + back - near - far)
    _charge(network, maker, back - near)
    _charge(network, user, far - back)


def _charge(network: Network, op: Op, amount: int) -> None:
    """Charge the other form of an op, or, where ``amount`` is below 0, its written form."""
    network.pay(NEAR, op, amount)
    network.pay(op, FAR, -amount)

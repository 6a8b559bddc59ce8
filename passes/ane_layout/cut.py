"""Which form each op's results are held in: a minimum cut.

Every op that can work in another form than the written one is a node. A form costs what the op takes
in it; an edge to each use costs what bringing the data there takes, once for each tensor and form
wanted, however many ops want it. The cheapest assignment is a minimum cut between the written and
the other form (Boykov, Veksler, Zabih 2001, "Fast approximate energy minimization via graph cuts").

Where moving data between two ops in other forms costs more than from the written one, no cut says
so: that edge is counted as cheap as the other, and only the choice, not the program, is the worse.
"""

from __future__ import annotations

from collections.abc import Sequence

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.types import TensorType
from anec.passes.ane_layout.forms import Form, Route, Step, cost
from anec.passes.ane_layout.network import FAR, NEAR, Network
from anec.passes.ane_layout.problem import Problem
from anec.passes.lower_to_mil.permutation import volume


def decide(problem: Problem) -> set[Op]:
    """The ops to hold in another form: those on the far side of a minimum cut."""
    network = Network()
    for op in problem.movable:
        network.pay(NEAR, op, _squeezing(problem, op))
        network.pay(op, FAR, as_written(op))
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
    form, plain = problem.form[user], problem.routes[value]
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


def _charge(network: Network, op: Op, price: int) -> None:
    """Charge the other form of an op, or, where ``price`` is below 0, its written form."""
    network.pay(NEAR, op, price)
    network.pay(op, FAR, -price)


def as_written(op: Op) -> int:
    """What an op takes as it is written, in the unit of :func:`cost`.

    A product with a constant is split into less efficient ops and may fall back (rule A20): it is worth
    one and a half transposes of its smaller end, so that a block of two turns, and a head onto a large
    vocabulary does not. One of single rows leaves a last axis of one element (rule A06), so that it is
    worth less: it turns where it meets others. A norm or softmax over the last axis cannot be divided
    along that (rule A23).
    """
    if op.defn is mil.linear or op.defn is mil.matmul:
        return (1 if op.results[0].rank == 2 else 3) * min(_size(op.results[0]), _size(op.value("x")))
    return _size(op.results[0]) if op.defn in (mil.layer_norm, mil.softmax) else 0


def _size(value: Value) -> int:
    size = volume(value.tensor.shape)
    assert isinstance(size, int)
    return size


def _squeezing(problem: Problem, op: Op) -> int:
    """What dropping axes takes in the other form."""
    form = problem.form[op]
    if problem.movable[op].keeps_rank:
        return 0
    return sum(cost(squeezed(op, result), form, form) for result in op.results)


def squeezed(op: Op, result: Value) -> Route:
    """From the result with all axes kept to the result itself."""
    kept = TensorType(result.tensor.dtype, _kept_shape(op, result))
    return Route(Value(result.name, kept)).then(Step(result.tensor.shape))


def _kept_shape(op: Op, result: Value) -> tuple[Dim, ...]:
    flags = op.attrs.get("squeeze_mask")
    if isinstance(flags, tuple):
        sizes = iter(result.tensor.shape)
        return tuple(1 if dropped else next(sizes) for dropped in flags)
    shape = list(op.value("x").tensor.shape)
    axes = op.attr("axes" if "axes" in op.defn.by_name else "axis")
    given: Sequence[object] = axes if isinstance(axes, tuple) else range(len(shape)) if axes is None else (axes,)
    for axis in given:
        assert isinstance(axis, int)
        shape[axis] = 1
    return tuple(shape)

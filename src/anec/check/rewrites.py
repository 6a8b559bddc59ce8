"""Level 1: every rewrite judged by itself, in float64, on drawn values.

The ops a rule matched and the ops it built are closed over the values they share and run side by
side. Constants keep their numbers; the other values are drawn from their dtype, the rule's
``domain`` and known facts, plain draws first, then edge values. The model itself never runs.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import torch

from anec.check.draw import EDGES, SPECIAL, draw, edge
from anec.check.fidelity import Close, Fidelity
from anec.errors import AnecError, CheckError
from anec.ir.facts import Facts, is_constant
from anec.ir.graph import Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.printer import print_op
from anec.reference.call import DOUBLE
from anec.reference.evaluate import Evaluator, evaluate_constant
from anec.rewrite.records import Rewrite

# Integers whose largest number is below it are narrow: the floats that are drawn go beyond.
_NARROW = 1 << 16
# Beyond this many elements in all operands and results a rewrite is reported as unchecked.
ELEMENT_LIMIT = 4_000_000
EXACT_REL = 1e-10
ROUNDING = 64 * torch.finfo(torch.float64).eps
# How many ops in front of a value are searched for others that it depends on.
_NEAR = 32


def check_rewrite(
    rewrite: Rewrite,
    module: Module,
    fidelity: Fidelity,
    *,
    seed: int = 0,
    draws: int = 2,
    facts: Facts | None = None,
) -> str:
    """Judge one rewrite.

    Args:
        rewrite: both of its sides are in the graph.
        module: the module of the graph.
        fidelity: what the pass promises.
        seed: of the drawn values.
        draws: plain draws.
        facts: of the graph, kept by the caller from one rewrite to the next.

    Returns:
        Why it could not be checked, or the empty string.

    Raises:
        CheckError: the two sides differ; names rule, site, and the values that tell.
    """
    ops = sorted({*rewrite.match.ops, *rewrite.created}, key=lambda op: op._key)
    pairs = [(old, new) for old, new in zip(rewrite.old, rewrite.new, strict=False)]
    if any(op.defn.effects is not Effect.NONE for op in ops):
        return "state or randomness"
    ops = _needed(ops, [new for _, new in pairs])
    if facts is None:
        facts = Facts(rewrite.graph)
        try:
            return check_rewrite(rewrite, module, fidelity, seed=seed, draws=draws, facts=facts)
        finally:
            facts.close()
    problem: CheckError | None = None
    for closed in _closures(ops, [new for _, new in pairs]):
        try:
            return _judge(rewrite, closed, pairs, module, fidelity, seed, draws, facts)
        except CheckError as error:
            problem = error
    assert problem is not None
    raise problem


def _judge(
    rewrite: Rewrite,
    ops: list[Op],
    pairs: list[tuple[Value, Value]],
    module: Module,
    fidelity: Fidelity,
    seed: int,
    draws: int,
    facts: Facts,
) -> str:
    """Run both sides, which ``ops`` hold, on drawn values; see :func:`check_rewrite`."""
    made = {result for op in ops for result in op.results}
    leaves = _leaves(ops, [new for _, new in pairs])
    if any(not value.tensor.is_static for value in (*leaves, *made)):
        return "symbolic shape"
    if sum(value.tensor.size for value in (*leaves, *made)) > ELEMENT_LIMIT:
        return "too large"
    constants = {leaf: evaluate_constant(leaf, module) for leaf in leaves if is_constant(leaf)}
    free = [leaf for leaf in leaves if leaf not in constants]
    problem, compared = "nothing to draw", False
    for drawn in _rounds(rewrite, ops, free, seed, draws, facts):
        # Some draws no kernel takes, as a division of whole numbers by 0: the others decide.
        failure = _compare(rewrite, ops, {**constants, **drawn}, pairs, module, fidelity)
        problem, compared = failure or problem, compared or not failure
    return "" if compared else problem


def _rounds(
    rewrite: Rewrite, ops: Sequence[Op], free: Sequence[Value], seed: int, draws: int, facts: Facts
) -> Iterator[dict[Value, torch.Tensor]]:
    """Numbers for the values that are not constant: plain draws, then edges one kind at a time."""
    if not free:
        yield {}
        return
    domains = _domains(rewrite, ops, free, facts)
    generator = torch.Generator().manual_seed(seed)
    for number in range(draws):
        yield {leaf: draw(leaf, generator, domains.get(leaf), signed=number % 2 == 0) for leaf in free}
    edges = EDGES if rewrite.rule.edges else ()
    for numbers in (*edges, SPECIAL) if rewrite.rule.special else edges:
        yield {leaf: edge(leaf, generator, numbers, domains.get(leaf)) for leaf in free}


def _needed(ops: Sequence[Op], new: Sequence[Value]) -> list[Op]:
    """The ops, with those that a value the rule found elsewhere needs (one step back)."""
    present = set(ops)
    extra = [value.op for value in new if value.op is not None and value.op not in present]
    extra = [op for op in extra if op.defn.effects is Effect.NONE]
    return sorted({*ops, *extra}, key=lambda op: op._key)


def _leaves(ops: Sequence[Op], new: Sequence[Value]) -> list[Value]:
    """What the ops take from outside, and replacements that stand outside."""
    made = {result for op in ops for result in op.results}
    taken = [value for op in ops for value in op.inputs if value not in made]
    return list(dict.fromkeys([*taken, *(value for value in new if value not in made)]))


def _closures(ops: list[Op], new: Sequence[Value]) -> Iterator[list[Op]]:
    """The ops; then with what lies between leaves; then with what leaves share.

    A rule may look through operands its pattern does not name, as the pieces of a list: then values that
    depend on each other are drawn apart, and only a wider closure tells.
    """
    yield ops
    leaves = [leaf for leaf in _leaves(ops, new) if not is_constant(leaf)]
    cones = {leaf: _cone(leaf, {value for value in leaves if value is not leaf}) for leaf in leaves}
    between = _linked(ops, cones, set(leaves))
    if len(between) > len(ops):
        yield between
    sources = ({leaf, *(value for op in cone for value in op.inputs)} for leaf, cone in cones.items())
    occurrences = Counter(value for values in sources for value in values if not is_constant(value))
    linked = _linked(ops, cones, {value for value, count in occurrences.items() if count > 1})
    if len(linked) > len(between):
        yield linked


def _linked(ops: list[Op], cones: dict[Value, list[Op]], shared: set[Value]) -> list[Op]:
    """The ops, with those near them by which leaves are computed from the shared values."""
    found = set(ops)
    for leaf, cone in cones.items():
        reached = shared - {leaf}
        for op in cone:
            if reached.intersection(op.inputs):
                reached.update(op.results)
                found.add(op)
    return sorted(found, key=lambda op: op._key)


def _cone(leaf: Value, others: set[Value]) -> list[Op]:
    """The ops near ``leaf`` that it is computed by, up to the other leaves, in order."""
    cone: dict[Op, None] = {}
    waiting = deque([leaf])
    while waiting and len(cone) < _NEAR:
        op = waiting.popleft().op
        if op is None or op in cone or op.defn.effects is not Effect.NONE:
            continue
        cone[op] = None
        waiting.extend(value for value in op.inputs if value not in others)
    return sorted(cone, key=lambda op: op._key)


def _domains(
    rewrite: Rewrite, ops: Sequence[Op], free: Sequence[Value], facts: Facts
) -> dict[Value, tuple[float, float]]:
    """Where values are drawn from: the rule's word, else what is known of them."""
    found, said = {}, {}
    for leaf in free:
        extent = facts.range(leaf)
        if math.isfinite(extent.lower) or math.isfinite(extent.upper):
            found[leaf] = (extent.lower, extent.upper)
        # What a float beyond the range of a narrow integer converts to, nobody promises.
        for user in leaf.users if leaf.tensor.dtype.is_float else ():
            dtype = user.results[0].tensor.dtype if user in ops and user.results else None
            if dtype is not None and dtype.is_integer and dtype.range[1] < _NARROW:
                found.setdefault(leaf, dtype.range)
    for name, bounds in rewrite.rule.domain.items():
        captured = rewrite.match.captures.get(name)
        if not isinstance(captured, Value):
            continue
        said[captured] = bounds
        # It is computed here, where leaves are linked: then so is what it says.
        for leaf in _made_of(captured, ops):
            known = found.get(leaf, bounds)
            both = max(known[0], bounds[0]), min(known[1], bounds[1])
            if leaf.tensor.dtype is captured.tensor.dtype and both[0] <= both[1]:
                found[leaf] = both
    return found | said


def _made_of(value: Value, ops: Sequence[Op]) -> set[Value]:
    """What the ops compute a value from."""
    reached = {value}
    for op in reversed(ops):
        if reached.intersection(op.results):
            reached.update(op.inputs)
    return reached - {value}


def _compare(
    rewrite: Rewrite,
    ops: list[Op],
    env: dict[Value, torch.Tensor],
    pairs: list[tuple[Value, Value]],
    module: Module,
    fidelity: Fidelity,
) -> str:
    largest = 0.0

    def observe(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        # An op adds its epsilon by itself: log(x) with one of 1 cancels as log(1 + x) does.
        epsilon = op.attr("epsilon") if "epsilon" in op.defn.by_name else None
        added = [abs(epsilon)] if isinstance(epsilon, (int, float)) else []
        if op.defn.root.endswith("_norm") and added != [0]:
            # Rows of equal numbers are divided by the root of epsilon before their mean is taken off, or after.
            added += [given / math.sqrt(one) for one in added]
        largest = max([largest, *added, *(_magnitude(result) for result in results)])

    given = max(map(_magnitude, env.values()), default=0.0)
    evaluator = Evaluator(module, rewrite.graph, DOUBLE, observe)
    held = {value: evaluator.hold(tensor, value.tensor.dtype) for value, tensor in env.items()}
    keep = {value for pair in pairs for value in pair}
    try:
        results = evaluator.run_ops(ops, dict(held), keep=keep)
    except AnecError as error:
        return f"not runnable: {error.message}"
    for old, new in pairs:
        if not (old.uses or old.is_output):
            continue
        # Where large numbers cancel, float64 itself is off by this much.
        noise = ROUNDING * max([largest, *(_magnitude(tensor) for tensor in held.values())])
        problem = _difference(results[new], results[old], fidelity, rewrite.rule.special, noise)
        if problem:
            raise _blame(rewrite, old, problem, held)
    return ""


def _magnitude(tensor: torch.Tensor) -> float:
    """The largest finite number of a float tensor."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return float(torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0).abs().max())


def _difference(
    actual: torch.Tensor, wanted: torch.Tensor, fidelity: Fidelity, special: bool, noise: float = 0.0
) -> str:
    """What is wrong with ``actual``, or the empty string."""
    if actual.shape != wanted.shape:
        return f"shape {tuple(actual.shape)} instead of {tuple(wanted.shape)}"
    if actual.is_complex() and wanted.is_complex():
        actual, wanted = torch.view_as_real(actual), torch.view_as_real(wanted)
    if not wanted.is_floating_point():
        wrong = int((actual.to(torch.float64) != wanted.to(torch.float64)).sum())
        return f"{wrong} of {wanted.numel()} values differ" if wrong else ""
    a, b = actual.to(torch.float64), wanted.to(torch.float64)
    finite = torch.isfinite(b)
    if special:
        same = (torch.isnan(a) == torch.isnan(b)) & (finite | torch.isnan(b) | (a == b))
        if not bool(same.all()):
            return "NaN or infinity at other places"
    if not bool(torch.isfinite(a[finite]).all()):
        return "NaN or infinity where the original is finite"
    a, b = a[finite], b[finite]
    if b.numel() == 0:
        return ""
    difference = (a - b).abs()
    if isinstance(fidelity, Close):
        allowed = fidelity.atol + fidelity.rtol * b.abs()
        if bool((difference > allowed).any()):
            return f"beyond {fidelity}: off by {float(difference.max()):.3g}"
        return ""
    scale = float(b.abs().max())
    worst = float(difference.max())
    if worst > EXACT_REL * scale + noise:
        return f"rel {worst / scale if scale else float('inf'):.3g}, wanted at most {EXACT_REL:g}"
    return ""


def _blame(rewrite: Rewrite, site: Value, problem: str, env: dict[Value, torch.Tensor]) -> CheckError:
    before = [print_op(op, origin=False) for op in rewrite.match.ops]
    after = [print_op(op, origin=False) for op in rewrite.created]
    values = [f"%{value.name} = {_show(tensor)}" for value, tensor in list(env.items())[:4]]
    lines = ["before:", *reversed(before), "after:", *(after or [f"%{v.name}" for v in rewrite.new]), "with:", *values]
    return CheckError(
        f"the rule {rewrite.rule.name} changes the numbers at %{site.name}: {problem}",
        where=rewrite.roots[0].origin.place or None,
        window="\n".join(lines),
        rule=rewrite.rule.name,
        hint="the rule stands at " + rewrite.rule.place if rewrite.rule.place else None,
    )


def _show(tensor: torch.Tensor) -> str:
    flat = tensor.reshape(-1)
    shown = ", ".join(f"{float(number):.4g}" for number in flat[:6])
    return f"{tuple(tensor.shape)} [{shown}{', ...' if flat.numel() > 6 else ''}]"

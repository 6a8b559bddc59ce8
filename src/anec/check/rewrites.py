"""Level 1: every rewrite judged by itself, in float64, on drawn values.

The ops a rule matched and the ops it built are closed over the values they share and run side by
side. Constants keep their numbers; the other values are drawn from their dtype, the rule's
``domain`` and known facts, plain draws first, then edge values. The model itself never runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anec.check.draw import EDGES, draw, edge
from anec.check.fidelity import Close, Fidelity
from anec.errors import AnecError, CheckError
from anec.ir.facts import is_constant
from anec.ir.graph import Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.printer import print_op
from anec.reference.call import DOUBLE
from anec.reference.evaluate import Evaluator, evaluate_constant
from anec.rewrite.driver import Rewrite

# Beyond this many elements in all operands and results a rewrite is reported as unchecked.
ELEMENT_LIMIT = 4_000_000
EXACT_REL = 1e-10


def check_rewrite(rewrite: Rewrite, module: Module, fidelity: Fidelity, *, seed: int = 0, draws: int = 2) -> str:
    """Judge one rewrite.

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
    made = {result for op in ops for result in op.results}
    leaves = list(dict.fromkeys(v for op in ops for v in op.inputs if v not in made))
    leaves += [new for _, new in pairs if new not in made and new not in leaves]
    if any(not value.tensor.is_static for value in (*leaves, *made)):
        return "symbolic shape"
    if sum(value.tensor.size for value in (*leaves, *made)) > ELEMENT_LIMIT:
        return "too large"
    constants = {leaf: evaluate_constant(leaf, module) for leaf in leaves if is_constant(leaf)}
    free = [leaf for leaf in leaves if leaf not in constants]
    domains = _domains(rewrite)
    generator = torch.Generator().manual_seed(seed)
    compared = False
    for round_ in range(draws + (len(EDGES) if free else 0)):
        env = dict(constants)
        for leaf in free:
            if round_ < draws:
                env[leaf] = draw(leaf, generator, domains.get(leaf))
            else:
                env[leaf] = edge(leaf, generator, EDGES[round_ - draws], domains.get(leaf))
        outcome = _compare(rewrite, ops, env, pairs, module, fidelity)
        if outcome:
            return outcome
        compared = True
        if not free:
            break
    return "" if compared else "nothing to draw"


def _needed(ops: Sequence[Op], new: Sequence[Value]) -> list[Op]:
    """The ops, with those that a value the rule found elsewhere needs (one step back)."""
    present = set(ops)
    extra = [value.op for value in new if value.op is not None and value.op not in present]
    extra = [op for op in extra if op.defn.effects is Effect.NONE]
    return sorted({*ops, *extra}, key=lambda op: op._key)


def _domains(rewrite: Rewrite) -> dict[Value, tuple[float, float]]:
    found = {}
    for name, bounds in rewrite.rule.domain.items():
        captured = rewrite.match.captures.get(name)
        if isinstance(captured, Value):
            found[captured] = bounds
    return found


def _compare(
    rewrite: Rewrite,
    ops: list[Op],
    env: dict[Value, torch.Tensor],
    pairs: list[tuple[Value, Value]],
    module: Module,
    fidelity: Fidelity,
) -> str:
    evaluator = Evaluator(module, rewrite.graph, DOUBLE)
    held = {value: evaluator.hold(tensor, value.tensor.dtype) for value, tensor in env.items()}
    keep = {value for pair in pairs for value in pair}
    try:
        results = evaluator.run_ops(ops, dict(held), keep=keep)
    except AnecError as error:
        return f"not runnable: {error.message}"
    for old, new in pairs:
        if not (old.uses or old.is_output):
            continue
        problem = _difference(results[new], results[old], fidelity, rewrite.rule.special)
        if problem:
            raise _blame(rewrite, old, problem, held)
    return ""


def _difference(actual: torch.Tensor, wanted: torch.Tensor, fidelity: Fidelity, special: bool) -> str:
    """What is wrong with ``actual``, or the empty string."""
    if actual.shape != wanted.shape:
        return f"shape {tuple(actual.shape)} instead of {tuple(wanted.shape)}"
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
    if worst > EXACT_REL * scale:
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

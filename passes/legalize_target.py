"""Rewrite what changed its meaning between Core ML's opsets, and refuse what a target lacks.

    %y = mil.gather(%x, [-1]) {axis=0}     ->     %y = mil.gather(%x, [1]) {axis=0}

Up to iOS16 negative gather indices wrap, from iOS17 they are undefined; up to iOS16 an epsilon has
the dtype of its tensor, so 1e-12 beside float16 is 0. Source: coremltools' op definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.errors import UnsupportedError
from anec.ir.attr_types import SMALLEST_HALF, attr_dtype, domain_dtypes, to_half
from anec.ir.attrs import Attr, Literal, same_attr
from anec.ir.facts import constants, is_constant
from anec.ir.graph import Graph, Op, Value
from anec.ir.legality import Problem, is_folded, problems
from anec.ir.opdef import Version
from anec.ir.types import DType
from anec.ir.weights import TensorData, Weight
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register

_WRAPPING = ("mil.gather", "mil.gather_along_axis")


@register
@dataclass
class LegalizeTarget(Pass):
    """Adapt the program to the module's target; one error lists all that it lacks."""

    name = "legalize-target"
    fidelity = EXACT
    dialects = frozenset({"mil"})
    after = ("lower-to-mil", "to-fp16")
    requires = ("mil",)

    def run(self, graph: Graph, ctx: Context) -> None:
        opset = ctx.module.opset
        constant = constants(graph)
        found: list[tuple[Op, Problem]] = []
        for op in graph.ops():
            if all(result in constant for result in op.results) and is_folded(op):
                continue
            if opset >= op.defn.since:
                _drop_defaults(op, op.defn.version(opset))
                _round_epsilon(op, op.defn.version(opset), ctx)
            if opset >= 17:
                _wrap_indices(op, ctx)
            found += [(op, problem) for problem in problems(op, opset)]
        if found:
            raise _refusal(found, ctx.module.target)


def _drop_defaults(op: Op, version: Version) -> None:
    """An attribute the version lacks may go when it says what the version does anyway."""
    known = {param.name for param in version.params}
    for name in [name for name in op.attrs if name not in known]:
        if same_attr(op.attrs[name], op.defn.by_name[name].default):
            op.drop_attr(name)


def _round_epsilon(op: Op, version: Version, ctx: Context) -> None:
    """An epsilon that is a float16 constant, as that holds it; one that would vanish becomes the smallest there is.

    Up to iOS16 it has the dtype of x, from iOS17 on that of gamma, where there is one.
    """
    epsilon = op.attrs.get("epsilon")
    param = next((param for param in version.params if param.name == "epsilon"), None)
    if not isinstance(epsilon, float) or epsilon == 0.0 or param is None:
        return
    if attr_dtype(op, param, epsilon, domain_dtypes(op, version.params)) is not DType.F16:
        return
    rounded = to_half(epsilon)
    if rounded == 0.0:
        rounded = SMALLEST_HALF
        ctx.note(f"legalize-target: epsilon {epsilon:g} of {op.name} is 0 in float16; {rounded:g} stands in for it")
    elif ctx.module.opset >= 17:
        return
    if rounded != epsilon:
        op.set_attr("epsilon", rounded)


def _wrap_indices(op: Op, ctx: Context) -> None:
    """Constant negative indices count from the end before they are undefined."""
    if op.name not in _WRAPPING:
        return
    indices, axis = op.operand("indices"), op.attr("axis")
    size = op.value("x").tensor.shape[axis] if isinstance(axis, int) else None
    if not isinstance(size, int):
        return
    slot = op.slot("indices")[0]
    if isinstance(indices, Literal):
        wrapped = Literal(_wrapped(indices.value, size), indices.dtype)
        if wrapped != indices:
            op.set_operand(slot, wrapped)
    elif isinstance(indices, Value) and ctx.facts.range(indices).lower < 0 and is_constant(indices):
        wrapped_weight = _wrapped_weight(indices, size, ctx)
        if wrapped_weight is not None:
            op.set_operand(slot, wrapped_weight)


def _wrapped(value: Attr, size: int) -> Attr:
    if isinstance(value, tuple):
        return tuple(_wrapped(item, size) for item in value)
    return value + size if isinstance(value, int) and value < 0 else value


def _wrapped_weight(indices: Value, size: int, ctx: Context) -> Value | None:
    """The constant indices counted from the start; None when they are already."""
    from anec.reference.evaluate import evaluate_constant  # loads torch

    tensor = evaluate_constant(indices, ctx.module)
    if bool((tensor >= 0).all()):
        return None
    data = TensorData(tensor.where(tensor >= 0, tensor + size))
    weight = Weight(f"{ctx.graph.name}.{indices.name}_from_start", indices.tensor, data)
    return ctx.graph.add_weight(ctx.module.add_weight(weight))


def _refusal(found: list[tuple[Op, Problem]], target: str) -> UnsupportedError:
    """One error that lists every op, why it does not fit and where it comes from."""
    rows: dict[tuple[str, str], list[str]] = {}
    for op, problem in found:
        rows.setdefault((op.name, problem.message), []).append(op.origin.place)
    lines = [
        f"{name}  x{len(places)}  {message}  {', '.join(dict.fromkeys(p for p in places if p))}"
        for (name, message), places in rows.items()
    ]
    opset = int(target.removeprefix("iOS"))
    needed = [_first_target(op, opset) for op, _ in found]
    later = [number for number in needed if number is not None]
    return UnsupportedError(
        f"{target} cannot take {len(found)} op{'s' if len(found) > 1 else ''} of this program",
        where=found[0][0].origin.place or None,
        window="\n".join(lines),
        hint=f"compile with --target iOS{max(later)}" if len(later) == len(needed) else "no target takes all of them",
    )


def _first_target(op: Op, opset: int) -> int | None:
    """The first later target that takes the op as it is."""
    later = (version.since for version in op.defn.versions if version.since > opset)
    return next((number for number in later if not any(problems(op, number))), None)

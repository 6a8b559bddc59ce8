"""Rewrite what changed its meaning between Core ML's opsets, and refuse what a target lacks.

    %y = mil.gather(%x, [-1]) {axis=0}     ->     %y = mil.gather(%x, [1]) {axis=0}

Up to iOS16 negative gather indices wrap, from iOS17 they are undefined; up to iOS16 an epsilon has
the dtype of its tensor, so 1e-12 beside float16 is 0. Source: coremltools' op definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

from anec.errors import UnsupportedError
from anec.ir.attrs import Attr, Literal, same_attr
from anec.ir.facts import constants, is_constant
from anec.ir.graph import Graph, Op, Value
from anec.ir.opdef import Param, Version
from anec.ir.types import DType
from anec.ir.weights import TensorData, Weight
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register

SMALLEST_HALF = 2.0**-24
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
        problems: list[tuple[Op, str]] = []
        for op in graph.ops():
            if all(result in constant for result in op.results) and op.results and not _is_output(op):
                continue
            if opset < op.defn.since:
                problems.append((op, f"needs iOS{op.defn.since}"))
                continue
            version = op.defn.version(opset)
            _drop_defaults(op, version)
            if opset < 17:
                _round_epsilon(op, ctx)
            else:
                _wrap_indices(op, ctx)
            problems += [(op, problem) for problem in illegal(op, version)]
        if problems:
            raise _refusal(problems, ctx.module.target)


def _is_output(op: Op) -> bool:
    return any(result.is_output for result in op.results)


def _drop_defaults(op: Op, version: Version) -> None:
    """An attribute the version lacks may go when it says what the version does anyway."""
    known = {param.name for param in version.params}
    for name in [name for name in op.attrs if name not in known]:
        if same_attr(op.attrs[name], op.defn.by_name[name].default):
            op.drop_attr(name)


def _round_epsilon(op: Op, ctx: Context) -> None:
    epsilon = op.attrs.get("epsilon")
    halves = any(value.tensor.dtype is DType.F16 for value in op.inputs)
    if not isinstance(epsilon, float) or not halves or epsilon == 0.0:
        return
    rounded = _half(epsilon)
    if rounded == 0.0:
        rounded = SMALLEST_HALF
        ctx.note(f"legalize-target: epsilon {epsilon:g} of {op.name} is 0 in float16; {rounded:g} stands in for it")
    if rounded != epsilon:
        op.set_attr("epsilon", rounded)


def _half(number: float) -> float:
    import numpy as np

    return float(np.float16(number))


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


def illegal(op: Op, version: Version) -> list[str]:
    """What of ``op`` the version does not take: parameters, dtypes."""
    params = {param.name: param for param in version.params}
    found = [f"its attribute {name} needs a later target" for name in op.attrs if name not in params]
    for param in op.defn.operand_params:
        operands = [op.operands[i] for i in op.slot(param.name)]
        given = [operand for operand in operands if operand is not None]
        if given and param.name not in params:
            found.append(f"its operand {param.name} needs a later target")
        elif given:
            found += _illegal_operands(params[param.name], given)
    return found


def _illegal_operands(param: Param, given: list[Value | Literal]) -> list[str]:
    found = []
    for operand in given:
        dtype = operand.tensor.dtype if isinstance(operand, Value) else operand.dtype
        if dtype is not None and param.dtypes and dtype not in param.dtypes:
            allowed = ", ".join(map(str, param.dtypes))
            found.append(f"its operand {param.name} is {dtype}, the target takes {allowed}")
    if param.const and any(isinstance(operand, Value) and not is_constant(operand) for operand in given):
        found.append(f"its operand {param.name} must be constant")
    return found


def _refusal(problems: list[tuple[Op, str]], target: str) -> UnsupportedError:
    rows: dict[tuple[str, str], list[str]] = {}
    for op, problem in problems:
        rows.setdefault((op.name, problem), []).append(op.origin.place)
    lines = [
        f"{name}  x{len(places)}  {problem}  {', '.join(dict.fromkeys(p for p in places if p))}"
        for (name, problem), places in rows.items()
    ]
    needed = [_first_target(op, int(target.removeprefix("iOS"))) for op, _ in problems]
    later = [found for found in needed if found is not None]
    return UnsupportedError(
        f"{target} cannot take {len(problems)} op{'s' if len(problems) > 1 else ''} of this program",
        where=problems[0][0].origin.place or None,
        window="\n".join(lines),
        hint=f"compile with --target iOS{max(later)}" if len(later) == len(needed) else "no target takes all of them",
    )


def _first_target(op: Op, opset: int) -> int | None:
    """The first later target that takes the op as it is."""
    return next((v.since for v in op.defn.versions if v.since > opset and not illegal(op, v)), None)


__all__ = ["LegalizeTarget", "illegal"]

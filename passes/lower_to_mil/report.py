"""The table of ops that no lowering took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anec.errors import UnsupportedError
from anec.ir.dims import Expr
from anec.ir.graph import Op, Value
from anec.ir.types import TensorType
from anec.passes.lower_to_mil.permutation import MAX_RANK
from anec.passes.lower_to_mil.refused import SIZED_BY_DATA, refusal
from anec.pipeline import registry
from anec.rewrite import Miss, Rule


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One row: an op without a lowering, how often it occurs, where, and what nearly took it."""

    op: str
    count: int
    places: tuple[str, ...]
    nearest: str = ""
    reason: str = ""


def table(ops: Sequence[Op], rules: Sequence[Rule], misses: Mapping[str, Miss]) -> list[Unsupported]:
    """Group the ops; for each the rule of the same root that matched deepest, and why it failed."""
    groups: dict[str, list[Op]] = {}
    for op in ops:
        groups.setdefault(op.name, []).append(op)
    rows = []
    for name, group in groups.items():
        candidates = [rule for rule in rules if any(root.name == name for root in rule.roots)]
        # Of equally deep ones the last: general rules (of high ranks) come before an op's own.
        best = max(reversed(candidates), key=lambda rule: _depth(misses.get(rule.name)), default=None)
        miss = misses.get(best.name) if best else None
        reason = miss.reason if miss else ""
        if best is None and (refused := refusal(name)) is not None:
            reason = refused.reason
        places = tuple(dict.fromkeys(op.origin.place for op in group if op.origin.place))
        rows.append(Unsupported(name, len(group), places, best.name if best else "", reason))
    # What no rule could take comes first: others often fail for it, as what is computed from a size that data decide.
    return sorted(rows, key=lambda row: (bool(row.nearest), -row.count, row.op))


def _depth(miss: Miss | None) -> int:
    return miss.depth if miss else 0


def unsupported(ops: Sequence[Op], rules: Sequence[Rule], misses: Mapping[str, Miss]) -> UnsupportedError:
    """The error that shows the table."""
    rows = table(ops, rules, misses)
    lines = []
    for row in rows:
        where = ", ".join(row.places[:3]) + (", ..." if len(row.places) > 3 else "")
        why = f"{row.nearest} did not apply: {row.reason}" if row.nearest else row.reason or "no rule lowers it"
        lines.append(f"{row.op}  x{row.count}  {where}; {why}")
    first = rows[0]
    hints = [refused.hint for row in rows if not row.nearest and (refused := refusal(row.op)) is not None]
    if any(row.nearest and _is_sized_by_data(op) for row in rows for op in ops if op.name == row.op):
        hints.append(SIZED_BY_DATA.hint)
    hints += _beyond_the_axes(ops)
    plugin = "write a rule for it in a plugin (see docs/writing-a-pass.md), or anec.register_op(kernel=, lower=)"
    raised = {root.name for rule in registry.find("raise-to-nn").rules for root in rule.roots}
    if any(row.op in raised for row in rows):
        plugin = f"`default`, in front of lower-to-mil, prepares such ops (--passes default,...); else {plugin}"
    count = f"{len(rows)} ops have" if len(rows) > 1 else f"{first.op} has"
    return UnsupportedError(
        f"{count} no lowering to Core ML",
        where=first.places[0] if first.places else None,
        window="\n".join(lines),
        hint="; ".join(dict.fromkeys([*hints, *([plugin] if len(hints) < len(rows) else [])])),
    )


def _is_sized_by_data(op: Op) -> bool:
    """Whether a result has a size that no input tells."""
    inputs = op.graph.inputs if op.graph is not None else ()
    told = {name for value in inputs for name in _sizes(value)}
    return any(name not in told for result in op.results for name in _sizes(result))


def _sizes(value: Value) -> set[str]:
    shape = value.type.shape if isinstance(value.type, TensorType) else ()
    return {name for size in shape if isinstance(size, Expr) for name in size.symbols()}


def _beyond_the_axes(ops: Sequence[Op]) -> list[str]:
    """What to do about inputs and outputs that Core ML could not hold, whatever the rules did."""
    graph = next((op.graph for op in ops if op.graph is not None), None)
    ends = [("input", graph.inputs), ("output", graph.outputs)] if graph is not None else []
    return [
        f"the {side} %{value.name} has {value.rank} axes: reshape it outside of the model"
        for side, values in ends
        for value in values
        if isinstance(value.type, TensorType) and value.rank > MAX_RANK
    ]

"""Which ops of a model are supported, on which targets, where they come from, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from anec.api import settings
from anec.errors import AnecError
from anec.ir.graph import Graph, Module, Op
from anec.ir.legality import is_folded, problems
from anec.passes.lower_to_mil import LowerToMil
from anec.passes.lower_to_mil.report import table
from anec.pipeline.base import Context
from anec.pipeline.clone import clone
from anec.pipeline.manager import Manager
from anec.rewrite.driver import Rewrite

TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")


@dataclass(slots=True)
class Support:
    """One op of a program.

    Args:
        op: its name.
        count: how often it occurs.
        places: the user's source lines.
        targets: the targets that have it (through its lowering).
        reason: why some target does not, or the empty string.
    """

    op: str
    count: int = 0
    places: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    reason: str = ""

    def supported(self, target: str) -> bool:
        return target in self.targets

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if not self.targets:
            return "write a lowering in a plugin, or anec.register_op(kernel=, lower=)"
        if self.targets[0] != TARGETS[0]:
            return f"--target {self.targets[0]}"
        return ""

    def as_json(self) -> dict[str, object]:
        return {
            "op": self.op,
            "count": self.count,
            "targets": self.targets,
            "places": self.places,
            "reason": self.reason,
            "remedy": self.remedy,
        }


def analyze(module: Module, passes: str = "default", targets: Sequence[str] = TARGETS) -> list[Support]:
    """Judge every op of a lifted, raised or lowered module.

    Args:
        module: stays as it is.
        passes: what runs before the ops are judged, on modules that are not lowered yet.
        targets: the targets to judge for.
    """
    rows: dict[str, Support] = {}
    lowered = all(op.defn.dialect == "mil" for op in module.ops())
    for index, target in enumerate(targets):
        copy = _after(module, "" if lowered else passes, target)
        ops = _ops(copy)
        missing = _problems(copy) if lowered else _lowering_problems(copy)
        for op, place in ops:
            row = rows.setdefault(op, Support(op))
            if index == 0:
                row.count += 1
                if place and place not in row.places:
                    row.places.append(place)
        for op, row in rows.items():
            if op in missing:
                row.reason = row.reason or missing[op]
            else:
                row.targets.append(target)
    return sorted(rows.values(), key=lambda row: (len(row.targets), -row.count, row.op))


def _ops(module: Module) -> list[tuple[str, str]]:
    return [
        (op.name, op.origin.place)
        for op in module.ops()
        if not is_folded(op)
    ]


def _after(module: Module, passes: str, target: str) -> Module:
    copy = clone(module)
    copy.target = target
    Manager().run(copy, settings.build_pipeline(passes))
    return copy


def _problems(module: Module) -> dict[str, str]:
    """What the module's target does not take, by op."""
    found: dict[str, str] = {}
    for op in module.ops():
        problem = _problem(op, module.opset)
        if problem:
            found.setdefault(op.name, problem)
    return found


def _problem(op: Op, opset: int) -> str:
    return "" if is_folded(op) else next((str(problem) for problem in problems(op, opset)), "")


def _lowering_problems(module: Module) -> dict[str, str]:
    """What cannot be lowered, or is lowered to what the target does not take, by op."""
    found: dict[str, str] = {}
    contexts: list[Context] = []
    lowering = LowerToMil()

    def judge(rewrite: Rewrite) -> None:
        for op in rewrite.created:
            problem = _problem(op, module.opset)
            if problem:
                found.setdefault(rewrite.roots[0].name, problem)

    def context(graph: Graph) -> Context:
        contexts.append(Context(module, graph, on_rewrite=judge))
        return contexts[-1]

    try:
        lowering.run_module(module, context)
    except AnecError:
        left = [op for op in module.ops() if op.defn.dialect != "mil"]
        misses = {name: miss for c in contexts for name, miss in c.misses.items()}
        for row in table(left, lowering.all_rules(), misses):
            found[row.op] = row.reason or "no rule lowers it"
        if not left:
            raise
    return found

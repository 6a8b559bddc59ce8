"""Which ops of a model are supported, on which targets, where they come from, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anec.ane.placement import Prediction, Units, predict
from anec.api import settings
from anec.errors import AnecError, UnsupportedError
from anec.ir.build import assuming
from anec.ir.graph import Graph, Module, Op
from anec.ir.legality import is_folded, problems
from anec.ir.types import NARROW, DType
from anec.ir.weights import TensorData
from anec.passes.lower_to_mil import LowerToMil
from anec.passes.lower_to_mil.report import table
from anec.passes.split_complex import ComplexError, is_complex
from anec.pipeline.base import Context
from anec.pipeline.clone import clone
from anec.pipeline.manager import Manager
from anec.rewrite import Rule
from anec.rewrite.records import Rewrite
from anec.rewrite.rule import Replacement

TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
_NO_RULE = "no rule lowers it"


@dataclass(slots=True)
class Support:
    """One op of a program.

    Args:
        op: its name.
        count: how often it occurs.
        places: the user's source lines, those that some target does not take first.
        targets: the targets that have it (through its lowering) everywhere it occurs.
        reason: why some target does not, or the empty string.
        missing: how many of its occurrences a target lacks, by target.
    """

    op: str
    count: int = 0
    places: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    reason: str = ""
    missing: dict[str, int] = field(default_factory=dict)

    def supported(self, target: str) -> bool:
        return target in self.targets

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if not self.targets:
            write = "write a lowering in a plugin, or anec.register_op(kernel=, lower=)"
            return write if self.reason == _NO_RULE else f"change the model there, or {write}"
        if self.targets[0] != TARGETS[0] and f"--target {self.targets[0]}" not in self.reason:
            return f"--target {self.targets[0]}"
        return ""

    def as_json(self) -> dict[str, object]:
        return {
            "op": self.op,
            "count": self.count,
            "targets": self.targets,
            "missing": self.missing,
            "places": self.places,
            "reason": self.reason,
            "remedy": self.remedy,
        }

    def add_problem(self, target: str, problem: _Problem) -> None:
        """Take in what a target lacks."""
        self.missing[target] = problem.count
        self.reason = self.reason or problem.reason
        self.places = list(dict.fromkeys((*problem.places, *self.places)))


@dataclass(slots=True)
class _Problem:
    """Why a target does not take an op, how often, and where."""

    reason: str
    count: int = 0
    places: list[str] = field(default_factory=list)


class _Problems(dict[str, _Problem]):
    """The problems of a program on one target, by op."""

    def note(self, op: Op, reason: str) -> None:
        found = self.setdefault(op.name, _Problem(reason))
        found.count += 1
        if op.origin.place and op.origin.place not in found.places:
            found.places.append(op.origin.place)


def analyze(module: Module, passes: str = "default", targets: Sequence[str] = TARGETS) -> list[Support]:
    """Judge every op of a lifted, raised or lowered module.

    Args:
        module: stays as it is.
        passes: what runs before the ops are judged, on modules that are not lowered yet.
        targets: the targets to judge for.

    Raises:
        UsageError: an unknown pass.
        AnecError: one of the passes failed.
    """
    rows: dict[str, Support] = {}
    lowered = all(op.defn.dialect == "mil" for op in module.ops())
    found: dict[str, _Problems] = {}
    for target in targets:
        copy = _after(module, "" if lowered else passes, target)
        if not found:
            _count(copy, rows)
        found[target] = _problems(copy) if lowered else _lowering_problems(copy)
        for name, problem in found[target].items():
            # Some lowerings make other torch ops; what is left of those has no row yet.
            row = rows.setdefault(name, Support(name, problem.count))
            row.add_problem(target, problem)
    for name, row in rows.items():
        row.targets = [target for target in targets if name not in found[target]]
    return sorted(rows.values(), key=lambda row: (len(row.targets), -row.count, row.op))


def predicted(
    module: Module, passes: str, target: str, generation: str = "M1", units: Units = "cpu-and-ne"
) -> Prediction:
    """Where the ops of the program that would be written are predicted to run.

    Args:
        module: a lowered module is judged as it is; anything else is compiled first, in float16.
        passes: the pipeline for that; ``finish`` is appended.
        target: for which it is compiled.
        generation: of the Neural Engine, ``M1`` to ``M5`` or an iPhone chip.
        units: what Core ML may use.

    Raises:
        UsageError: an unknown pass or generation.
        AnecError: the module cannot be compiled.
    """
    if any(op.defn.dialect != "mil" for op in module.ops()):
        copy = clone(module)
        copy.target = target
        Manager().run(copy, settings.build_pipeline(passes, "fp16"))
        module = copy
    return predict(module, generation, units)


def _count(module: Module, rows: dict[str, Support]) -> None:
    for op in module.ops():
        if is_folded(op):
            continue
        row = rows.setdefault(op.name, Support(op.name))
        row.count += 1
        if op.origin.place and op.origin.place not in row.places:
            row.places.append(op.origin.place)


def _after(module: Module, passes: str, target: str) -> Module:
    copy = clone(module)
    copy.target = target
    Manager().run(copy, settings.build_pipeline(passes))
    return copy


def _problems(module: Module) -> _Problems:
    """What the module's target does not take, by op."""
    found = _Problems()
    for op in module.ops():
        problem = _problem(op, module.opset)
        if problem:
            found.note(op, problem)
    return found


def _problem(op: Op, opset: int) -> str:
    return "" if is_folded(op) else next((str(problem) for problem in problems(op, opset)), "")


def _lowering_problems(module: Module) -> _Problems:
    """What cannot be lowered, or is lowered to what the target does not take, by op."""
    found = _Problems()
    made: list[tuple[Op, list[Op]]] = []

    def remember(rewrite: Rewrite) -> None:
        # A wide or complex operand comes from an op that was not lowered, which has a row of its own.
        created = [op for op in rewrite.created if not is_complex(op)]
        created = [op for op in created if not any(value.tensor.dtype in NARROW for value in op.inputs)]
        made.append((rewrite.roots[0], created))

    lowering = _Lowering()
    for graph in module.functions.values():
        _take_out_wide_weights(graph, found)
        context = Context(module, graph, on_rewrite=remember)
        try:
            with assuming(module.dims):
                lowering.run(graph, context)
        except UnsupportedError as error:
            left = [op for op in graph.ops() if op.defn.dialect != "mil"]
            if not left:
                raise
            if isinstance(error, ComplexError):
                # What stands around an op that is not split is left, too; only the op itself is to blame.
                for op, why in error.ops.items():
                    if why:
                        found.note(op, why)
                left = [op for op in left if not is_complex(op)]
            reasons = {row.op: row.reason for row in table(left, lowering.all_rules(), context.misses)}
            for op in left:
                found.note(op, reasons[op.name] or _NO_RULE)
    for root, created in made:
        # What stands between views of a higher rank is another op in the end.
        told = next(filter(None, (_problem(op, module.opset) for op in created if op.graph is not None)), "")
        if told:
            found.note(root, told)
    return found


class _Lowering(LowerToMil):
    """Lowering in which no rule's error keeps the others from being tried."""

    @staticmethod
    def all_rules() -> list[Rule]:
        return [replace(rule, function=_declining(rule.function)) for rule in LowerToMil.all_rules()]


def _declining(function: Callable[..., Replacement]) -> Callable[..., Replacement]:
    """The function of a rule, whose errors are reasons not to apply."""

    def declining(**captures: Any) -> Replacement:
        try:
            return function(**captures)
        except UnsupportedError:
            raise
        except AnecError as error:
            raise UnsupportedError(error.message, hint=error.hint) from error

    return declining


def _take_out_wide_weights(graph: Graph, found: _Problems) -> None:
    """Note what uses integers beyond int32, and go on with zeros in their place."""
    import torch

    for value in graph.weights.values():
        weight = value.weight
        if weight is None or weight.data is None or value.tensor.dtype is not DType.I64 or not weight.type.size:
            continue
        low, high = (int(end) for end in weight.tensor().aminmax())
        if low >= DType.I32.range[0] and high <= DType.I32.range[1]:
            continue
        for user in value.users:
            found.note(user, f"the constant {weight.name!r} holds numbers beyond int32 ({low} to {high})")
        weight.data = TensorData(torch.zeros_like(weight.tensor()))
        weight._digest = weight._extent = None

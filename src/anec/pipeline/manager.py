"""The pass manager: runs a pipeline over a module, watched by instruments."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anec.errors import AnecError, UsageError
from anec.ir.build import assuming
from anec.ir.graph import Graph, Module, Op
from anec.pipeline.base import Context, Lossy, Pass
from anec.pipeline.spec import FixStep, Steps, flatten
from anec.rewrite.match import Miss
from anec.rewrite.records import Rewrite, RewriteRecord

_FIX_LIMIT = 16

# Facts a pass may require or ensure, as predicates over a module.
FACTS: dict[str, Callable[[Module], bool]] = {
    "mil": lambda module: all(op.defn.dialect == "mil" for op in module.ops()),
    "static": lambda module: not module.dims,
}
_FACT_WORDS = {"mil": "a program of `mil` ops alone", "static": "a program without symbolic sizes"}
_FACT_HINTS = {"mil": "run lower-to-mil before it; was it disabled or dropped?", "static": "give every size a number"}


@dataclass(slots=True)
class PassReport:
    """What one pass did."""

    index: int
    spec: str
    changed: bool = False
    skipped: bool = False
    ops_before: int = 0
    ops_after: int = 0
    seconds: float = 0.0
    fired: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    misses: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loss: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Report:
    """What a run of a pipeline did, pass by pass, and what checks found."""

    pipeline: str = ""
    passes: list[PassReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def losses(self) -> dict[str, float]:
        """The measured loss of each lossy pass."""
        return {report.spec: report.loss for report in self.passes if report.loss is not None}

    def as_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "passes": [report.as_json() for report in self.passes],
            "notes": self.notes,
            "losses": self.losses,
            "checks": self.checks,
        }


class Instrument:
    """Watches a run; every method may be left as it is."""

    def start(self, module: Module, steps: Steps) -> None:
        """Before the first pass."""

    def should_run(self, pass_: Pass, index: int, module: Module) -> bool:
        """False skips the pass."""
        return True

    def before(self, pass_: Pass, index: int, module: Module) -> None:
        """In front of a pass."""

    def rewritten(self, pass_: Pass, rewrite: Rewrite, module: Module) -> None:
        """At each rewrite, while both of its sides exist."""

    def recorded(self, pass_: Pass, record: RewriteRecord) -> None:
        """After each rewrite."""

    def after(self, pass_: Pass, report: PassReport, module: Module) -> None:
        """Behind a pass."""

    def failed(self, pass_: Pass, index: int, module: Module, error: AnecError) -> None:
        """When a pass raised; may add a replay command to the error."""

    def finish(self, module: Module, report: Report) -> None:
        """After the last pass."""

    wants_rewrites = False
    wants_records = False


class _Changes:
    """Whether graphs end otherwise than they began; ops that come and go again change nothing."""

    def __init__(self) -> None:
        self.inserted: set[Op] = set()
        self.touched = False

    def __bool__(self) -> bool:
        return self.touched or bool(self.inserted)

    def op_inserted(self, op: Op) -> None:
        self.inserted.add(op)

    def op_erased(self, op: Op) -> None:
        if op in self.inserted:
            self.inserted.remove(op)
        else:
            self.touched = True

    def op_changed(self, op: Op) -> None:
        self.touched = self.touched or op not in self.inserted


class Manager:
    """Runs pipelines.

    Args:
        instruments: watch the run, in order.
        inputs: example inputs by public name; lossy passes and numeric checks need them.
    """

    def __init__(self, instruments: Sequence[Instrument] = (), inputs: Mapping[str, Any] | None = None) -> None:
        self.instruments = list(instruments)
        self.inputs = dict(inputs) if inputs is not None else None

    def run(self, module: Module, steps: Steps) -> Report:
        """Run a built pipeline on ``module``, in place.

        Raises:
            AnecError: a pass failed or broke a law; the message names pass, rule and replay command.
            UsageError: a lossy pass without example inputs, or reached through a named pipeline.
        """
        report = Report(",".join(map(str, steps)))
        self._check_lossy(steps)
        for instrument in self.instruments:
            instrument.start(module, steps)
        index = 0
        for step in steps:
            if isinstance(step, FixStep):
                index = self._run_fix(module, step, index, report)
            else:
                index += 1
                report.passes.append(self._run_pass(module, step.pass_, index))
        for instrument in self.instruments:
            instrument.finish(module, report)
        return report

    def _check_lossy(self, steps: Steps) -> None:
        for step in flatten(steps):
            if isinstance(step.pass_.fidelity, Lossy):
                if not step.typed:
                    raise UsageError(f"the lossy pass {step.pass_.name} runs only when its name is typed")
                if self.inputs is None:
                    raise UsageError(
                        f"the lossy pass {step.pass_.name} needs example inputs to measure its loss",
                        hint="give the source example inputs, or --inputs in.npz",
                    )

    def _run_fix(self, module: Module, step: FixStep, index: int, report: Report) -> int:
        for _ in range(_FIX_LIMIT):
            changed = False
            for inner in step.steps:
                index += 1
                done = self._run_pass(module, inner.pass_, index)
                report.passes.append(done)
                changed = changed or done.changed
            if not changed:
                return index
        raise AnecError(
            f"{step} still changes the module after {_FIX_LIMIT} rounds",
            hint="two of its passes undo each other; see the dumps",
        )

    def _run_pass(self, module: Module, pass_: Pass, index: int) -> PassReport:
        report = PassReport(index, pass_.spec(), ops_before=_count(module))
        if not all(instrument.should_run(pass_, index, module) for instrument in self.instruments):
            report.skipped, report.ops_after = True, report.ops_before
            return report
        changes = _Changes()
        graphs = list(module.functions.values())
        signature = _boundary(module)
        contexts: list[Context] = []
        try:
            self._check_facts(pass_, pass_.requires, module, "requires")
            for instrument in self.instruments:
                instrument.before(pass_, index, module)
            for graph in graphs:
                graph.listeners.append(changes)
            start = time.perf_counter()
            try:
                with assuming(module.dims):
                    pass_.run_module(module, lambda graph: self._context(module, graph, pass_, contexts))
            finally:
                report.seconds = time.perf_counter() - start
                for graph in graphs:
                    graph.listeners.remove(changes)
                for context in contexts:
                    if context._facts is not None:
                        context._facts.close()
            self._check_facts(pass_, pass_.ensures, module, "ensures")
            report.ops_after = _count(module)
            report.changed = bool(changes) or _boundary(module) != signature
            self._summarise(report, pass_, contexts)
            self._note_dialects(pass_, report, module)
            for instrument in self.instruments:
                instrument.after(pass_, report, module)
        except AnecError as error:
            self._tell_failure(pass_, index, module, error)
            raise
        except MemoryError:
            raise
        except Exception as error:
            told = _mistake(pass_, error)
            self._tell_failure(pass_, index, module, told)
            raise told from error
        return report

    def _tell_failure(self, pass_: Pass, index: int, module: Module, error: AnecError) -> None:
        error.within(pass_name=pass_.name)
        for instrument in self.instruments:
            instrument.failed(pass_, index, module, error)

    def _context(self, module: Module, graph: Graph, pass_: Pass, contexts: list[Context]) -> Context:
        context = Context(module, graph, self._inputs_of(module, graph))
        places: dict[str, list[str]] = {}
        context.places = places
        rewriters = [i for i in self.instruments if i.wants_rewrites]
        recorders = [i for i in self.instruments if i.wants_records]

        def on_rewrite(rewrite: Rewrite) -> None:
            place = rewrite.roots[0].origin.place
            seen = places.setdefault(rewrite.rule.name, [])
            if place and place not in seen:
                seen.append(place)
            for instrument in rewriters:
                instrument.rewritten(pass_, rewrite, module)

        def record(record: RewriteRecord) -> None:
            for instrument in recorders:
                instrument.recorded(pass_, record)

        context.on_rewrite = on_rewrite
        context.record = record if recorders else None
        contexts.append(context)
        return context

    def _inputs_of(self, module: Module, graph: Graph) -> dict[str, Any] | None:
        if self.inputs is None:
            return None
        from anec.check.numerics import inputs_of

        return inputs_of(module, graph.name, self.inputs)

    def _summarise(self, report: PassReport, pass_: Pass, contexts: Sequence[Context]) -> None:
        for context in contexts:
            for name, times in context.fired.items():
                report.fired[name] = report.fired.get(name, 0) + times
            for name, places in context.places.items():
                known = report.places.setdefault(name, [])
                known.extend(place for place in places if place not in known)
            report.notes.extend(note for note in context.notes if note not in report.notes)
        report.misses = _near(pass_, contexts)

    def _note_dialects(self, pass_: Pass, report: PassReport, module: Module) -> None:
        wanted = pass_.works_on()
        if wanted is None or report.fired or not pass_.rules:
            return
        present = {op.defn.dialect for op in module.ops()}
        # A model may hold no op that is raised to nn: then a pass on those has nothing to do, at its right place.
        early = {"aten", "nn"}
        if present and not present & (wanted | early if wanted & early else wanted):
            report.notes.append(
                f"{pass_.name} works on {', '.join(sorted(wanted))}; the module holds {', '.join(sorted(present))}"
            )

    def _check_facts(self, pass_: Pass, names: Sequence[str], module: Module, verb: str) -> None:
        for name in names:
            if name not in FACTS:
                raise UsageError(f"{pass_.name} {verb} the unknown fact {name!r}")
            if not FACTS[name](module):
                wanted = _FACT_WORDS.get(name, f"`{name}`, which does not hold")
                hint = _FACT_HINTS.get(name)
                raise AnecError(f"{pass_.name} {verb} {wanted}", window=_broken(name, module), hint=hint)


def _near(pass_: Pass, contexts: Sequence[Context]) -> dict[str, str]:
    """What is worth telling of the rules that did not fire, the deepest first.

    A root that fits alone is near to nothing, except in a pass that somebody is writing: one that is not
    anec's own, and a rule of it that has not fired at all.
    """
    deepest: dict[str, Miss] = {}
    for context in contexts:
        for name, miss in context.misses.items():
            deepest.setdefault(name, Miss()).deepen(miss)
    fired = {name for context in contexts for name in context.fired}
    own = type(pass_).__module__.partition(".")[0] == "anec"
    told = [(n, m) for n, m in deepest.items() if m.reason and (m.depth > 1 or not (own or n in fired))]
    return {name: str(miss) for name, miss in sorted(told, key=lambda item: -item[1].depth)}


def _broken(fact: str, module: Module) -> str | None:
    """What of the module breaks a fact."""
    if fact == "static":
        return "\n".join(f"{dim} in {bounds}" for dim, bounds in module.dims.items())
    if fact != "mil":
        return None
    places: dict[str, list[str]] = {}
    for op in module.ops():
        if op.defn.dialect != "mil":
            places.setdefault(op.name, []).append(op.origin.place)
    lines = [f"{op}  x{len(at)}  {next(filter(None, at), '')}".rstrip() for op, at in places.items()]
    return "\n".join(lines[:8] + ([f"... and {len(lines) - 8} more"] if len(lines) > 8 else []))


def _mistake(pass_: Pass, error: Exception) -> AnecError:
    """An error in a pass's own code, told with its place."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(pass_).__module__
    return AnecError(f"the pass {pass_.name} failed: {type(error).__name__}: {error}", hint=f"raised at {at}")


def _count(module: Module) -> int:
    return sum(len(graph) for graph in module.functions.values())


def _boundary(module: Module) -> str:
    """What can change without an op changing: types at the boundary, outputs, weights, the target."""
    head = [module.target, ",".join(module.weights), str(module.dims), str(module.meta)]
    graphs = module.functions.values()
    return "\n".join([*head, *(f"{g.name} {g.inputs} {g.outputs} {g.signature}" for g in graphs)])

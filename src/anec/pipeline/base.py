"""What a pass is: rules or a function over the graph, options, and a promise of fidelity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from anec.check.fidelity import EXACT, Close, Exact, Fidelity, Lossy
from anec.ir.build import Builder
from anec.ir.facts import Facts
from anec.ir.graph import Graph, Module, Op
from anec.rewrite.driver import Rewriter
from anec.rewrite.match import Miss
from anec.rewrite.records import Rewrite, RewriteRecord, Statistics
from anec.rewrite.rule import Rule

__all__ = ["EXACT", "Close", "Context", "Exact", "Fidelity", "Lossy", "Pass"]


@dataclass(slots=True)
class Context:
    """What a pass is handed while it runs.

    Args:
        module: the module.
        graph: the function at hand.
        inputs: example inputs by public name, or None.
        notes: messages for the report.
        record: receives each rewrite's record; None when no trace is wanted.
        on_rewrite: called with each rewrite while both of its sides exist.
        fired: how often each rule fired.
        misses: the deepest partial match of each rule.
        places: the user's source lines at which each rule fired; the manager fills it.
    """

    module: Module
    graph: Graph
    inputs: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    record: Callable[[RewriteRecord], None] | None = None
    on_rewrite: Callable[[Rewrite], None] | None = None
    fired: dict[str, int] = field(default_factory=dict)
    misses: dict[str, Miss] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    _facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """Facts about the graph's values, computed when asked."""
        if self._facts is None:
            self._facts = Facts(self.graph)
        return self._facts

    def note(self, message: str) -> None:
        """Add a message to the report, once."""
        if message not in self.notes:
            self.notes.append(message)

    @contextmanager
    def builder(self, *, before: Op | None = None, like: Op | None = None) -> Iterator[Builder]:
        """Build ops with ``mil.add(...)`` in front of ``before``, named and placed like ``like``."""
        source = like or before
        name = source.results[0].name if source is not None and source.results else None
        made = Builder(self.graph, before=before, name=name)
        if source is not None:
            made.origin = source.origin
        with made.active():
            yield made

    def rewrite(self, rules: Sequence[Rule], *, opts: object = None, narrow: bool = False) -> Statistics:
        """Apply rules until none fires, and count what they did."""
        rewriter = Rewriter(self.module, rules, opts, self, self.on_rewrite, self.record, narrow)
        statistics = rewriter.run(self.graph)
        for name, times in statistics.fired.items():
            self.fired[name] = self.fired.get(name, 0) + times
        for name, miss in statistics.misses.items():
            self.misses.setdefault(name, Miss()).deepen(miss)
        return statistics


@dataclass
class Pass:
    """A named transformation of a module. Dataclass fields are its options.

    ``rules`` alone make a pass; one that needs more overrides :meth:`run`.

    Attributes:
        name: kebab-case, as typed in a pipeline.
        rules: the rewrite rules.
        fidelity: what it promises about the numbers.
        dialects: the dialects it works on; by default those of its rules' roots.
        produces: the only dialects left when it is done; None keeps what there was.
        after: passes that must have run before, if they are in the pipeline at all.
        requires: facts the module must have (see ``anec.pipeline.manager.FACTS``).
        ensures: facts the module has afterwards.
    """

    name: ClassVar[str] = ""
    rules: ClassVar[Sequence[Rule]] = ()
    fidelity: ClassVar[Fidelity] = EXACT
    dialects: ClassVar[frozenset[str] | None] = None
    produces: ClassVar[frozenset[str] | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    ensures: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """Transform one function in place."""
        ctx.rewrite(self.rules, opts=self)

    def run_module(self, module: Module, contexts: Callable[[Graph], Context]) -> None:
        """Transform every function; override for what concerns the module as a whole."""
        for graph in module.functions.values():
            self.run(graph, contexts(graph))

    @classmethod
    def works_on(cls) -> frozenset[str] | None:
        """The dialects the pass works on; None any."""
        if cls.dialects is not None:
            return cls.dialects
        roots = {defn.dialect for rule in cls.rules for defn in rule.roots}
        return frozenset(roots) or None

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field[Any]]:
        """The options by their kebab-case names."""
        return {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}

    def spec(self) -> str:
        """The pass as pipeline text, with the options that differ from their defaults."""
        from anec.pipeline.options import format_option

        parts = []
        for name, option in self.options().items():
            value = getattr(self, option.name)
            default = (
                option.default_factory() if option.default_factory is not dataclasses.MISSING else option.default
            )
            if value != default:
                parts.append(f"{name}={format_option(value)}")
        return self.name + ("{" + " ".join(parts) + "}" if parts else "")

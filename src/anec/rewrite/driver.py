"""The driver: applies rules from a worklist until none fires, and tells what it did."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anec.errors import AnecError, UnsupportedError, nearest
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.printer import print_op, window
from anec.ir.types import narrowed
from anec.rewrite.match import Match, Miss
from anec.rewrite.rule import Reject, Replacement, Rule


@dataclass(frozen=True, slots=True)
class RewriteRecord:
    """One rewrite, for traces and reports."""

    rule: str
    function: str
    site: str
    place: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, object]:
        return {
            "rule": self.rule,
            "function": self.function,
            "site": self.site,
            "origin": self.place,
            "before": list(self.before),
            "after": list(self.after),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rewrite as it happens: both sides are in the graph. What checks are handed."""

    rule: Rule
    graph: Graph
    match: Match
    roots: tuple[Op, ...]
    created: tuple[Op, ...]
    old: tuple[Value, ...]
    new: tuple[Value, ...]


@dataclass(slots=True)
class Statistics:
    """What a run of the driver did."""

    fired: dict[str, int] = field(default_factory=dict)
    misses: dict[str, Miss] = field(default_factory=dict)
    visited: int = 0


@dataclass(slots=True)
class Rewriter:
    """Applies rules to a graph.

    Args:
        module: the module the graph is in.
        rules: tried in order at each op.
        opts: the pass, for rules that take ``opts``.
        ctx: the pass's context, for rules that take ``ctx``.
        on_rewrite: called with each rewrite while both sides exist; may raise.
        record: called with each rewrite's record; None saves the cost of printing.
        narrow: a value may be replaced by one of the dtype Core ML holds it in (see ``NARROW``).
    """

    module: Module
    rules: Sequence[Rule]
    opts: object = None
    ctx: object = None
    on_rewrite: Callable[[Rewrite], None] | None = None
    record: Callable[[RewriteRecord], None] | None = None
    narrow: bool = False

    def run(self, graph: Graph) -> Statistics:
        """Rewrite until nothing fires.

        Raises:
            AnecError: a rule changes a type, makes a broken op, or never comes to an end.
        """
        return _Run(self, graph).run()


class _Run:
    def __init__(self, rewriter: Rewriter, graph: Graph) -> None:
        self.rewriter, self.graph = rewriter, graph
        self.by_root: dict[str, list[Rule]] = {}
        for rule in rewriter.rules:
            for defn in rule.roots:
                at = self.by_root.setdefault(defn.name, [])
                if rule not in at:
                    at.append(rule)
        self.statistics = Statistics(misses={rule.name: Miss() for rule in rewriter.rules})
        self.budget = 10 * len(graph) + 1000
        self.recent: dict[str, deque[str]] = {}
        self.seen: dict[tuple[str, str, str], int] = {}
        self.queue: deque[Op] = deque()
        self.queued: set[Op] = set()

    def push(self, op: Op) -> None:
        if op not in self.queued and op.name in self.by_root:
            self.queued.add(op)
            self.queue.append(op)

    def run(self) -> Statistics:
        for op in self.graph.ops():
            self.push(op)
        while self.queue:
            op = self.queue.popleft()
            self.queued.discard(op)
            if op.graph is self.graph:
                self.statistics.visited += 1
                self.visit(op)
        return self.statistics

    def visit(self, op: Op) -> None:
        for rule in self.by_root[op.name]:
            miss = self.statistics.misses[rule.name]
            for found, roots in rule.matches(op, miss):
                if self.attempt(rule, found, roots, miss):
                    return

    def attempt(self, rule: Rule, found: Match, roots: tuple[Op, ...], miss: Miss) -> bool:
        """Apply a match; False when the rule declines it."""
        start = time.perf_counter()
        # The new ops stand in front of the last root, where every capture is defined.
        anchor = max(roots, key=lambda op: op._key)
        root = roots[0]
        name = root.results[0].name if root.results else root.defn.root
        builder = Builder(self.graph, before=anchor, origin=root.origin.by(rule.name), name=name)
        try:
            with builder.active():
                replacement = rule.apply(found, roots, self.rewriter.opts, self.rewriter.ctx)
        except Reject as rejected:
            self.undo(builder)
            miss.at(len(found.ops), rejected.reason, root, root)
            return False
        except UnsupportedError as error:
            # Not the end: another rule may take the op, and all that is left is reported at once.
            self.undo(builder)
            miss.at(len(found.ops), error.message + (f" ({error.hint})" if error.hint else ""), root, root)
            return False
        except AnecError as error:
            error.window = error.window or window(root)
            error.where = error.where or root.origin.place or None
            self.undo(builder)
            raise error.within(rule=rule.name) from None
        except BaseException:
            self.undo(builder)
            raise
        if replacement is None and any(result.uses or result.is_output for op in roots for result in op.results):
            self.undo(builder)
            miss.at(len(found.ops), "the rule returned nothing", root, root)
            return False
        self.commit(rule, found, roots, builder, replacement, start)
        return True

    def undo(self, builder: Builder) -> None:
        for op in reversed(builder.created):
            self.graph.erase(op)

    def commit(
        self,
        rule: Rule,
        found: Match,
        roots: tuple[Op, ...],
        builder: Builder,
        replacement: Replacement,
        start: float,
    ) -> None:
        old = tuple(result for op in roots for result in op.results)
        new = _as_values(replacement)
        self.check_types(rule, roots[0], old, new)
        created = tuple(builder.created)
        if self.rewriter.on_rewrite is not None:
            self.rewriter.on_rewrite(Rewrite(rule, self.graph, found, roots, created, old, new))
        before = tuple(print_op(op, origin=False) for op in found.ops) if self.rewriter.record is not None else ()
        site = old[0].name if old else roots[0].name
        self.count(rule, site, roots[0])
        for before_value, after_value in zip(old, new, strict=False):
            if before_value is after_value:
                raise AnecError(
                    f"the rule {rule.name} gave back the value it matched",
                    where=roots[0].origin.place,
                    hint="reject() a match that changes nothing",
                )
            self.graph.replace(before_value, after_value)
        for op in roots:
            self.erase_dead(op, force=True)
        self.rename(old, new, created)
        for op in created:
            if op.graph is self.graph:
                self.erase_dead(op)
        for op in created:
            if op.graph is self.graph:
                self.push(op)
        for value in new:
            if value.op is not None:
                self.push(value.op)
            # In graph order: use lists remember their history, and a replay must not depend on it.
            for user in sorted(value.users, key=lambda op: op._key):
                self.push(user)
        if self.rewriter.record is not None:
            after = tuple(print_op(op, origin=False) for op in created if op.graph is self.graph)
            seconds = time.perf_counter() - start
            self.rewriter.record(
                RewriteRecord(rule.name, self.graph.name, site, roots[0].origin.place, before, after, seconds)
            )

    def check_types(self, rule: Rule, root: Op, old: tuple[Value, ...], new: tuple[Value, ...]) -> None:
        if len(new) != len(old) and any(value.uses or value.is_output for value in old[len(new) :]):
            raise AnecError(
                f"the rule {rule.name} returned {len(new)} values for {len(old)}",
                where=root.origin.place,
                window=window(root),
            )
        for before, after in zip(old, new, strict=False):
            wanted = narrowed(before.type) if self.rewriter.narrow else before.type
            if after.type not in (wanted, before.type) and (before.uses or before.is_output):
                raise AnecError(
                    f"the rule {rule.name} replaced %{before.name}: {before.type} by {after.type}",
                    where=root.origin.place,
                    window=window(root),
                )

    def rename(self, old: tuple[Value, ...], new: tuple[Value, ...], created: tuple[Op, ...]) -> None:
        """A value made by the rule takes the name of what it replaces."""
        for before, after in zip(old, new, strict=False):
            if after.op in created and after.graph is self.graph and before.graph is None:
                self.graph.rename(after, before.name)

    def erase_dead(self, op: Op, *, force: bool = False) -> None:
        """Erase ``op`` and, from there, every producer that nothing uses and that has no effect."""
        stack = [(op, force)]
        while stack:
            at, forced = stack.pop()
            if at.graph is not self.graph or any(r.uses or r.is_output for r in at.results):
                continue
            if at.defn.effects is not Effect.NONE and not forced:
                continue
            producers = [value.op for value in at.inputs if value.op is not None]
            self.graph.erase(at)
            for producer in producers:
                stack.append((producer, False))
                # Fewer users may let a rule on the producer, or on another of its users, fire.
                self.push(producer)
                for result in producer.results:
                    for user in sorted(result.users, key=lambda op: op._key):
                        self.push(user)

    def count(self, rule: Rule, site: str, root: Op) -> None:
        fired = self.statistics.fired
        fired[rule.name] = fired.get(rule.name, 0) + 1
        line = print_op(root, origin=False)
        last = self.recent.setdefault(rule.name, deque(maxlen=3))
        last.append(line)
        key = (rule.name, site, line)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= 8 and fired[rule.name] <= self.budget:
            return
        others = sorted({name for (name, s, _), n in self.seen.items() if s == site and n > 1 and name != rule.name})
        raise AnecError(
            f"the rule {rule.name} does not come to an end: it fired {fired[rule.name]} times"
            + (f", in turn with {', '.join(others)}" if others else ""),
            where=root.origin.place,
            window="\n".join(last),
            rule=rule.name,
            hint="let the rule reject() what it has made itself",
        )


def _as_values(replacement: Replacement) -> tuple[Value, ...]:
    if replacement is None:
        return ()
    values = (replacement,) if isinstance(replacement, Value) else tuple(replacement)
    for value in values:
        if not isinstance(value, Value):
            raise AnecError(f"a rule returned {type(value).__name__}, not a value")
    return values


def find_rule(rules: Sequence[Rule], name: str) -> Rule:
    """The rule called ``name``.

    Raises:
        AnecError: there is none; the hint has the nearest names.
    """
    for rule in rules:
        if rule.name == name:
            return rule
    raise AnecError(f"there is no rule {name!r}", hint=nearest(name, [rule.name for rule in rules]))

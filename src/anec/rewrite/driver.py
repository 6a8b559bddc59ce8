"""The driver: applies rules from a worklist until none fires, and tells what it did."""

from __future__ import annotations

import functools
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from anec.errors import AnecError, UnsupportedError, nearest
from anec.ir.build import Builder, assuming
from anec.ir.dims import Bounds
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect
from anec.ir.printer import print_op, window
from anec.ir.types import TensorType, Type, narrowed
from anec.ir.verify import agree, sizes_apart
from anec.rewrite.match import Match, Miss
from anec.rewrite.pattern import depth
from anec.rewrite.records import Rewrite, RewriteRecord, Statistics
from anec.rewrite.rule import Reject, Replacement, Rule, Start, starts

# How often a rule may fire at one place on the same op before it counts as a cycle.
_REPEATS = 8
# Rules ask whether a value has one user, or few: one fewer of many changes nothing.
_FEW = 4


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
        with assuming(self.module.dims):
            return _Run(self, graph).run()


class _Run:
    def __init__(self, rewriter: Rewriter, graph: Graph) -> None:
        self.rewriter, self.graph = rewriter, graph
        self.by_root: dict[str, dict[Rule, Start]] = {}
        for rule in rewriter.rules:
            for name, start in starts(rule).items():
                self.by_root.setdefault(name, {})[rule] = start
        self.statistics = Statistics(misses={rule.name: Miss() for rule in rewriter.rules})
        self.budget = 10 * len(graph) + 1000
        # A change may let a rule fire at any op that sees it through a pattern.
        self.reach = max(map(_reach, rewriter.rules), default=1)
        # A rule of several roots may start at any other user of a value.
        self.joins = any(len(rule.patterns) > 1 for rule in rewriter.rules)
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
        for rule, start in self.by_root[op.name].items():
            # Most rules end at the op in front, which is told once.
            if self.statistics.misses[rule.name].depth and not start.fits(op):
                continue
            # What did not fit on the way counts only where the rule does not fire in the end.
            miss = Miss()
            for found, roots in rule.matches(op, miss):
                if self.attempt(rule, found, roots, miss):
                    return
            self.statistics.misses[rule.name].deepen(miss)

    def push_around(self, users: Iterable[Op]) -> None:
        """Queue ops and what uses their results, as far as patterns reach."""
        level = list(users)
        for _ in range(max(1, self.reach - 1)):
            for user in level:
                self.push(user)
            following = (further for user in level for result in user.results for further in _users(result))
            level = list(dict.fromkeys(following))

    def attempt(self, rule: Rule, found: Match, roots: tuple[Op, ...], miss: Miss) -> bool:
        """Apply a match; False when the rule declines it.

        Raises:
            AnecError: the rule fails or breaks a law; the graph is as it was.
        """
        start = time.perf_counter()
        root = roots[0]
        anchor = _anchor(found, roots)
        if anchor is None:
            miss.at(found.depth, "what stands between its roots uses them", root, root)
            return False
        name = root.results[0].name if root.results else root.defn.root
        builder = Builder(self.graph, before=anchor, origin=root.origin.by(rule.name), site=name)
        try:
            with builder.active():
                replacement = rule.apply(found, roots, self.rewriter.opts, self.rewriter.ctx)
            if replacement is None and any(result.uses or result.is_output for op in roots for result in op.results):
                raise Reject("the rule returned nothing")
            rewrite = self.judge(rule, found, roots, builder, replacement)
        except (Reject, UnsupportedError) as declined:
            # An unsupported op is not the end: another rule may take it, and all that is left is reported at once.
            self.undo(builder)
            followed = declined.followed if isinstance(declined, Reject) else 0
            miss.at(found.depth + followed, _reason(declined), root, root)
            return False
        except AnecError as error:
            error.window = error.window or window(root)
            error.where = error.where or root.origin.place or None
            self.undo(builder)
            raise error.within(rule=rule.name) from None
        except (MemoryError, KeyboardInterrupt, SystemExit):
            self.undo(builder)
            raise
        except Exception as error:
            shown = window(root)
            self.undo(builder)
            raise _failure(rule, root, error, shown) from error
        self.commit(rewrite, start)
        return True

    def undo(self, builder: Builder) -> None:
        for op in reversed(builder.created):
            if op.graph is self.graph:  # the rule may have erased it itself
                self.graph.erase(op)

    def judge(
        self, rule: Rule, found: Match, roots: tuple[Op, ...], builder: Builder, replacement: Replacement
    ) -> Rewrite:
        """The rewrite, while both sides are in the graph.

        Raises:
            AnecError: it may not be.
        """
        old = tuple(result for op in roots for result in op.results)
        new = _as_values(replacement)
        created = tuple(builder.created)
        self.check_types(rule, roots[0], old, new)
        for before, after in zip(old, new, strict=False):
            if before is after:
                raise AnecError(
                    f"the rule {rule.name} gave back the value it matched",
                    hint="reject() a match that changes nothing",
                )
        for op in created:
            used = next((value for value in op.inputs if value in old), None)
            if used is not None:
                raise AnecError(
                    f"the rule {rule.name} builds {op.name} on %{used.name}, which it replaces",
                    hint="build on the operands of what was matched",
                )
        self.count(rule, old[0].name if old else roots[0].name, roots[0])
        rewrite = Rewrite(rule, self.graph, found, roots, created, old, new)
        if self.rewriter.on_rewrite is not None:
            self.rewriter.on_rewrite(rewrite)
        return rewrite

    def commit(self, rewrite: Rewrite, start: float) -> None:
        """Put the new values in the old ones' place."""
        fired, root = self.statistics.fired, rewrite.roots[0]
        fired[rewrite.rule.name] = fired.get(rewrite.rule.name, 0) + 1
        recording = self.rewriter.record is not None
        before = tuple(print_op(op, origin=False) for op in rewrite.match.ops) if recording else ()
        site = rewrite.old[0].name if rewrite.old else root.name
        users = list(dict.fromkeys(user for old in rewrite.old for user in _users(old)))
        for old, new in zip(rewrite.old, rewrite.new, strict=False):
            self.graph.replace(old, new)
        for op in rewrite.roots:
            self.erase_dead(op, force=True)
        self.rename(rewrite)
        for op in rewrite.created:
            if op.graph is self.graph:
                self.erase_dead(op)
        created = [op for op in rewrite.created if op.graph is self.graph]
        for op in created:
            self.push(op)
        for value in rewrite.new:
            if value.op is not None:
                self.push(value.op)
        if self.joins:
            beside = dict.fromkeys([*rewrite.new, *(operand for op in created for operand in op.inputs)])
            users += [user for value in beside for user in _users(value)]
        self.push_around(users)
        if self.rewriter.record is not None:
            after = tuple(print_op(op, origin=False) for op in created)
            seconds = time.perf_counter() - start
            self.rewriter.record(
                RewriteRecord(rewrite.rule.name, self.graph.name, site, root.origin.place, before, after, seconds)
            )

    def check_types(self, rule: Rule, root: Op, old: tuple[Value, ...], new: tuple[Value, ...]) -> None:
        if len(new) > len(old) or any(value.uses or value.is_output for value in old[len(new) :]):
            raise AnecError(
                f"the rule {rule.name} returned {len(new)} values for {len(old)}",
                where=root.origin.place,
                window=window(root),
            )
        for before, after in zip(old, new, strict=False):
            wanted = narrowed(before.type) if self.rewriter.narrow else before.type
            if after.type in (wanted, before.type) or not (before.uses or before.is_output):
                continue
            if agree(after.type, wanted, self.rewriter.module.dims):
                # Two spellings of a size: the one that was read off the model is the shorter.
                after.type = wanted
            else:
                raise AnecError(
                    f"the rule {rule.name} replaced %{before.name}: {before.type} by {after.type}",
                    where=root.origin.place,
                    window=window(root),
                    hint=_narrower(before.type, after.type, self.rewriter.module.dims),
                )

    def rename(self, rewrite: Rewrite) -> None:
        """A value made by the rule takes the name of what it replaces."""
        for before, after in zip(rewrite.old, rewrite.new, strict=False):
            if after.op in rewrite.created and after.graph is self.graph and before.graph is None:
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
                    if len(result.uses) <= _FEW:
                        self.push_around(_users(result))

    def count(self, rule: Rule, site: str, root: Op) -> None:
        """Count a rewrite, and stop a rule that goes on for ever."""
        times = self.statistics.fired.get(rule.name, 0) + 1
        line = print_op(root, origin=False)
        last = self.recent.setdefault(rule.name, deque(maxlen=3))
        last.append(line)
        key = (rule.name, site, line)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= _REPEATS and times <= self.budget:
            return
        others = sorted({name for (name, s, _), n in self.seen.items() if s == site and n > 1 and name != rule.name})
        raise AnecError(
            f"the rule {rule.name} does not come to an end: it fired {times} times"
            + (f", in turn with {', '.join(others)}" if others else ""),
            where=root.origin.place,
            window="\n".join(last),
            rule=rule.name,
            hint="let the rule reject() what it has made itself",
        )


def _users(value: Value) -> list[Op]:
    """The users in graph order: use lists remember their history, and a replay must not depend on it."""
    return sorted(value.users, key=lambda op: op._key)


@functools.cache
def _reach(rule: Rule) -> int:
    return max(map(depth, rule.patterns))


def _anchor(found: Match, roots: tuple[Op, ...]) -> Op | None:
    """The root that new ops stand in front of: every capture is defined there, no user has passed.

    None when there is no such place: an op between two roots uses the first and feeds the last.
    """
    if len(roots) == 1:
        return roots[0]
    captured = [value.op for value in found.captures.values() if isinstance(value, Value) and value.op is not None]
    matched = set(found.ops)
    for anchor in sorted(roots, key=lambda op: op._key):
        users = [user for root in roots for result in root.results for user in result.users]
        if all(op.is_before(anchor) or op in roots for op in captured) and not any(
            user.is_before(anchor) and user not in matched for user in users
        ):
            return anchor
    return None


def _reason(declined: Reject | UnsupportedError) -> str:
    if isinstance(declined, Reject):
        return declined.reason
    return declined.message + (f" ({declined.hint})" if declined.hint else "")


def _failure(rule: Rule, root: Op, error: Exception, shown: str) -> AnecError:
    """A mistake in a rule's own code, told with the place in the rule."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else rule.place
    return AnecError(
        f"the rule {rule.name} failed: {type(error).__name__}: {error}",
        where=root.origin.place or None,
        window=shown,
        rule=rule.name,
        hint=f"raised at {at}",
    )


def _narrower(before: Type, after: Type, bounds: Mapping[str, Bounds]) -> str | None:
    """What to do where two types are the same but for some sizes."""
    if not isinstance(before, TensorType) or not isinstance(after, TensorType) or before.rank != after.rank:
        return None
    for left, right in zip(before.shape, after.shape, strict=True):
        sizes = sizes_apart(left, right, bounds)
        if sizes:
            there = ", ".join(f"{name}={size}" for name, size in sizes.items())
            return f"they differ at {there}: declare narrower bounds, or make the size static"
    return None


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

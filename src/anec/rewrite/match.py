"""Matching a pattern against the graph, and remembering what nearly matched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from anec.ir.attrs import Attr, Literal, format_attr, same_attr
from anec.ir.facts import is_constant, scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Effect, Kind, Operand
from anec.rewrite.pattern import Absent, AnyOf, Base, Number, OpPattern, Optional, Plain, Var

Captured = Value | Literal | Attr | tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern matched: the captures by name, and the ops in matching order, root first."""

    captures: dict[str, Captured]
    ops: tuple[Op, ...]

    def bind(self, name: str, captured: Captured) -> Match | None:
        """With one more capture; None when the name is bound to something else."""
        if name in self.captures:
            return self if _same(self.captures[name], captured) else None
        return Match({**self.captures, name: captured}, self.ops)


@dataclass(slots=True)
class Miss:
    """The deepest partial match of a rule: how many ops matched, where it ended and why."""

    depth: int = 0
    reason: str = ""
    place: str = ""
    site: str = ""

    def at(self, depth: int, reason: str, op: Op | None, root: Op) -> None:
        """Remember a failure if it is deeper than the one known."""
        if depth > self.depth:
            self.depth, self.reason = depth, reason
            self.place = (op or root).origin.place or root.origin.place
            self.site = root.results[0].name if root.results else root.name

    def __str__(self) -> str:
        return f"{self.reason} at {self.place or '%' + self.site}" if self.reason else ""


class _Matcher:
    """One attempt at one root."""

    __slots__ = ("miss", "root")

    def __init__(self, root: Op, miss: Miss | None) -> None:
        self.root = root
        self.miss = miss

    def fail(self, so_far: Match, reason: str, op: Op | None = None) -> None:
        if self.miss is not None and so_far.ops:
            self.miss.at(len(so_far.ops), reason, op, self.root)

    def operand(self, pattern: Base, operand: Operand, so_far: Match) -> Iterator[Match]:
        if isinstance(pattern, Var):
            yield from self.var(pattern, operand, so_far)
        elif isinstance(pattern, OpPattern):
            if not isinstance(operand, Value) or operand.op is None:
                self.fail(so_far, f"wanted {pattern.defn.name}, got {_show(operand)}")
            elif pattern.index is not None and operand.index != pattern.index:
                self.fail(so_far, f"wanted result {pattern.index} of {pattern.defn.name}", operand.op)
            else:
                yield from self.op(pattern, operand.op, so_far, operand)
        elif isinstance(pattern, AnyOf):
            for alternative in pattern.alternatives:
                yield from self.operand(alternative, operand, so_far)
        elif isinstance(pattern, Optional):
            if operand is None:
                yield so_far
            else:
                yield from self.operand(pattern.inner, operand, so_far)
        elif isinstance(pattern, Absent):
            if operand is None:
                yield so_far
            else:
                self.fail(so_far, f"wanted no operand, got {_show(operand)}")
        elif isinstance(pattern, Number):
            found = scalar_of(operand)
            if found is not None and _close(found, pattern):
                yield so_far
            else:
                shown = format_attr(found) if found is not None else _show(operand)
                place = operand.op if isinstance(operand, Value) else None
                self.fail(so_far, f"wanted constant {format_attr(pattern.value)}, got {shown}", place)
        elif isinstance(pattern, Plain):
            if isinstance(operand, Literal) and same_attr(operand.value, pattern.value):
                yield so_far
            else:
                self.fail(so_far, f"wanted {format_attr(pattern.value)}, got {_show(operand)}")

    def var(self, pattern: Var, operand: Operand, so_far: Match) -> Iterator[Match]:
        if operand is None:
            self.fail(so_far, f"the operand {pattern.name} is absent")
            return
        if pattern.constant and isinstance(operand, Value) and not is_constant(operand):
            self.fail(so_far, f"{pattern.name} is not constant", operand.op)
            return
        if pattern.where is not None and not (isinstance(operand, Value) and pattern.where(operand)):
            place = operand.op if isinstance(operand, Value) else None
            self.fail(so_far, f"the condition on {pattern.name} does not hold for {_show(operand)}", place)
            return
        bound = so_far.bind(pattern.name, operand)
        if bound is None:
            self.fail(so_far, f"{pattern.name} is {_show(operand)} here and another value elsewhere")
        else:
            yield bound

    def op(self, pattern: OpPattern, op: Op, so_far: Match, value: Value | None) -> Iterator[Match]:
        if op.defn is not pattern.defn and op.name != pattern.defn.name:
            self.fail(so_far, f"wanted {pattern.defn.name}, got {op.name}", op)
            return
        if so_far.ops and op.defn.effects is not Effect.NONE:
            self.fail(so_far, f"{op.name} has effects, so it cannot be matched inside a pattern", op)
            return
        entered = Match(so_far.captures, (*so_far.ops, op) if op not in so_far.ops else so_far.ops)
        if pattern.capture is not None:
            named = entered.bind(pattern.capture, value or op.results[0])
            if named is None:
                self.fail(entered, f"{pattern.capture} is another value elsewhere", op)
                return
            entered = named
        with_attrs = self.attrs(pattern, op, entered)
        if with_attrs is None:
            return
        found = self.pairs(pattern, op, with_attrs)
        if found is None:
            return
        pairs, with_attrs = found
        yield from self.all(pairs, with_attrs)
        if op.defn.commutative and len(pairs) >= 2:
            (first, a), (second, b) = pairs[:2]
            if first is not second and a is not b:
                yield from self.all([(first, b), (second, a), *pairs[2:]], with_attrs)

    def all(self, pairs: list[tuple[Base, Operand]], so_far: Match) -> Iterator[Match]:
        if not pairs:
            yield so_far
            return
        (pattern, operand), *others = pairs
        for found in self.operand(pattern, operand, so_far):
            yield from self.all(others, found)

    def attrs(self, pattern: OpPattern, op: Op, so_far: Match) -> Match | None:
        for param in op.defn.params:
            if param.kind is not Kind.ATTR:
                continue
            wanted = pattern.attrs.get(param.name)
            actual = op.attr(param.name)
            if wanted is None:
                if not pattern.open and not param.required and not same_attr(actual, param.default):
                    self.fail(so_far, f"{op.name}: {param.name} is {format_attr(actual)}, not its default", op)
                    return None
            elif isinstance(wanted, Var):
                bound = so_far.bind(wanted.name, actual)
                if bound is None:
                    self.fail(so_far, f"{wanted.name} is {format_attr(actual)} here and another value elsewhere", op)
                    return None
                so_far = bound
            elif not _attr_fits(wanted, actual):
                self.fail(so_far, f"{op.name}: {param.name} is {format_attr(actual)}, wanted {wanted}", op)
                return None
        return so_far

    def pairs(
        self, pattern: OpPattern, op: Op, so_far: Match
    ) -> tuple[list[tuple[Base, Operand]], Match] | None:
        """Each operand beside its pattern, and the match with the lists that were captured whole."""
        pairs: list[tuple[Base, Operand]] = []
        for param in op.defn.operand_params:
            wanted = pattern.operands.get(param.name)
            actual = [op.operands[i] for i in op.slot(param.name)]
            if wanted is None:
                if not pattern.open and any(operand is not None for operand in actual):
                    self.fail(so_far, f"{op.name} has the operand {param.name}", op)
                    return None
            elif isinstance(wanted, tuple):
                if len(wanted) != len(actual):
                    self.fail(so_far, f"{op.name}: {len(actual)} {param.name}, wanted {len(wanted)}", op)
                    return None
                pairs.extend(zip(wanted, actual, strict=True))
            elif param.kind is Kind.VARIADIC and isinstance(wanted, Var):
                bound = so_far.bind(wanted.name, tuple(actual))
                if bound is None:
                    self.fail(so_far, f"{wanted.name} is another list elsewhere", op)
                    return None
                so_far = bound
            else:
                pairs.append((wanted, actual[0]))
        return pairs, so_far


def match(pattern: Base, root: Op, miss: Miss | None = None) -> Iterator[Match]:
    """All ways the pattern matches with its root at ``root``, in order.

    Args:
        miss: remembers the deepest partial match when nothing fits.
    """
    matcher = _Matcher(root, miss)
    start = Match({}, ())
    if isinstance(pattern, AnyOf):
        for alternative in pattern.alternatives:
            yield from match(alternative, root, miss)
    elif isinstance(pattern, OpPattern):
        yield from matcher.op(pattern, root, start, None)


def _same(left: Captured, right: Captured) -> bool:
    if isinstance(left, Value) or isinstance(right, Value):
        return left is right
    if isinstance(left, Literal) or isinstance(right, Literal):
        return left == right
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    return same_attr(left, right)  # type: ignore[arg-type]  # what is left are attributes


def _close(found: float | int | bool, pattern: Number) -> bool:
    if isinstance(found, bool) or isinstance(pattern.value, bool):
        return found is pattern.value
    if math.isinf(found) or math.isnan(found):
        return found == pattern.value
    return math.isclose(found, pattern.value, rel_tol=pattern.rtol, abs_tol=1e-12 if pattern.value == 0 else 0.0)


def _attr_fits(wanted: Base, actual: Attr) -> bool:
    if isinstance(wanted, Plain):
        if isinstance(wanted.value, float) and isinstance(actual, (int, float)) and not isinstance(actual, bool):
            return math.isclose(actual, wanted.value, rel_tol=1e-6)
        return same_attr(actual, wanted.value)
    if isinstance(wanted, Number):
        return isinstance(actual, (bool, int, float)) and _close(actual, wanted)
    if isinstance(wanted, Absent):
        return actual is None
    if isinstance(wanted, AnyOf):
        return any(_attr_fits(alternative, actual) for alternative in wanted.alternatives)
    return False


def _show(operand: Operand) -> str:
    if operand is None:
        return "nothing"
    if isinstance(operand, Literal):
        return str(operand)
    if operand.op is not None:
        return operand.op.name
    return f"the {'weight' if operand.weight else 'input'} %{operand.name}"

"""Matching a pattern against the graph, and remembering what nearly matched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from anec.ir.attrs import Attr, Literal, format_attr, same_attr
from anec.ir.facts import is_constant, scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Effect, Kind, Operand
from anec.rewrite.pattern import Absent, AnyOf, Base, Number, OpPattern, Optional, Plain, Var

Captured = Value | Literal | Attr | tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern matched: captures by name, ops in matching order, root first, how many constants."""

    captures: dict[str, Captured]
    ops: tuple[Op, ...]
    constants: int = 0

    @property
    def depth(self) -> int:
        """How many ops and constants matched."""
        return len(self.ops) + self.constants

    def bind(self, name: str, captured: Captured) -> Match | None:
        """With one more capture; None when the name is bound to something else."""
        if name in self.captures:
            return self if same_capture(self.captures[name], captured) else None
        return Match({**self.captures, name: captured}, self.ops, self.constants)

    def with_constant(self) -> Match:
        """With one more constant."""
        return Match(self.captures, self.ops, self.constants + 1)

    def entering(self, op: Op) -> Match:
        """With one more op, unless it is there already."""
        return self if op in self.ops else Match(self.captures, (*self.ops, op), self.constants)


# So many places of one near miss are told.
_PLACES = 4


@dataclass(slots=True)
class Miss:
    """The deepest partial match of a rule: how many ops and constants matched, why it ended, and where."""

    depth: int = 0
    reason: str = ""
    places: dict[str, None] = field(default_factory=dict)

    def at(self, depth: int, reason: str, op: Op | None, root: Op) -> None:
        """Remember a failure if it is deeper than the one known."""
        if depth > self.depth:
            self.depth, self.reason = depth, reason
            site = root.results[0].name if root.results else root.name
            self.places = {(op or root).origin.place or root.origin.place or f"%{site}": None}

    def deepen(self, other: Miss) -> None:
        """Take over ``other`` if it is deeper, and its places if it is the same."""
        if other.depth > self.depth:
            self.depth, self.reason, self.places = other.depth, other.reason, dict(other.places)
        elif (other.depth, other.reason) == (self.depth, self.reason):
            self.places.update(other.places)

    def __str__(self) -> str:
        if not self.reason:
            return ""
        told = ", ".join(list(self.places)[:_PLACES])
        return f"{self.reason} at {told}" + (f" and {len(self.places) - _PLACES} more" * (len(self.places) > _PLACES))


class _Matcher:
    """One attempt at one root."""

    __slots__ = ("miss", "root")

    def __init__(self, root: Op, miss: Miss | None) -> None:
        self.root = root
        self.miss = miss

    def tells(self, so_far: Match) -> bool:
        """Whether a failure here is the deepest so far."""
        return self.miss is not None and bool(so_far.ops) and so_far.depth > self.miss.depth

    def fail(self, so_far: Match, reason: str, op: Op | None = None) -> None:
        if self.miss is not None and so_far.ops:
            self.miss.at(so_far.depth, reason, op, self.root)

    def operand(self, pattern: Base, operand: Operand, so_far: Match) -> Iterator[Match]:
        match pattern:
            case Var():
                yield from self.var(pattern, operand, so_far)
            case OpPattern():
                yield from self.result(pattern, operand, so_far)
            case AnyOf():
                made_by = operand.op.name if isinstance(operand, Value) and operand.op is not None else None
                for alternative in pattern.alternatives:
                    # Most alternatives want another op than the one that is there, which is told once.
                    is_other = isinstance(alternative, OpPattern) and alternative.defn.name != made_by
                    if not is_other or self.tells(so_far):
                        yield from self.operand(alternative, operand, so_far)
            case Optional() if operand is not None:
                yield from self.operand(pattern.inner, operand, so_far)
            case Optional():
                yield so_far
            case _:
                if _fits(pattern, operand):
                    yield so_far if isinstance(pattern, Absent) else so_far.with_constant()
                else:
                    place = operand.op if isinstance(operand, Value) else None
                    self.fail(so_far, f"wanted {_wanted(pattern)}, got {_show(operand)}", place)

    def result(self, pattern: OpPattern, operand: Operand, so_far: Match) -> Iterator[Match]:
        if not isinstance(operand, Value) or operand.op is None:
            self.fail(so_far, f"wanted {pattern.defn.name}, got {_show(operand)}")
        elif pattern.index is not None and operand.index != pattern.index:
            self.fail(so_far, f"wanted result {pattern.index} of {pattern.defn.name}, got {operand.index}", operand.op)
        else:
            yield from self.op(pattern, operand.op, so_far, operand)

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
            yield bound.with_constant() if pattern.constant else bound

    def op(self, pattern: OpPattern, op: Op, so_far: Match, value: Value | None) -> Iterator[Match]:
        if op.defn is not pattern.defn and op.name != pattern.defn.name:
            self.fail(so_far, f"wanted {pattern.defn.name}, got {op.name}", op)
            return
        if so_far.ops and op.defn.effects is not Effect.NONE:
            self.fail(so_far, f"{op.name} has effects, so it cannot be matched inside a pattern", op)
            return
        entered = so_far.entering(op)
        if pattern.capture is not None:
            named = entered.bind(pattern.capture, value or op.results[0])
            if named is None:
                self.fail(entered, f"{pattern.capture} is another value elsewhere", op)
                return
            entered = named
        with_attrs = self.attrs(pattern, op, entered)
        if with_attrs is None:
            return
        found = self.pairs(pattern, pattern.operands, op, with_attrs)
        if found is None:
            return
        pairs, with_attrs = found
        yield from self.all(pairs, with_attrs)
        if symmetric(op):
            left, right = (param.name for param in op.defn.operand_params[:2])
            wanted = {**pattern.operands}
            swapped = {left: wanted.pop(right, None), right: wanted.pop(left, None)}
            if swapped[left] is swapped[right] or op.operands[0] is op.operands[1]:
                return
            wanted.update({name: given for name, given in swapped.items() if given is not None})
            again = self.pairs(pattern, wanted, op, with_attrs)
            if again is not None:
                yield from self.all(*again)

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
                self.fail(so_far, f"{op.name}: wanted {param.name}={_wanted(wanted)}, got {format_attr(actual)}", op)
                return None
        return so_far

    def pairs(
        self, pattern: OpPattern, operands: Mapping[str, Base | tuple[Base, ...]], op: Op, so_far: Match
    ) -> tuple[list[tuple[Base, Operand]], Match] | None:
        """Each operand beside its pattern, and the match with the lists that were captured whole."""
        pairs: list[tuple[Base, Operand]] = []
        for param in op.defn.operand_params:
            wanted = operands.get(param.name)
            if wanted is None and pattern.open:
                continue
            actual = [op.operands[i] for i in op.slot(param.name)]
            if wanted is None:
                if any(operand is not None for operand in actual):
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
                if _widens(wanted, actual[0], op):
                    self.fail(so_far, f"{op.name}: the constant {param.name} has more axes than the rest", op)
                    return None
                pairs.append((wanted, actual[0]))
        return pairs, so_far


def match(pattern: Base, root: Op, miss: Miss | None = None) -> Iterator[Match]:
    """All ways the pattern matches with its root at ``root``, in order.

    Args:
        pattern: what to look for; its root is an op.
        root: where to look.
        miss: remembers the deepest partial match when nothing fits.
    """
    matcher = _Matcher(root, miss)
    start = Match({}, ())
    if isinstance(pattern, AnyOf):
        for alternative in pattern.alternatives:
            # Another root is no near miss, and most alternatives of a family have another.
            if not isinstance(alternative, OpPattern) or alternative.defn.name == root.name:
                yield from match(alternative, root, miss)
    elif isinstance(pattern, OpPattern):
        yield from matcher.op(pattern, root, start, None)


def same_capture(left: Captured, right: Captured) -> bool:
    """True when two captures are the same value, or equal literals or attributes."""
    if isinstance(left, Value) or isinstance(right, Value):
        return left is right
    if isinstance(left, Literal) or isinstance(right, Literal):
        return left == right
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same_capture(a, b) for a, b in zip(left, right, strict=True))
    return same_attr(left, right)  # type: ignore[arg-type]  # what is left are attributes


def _close(found: float | bool, pattern: Number) -> bool:
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


def _fits(pattern: Base, operand: Operand) -> bool:
    if isinstance(pattern, Number):
        found = scalar_of(operand)
        return found is not None and _close(found, pattern)
    if isinstance(pattern, Plain):
        return isinstance(operand, Literal) and same_attr(operand.value, pattern.value)
    return isinstance(pattern, Absent) and operand is None


def symmetric(op: Op) -> bool:
    """True when the first two operands may be swapped (``aten.add`` with an alpha scales only the second)."""
    return op.defn.commutative and len(op.operands) >= 2 and not any(
        not same_attr(value, op.defn.by_name[name].default) for name, value in op.attrs.items()
    )


def _widens(wanted: Base | tuple[Base, ...], operand: Operand, op: Op) -> bool:
    """True for a constant of one element whose rank decides that of the result: no plain number is like it."""
    if not isinstance(wanted, Number):
        return False
    ranks = [value.rank for value in op.inputs if value is not operand]
    return bool(ranks) and _rank(operand) > max(ranks)


def _rank(operand: Operand) -> int:
    if isinstance(operand, Value):
        return operand.rank
    rank, at = 0, operand.value if operand is not None else None
    while isinstance(at, tuple):
        rank, at = rank + 1, at[0] if at else None
    return rank


def _wanted(pattern: Base) -> str:
    """A pattern as a near miss tells it."""
    match pattern:
        case Number():
            return f"constant {format_attr(pattern.value)}"
        case Plain():
            return format_attr(pattern.value)
        case Absent():
            return "nothing"
        case AnyOf():
            return " or ".join(map(_wanted, pattern.alternatives))
        case OpPattern():
            return pattern.defn.name
        case _:
            return str(pattern)


def _show(operand: Operand) -> str:
    if operand is None:
        return "nothing"
    if isinstance(operand, Literal):
        return str(operand)
    number = scalar_of(operand)
    if number is not None:
        return f"{format_attr(number)} (%{operand.name})"
    if operand.op is not None:
        return operand.op.name
    return f"the {'weight' if operand.weight else 'input'} %{operand.name}"

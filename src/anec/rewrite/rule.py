"""Rules: a pattern and the function that builds the replacement."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from anec.errors import AnecError
from anec.ir.graph import Op, Value
from anec.ir.opdef import OpDef, Pattern
from anec.rewrite.match import Captured, Match, Miss, match, same_capture
from anec.rewrite.pattern import Base, OpPattern, as_pattern, first_makers, root_definitions, rooted

Replacement = Value | Sequence[Value] | None
_SPECIAL = frozenset({"op", "ops", "opts", "ctx"})


class Reject(Exception):
    """Raised by :func:`reject`; the driver takes it as "this rule does not apply here"."""

    def __init__(self, reason: str, followed: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.followed = followed


def reject(reason: str, *, followed: int = 0) -> NoReturn:
    """Decline a match from inside a rule; the reason is reported as a near miss.

    Args:
        reason: what does not fit.
        followed: how many ops the rule itself recognised beyond its pattern; the deepest miss is told.
    """
    raise Reject(reason, followed)


@dataclass(frozen=True, eq=False, slots=True)
class Rule:
    """One rewrite.

    Args:
        name: the function's name.
        patterns: the main root first; further roots share captures with it.
        function: called with the captures it names, and any of ``op``, ``ops``, ``opts``, ``ctx``.
        domain: where ``--check=rewrites`` draws captures from, by capture name, as (low, high).
        special: inf and NaN are among the values drawn.
        edges: edge values are drawn too.
        doc: the function's docstring.
        place: file:line of the function.
    """

    name: str
    patterns: tuple[Base, ...]
    function: Callable[..., Replacement]
    domain: dict[str, tuple[float, float]] = field(default_factory=dict)
    special: bool = False
    doc: str = ""
    place: str = ""
    parameters: tuple[str, ...] = ()
    edges: bool = True

    @property
    def roots(self) -> list[OpDef]:
        """The ops the main pattern can have at its root."""
        return root_definitions(self.patterns[0])

    @property
    def is_built_in(self) -> bool:
        """Whether it is one of anec's own."""
        return self.function.__module__.startswith("anec.")

    def matches(self, op: Op, miss: Miss | None = None) -> Iterable[tuple[Match, tuple[Op, ...]]]:
        """All ways the rule matches at ``op``: the match and the root ops."""
        start = starts(self).get(op.name)
        for form in start.forms if start is not None else ():
            for found in match(form, op, miss):
                yield from self._further_roots(found, (op,), self.patterns[1:], miss)

    def _further_roots(
        self, so_far: Match, roots: tuple[Op, ...], patterns: tuple[Base, ...], miss: Miss | None
    ) -> Iterable[tuple[Match, tuple[Op, ...]]]:
        if not patterns:
            yield so_far, roots
            return
        names = {defn.name for defn in root_definitions(patterns[0])}
        shared = set(patterns[0].captures()) & so_far.captures.keys()
        for candidate in _users(so_far.captures, shared):
            if candidate in so_far.ops or candidate.name not in names:
                continue
            for found in match(patterns[0], candidate):
                if all(same_capture(found.captures.get(name), so_far.captures[name]) for name in shared):
                    ops = dict.fromkeys((*so_far.ops, *found.ops))
                    count = so_far.constants + found.constants
                    joined = Match({**so_far.captures, **found.captures}, tuple(ops), count)
                    yield from self._further_roots(joined, (*roots, candidate), patterns[1:], miss)
        if miss is not None:
            miss.at(so_far.depth, f"no {' or '.join(sorted(names))} beside it fits", roots[0], roots[0])

    def apply(self, found: Match, roots: tuple[Op, ...], opts: object, ctx: object) -> Replacement:
        """Build the replacement.

        Raises:
            Reject: the rule declines.
        """
        special: dict[str, Any] = {"op": roots[0], "ops": roots, "opts": opts, "ctx": ctx}
        arguments = {
            name: special[name] if name in special else found.captures.get(name) for name in self.parameters
        }
        return self.function(**arguments)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a rule may start.

    Args:
        forms: the alternatives of its main pattern with one op at their root.
        makers: operands of which one has to be made by an op of these names; None where anything
            may have made them, and for rules that are not anec's own, whose near misses are told in full.
    """

    forms: tuple[OpPattern, ...]
    makers: tuple[tuple[str, ...], frozenset[str]] | None

    def fits(self, op: Op) -> bool:
        """Whether the operands of ``op`` are made by what the forms ask for."""
        if self.makers is None:
            return True
        operands, wanted = self.makers
        for name in operands:
            operand = op.operand(name)
            if isinstance(operand, Value) and operand.op is not None and operand.op.name in wanted:
                return True
        return False


@functools.cache
def starts(rule: Rule) -> dict[str, Start]:
    """The forms of a rule by the name of the op at their root; a family of rules has dozens."""
    forms: dict[str, list[OpPattern]] = {}
    for form in rooted(rule.patterns[0]):
        forms.setdefault(form.defn.name, []).append(form)
    return {
        name: Start(tuple(found), first_makers(found) if rule.is_built_in else None) for name, found in forms.items()
    }


def _users(captures: dict[str, Captured], shared: set[str]) -> list[Op]:
    """Every op that depends on a shared capture, nearest first."""
    start = [captured for name, captured in captures.items() if name in shared and isinstance(captured, Value)]
    found: dict[Op, None] = {}
    queue = list(start)
    while queue and len(found) < 64:
        for user in sorted(queue.pop(0).users, key=lambda op: op._key):
            if user not in found:
                found[user] = None
                queue.extend(user.results)
    return list(found)


def rewrite(
    *patterns: Pattern | OpDef,
    domain: dict[str, tuple[float, float]] | None = None,
    special: bool = False,
    edges: bool = True,
    name: str | None = None,
) -> Callable[[Callable[..., Replacement]], Rule]:
    """Make a rule of a function: ``@rewrite(mil.mul(x, mil.sigmoid(x)))``.

    Args:
        patterns: what to look for; an op itself (``aten.relu.default``) matches any such op. With
            several, the function returns one value for each.
        domain: the range a capture is drawn from when the rule is checked, ``{"x": (0, 10)}``.
        special: also check with inf and NaN among the inputs.
        edges: False where edge values mean nothing, as for matrices that must not be singular.
        name: the rule's name, when it is not the function's (rules made in a loop).

    Raises:
        AnecError: the function asks for a capture that no pattern binds.
    """

    def make(function: Callable[..., Replacement]) -> Rule:
        rule_name = name or str(getattr(function, "__name__", "rule"))
        made = tuple(_as_rule_pattern(pattern) for pattern in patterns)
        bound = {capture for pattern in made for capture in pattern.captures()}
        parameters = tuple(inspect.signature(function).parameters)
        unknown = [p for p in parameters if p not in bound and p not in _SPECIAL]
        code = getattr(function, "__code__", None)
        place = f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}" if code else ""
        if unknown:
            raise AnecError(
                f"the rule {rule_name} asks for {unknown[0]!r}, which its pattern does not capture",
                where=place,
                hint="captures: " + (", ".join(sorted(bound)) or "none") + "; also op, ops, opts, ctx",
            )
        for pattern in made:
            root_definitions(pattern)
        doc = inspect.getdoc(function) or ""
        return Rule(rule_name, made, function, dict(domain or {}), special, doc, place, parameters, edges)

    return make


def _as_rule_pattern(given: Pattern | OpDef) -> Base:
    if isinstance(given, OpDef):
        return OpPattern(given, {}, {}, open=True)
    default = getattr(given, "default", None)
    if not isinstance(given, Pattern) and isinstance(default, OpDef):
        return OpPattern(default, {}, {}, open=True)
    return as_pattern(given)

"""Patterns: what a rule looks for, written with the same op names that build ops.

An attribute or optional operand that a pattern does not mention must be absent or at its default,
so that ``aten.add.Tensor(x, y)`` never matches an add with ``alpha=2``. ``rest`` as the last
argument lifts that: whatever the pattern does not mention may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from anec.errors import AnecError
from anec.ir.attrs import Attr, freeze
from anec.ir.graph import Value
from anec.ir.opdef import Kind, OpDef
from anec.ir.opdef import Pattern as Pattern


@dataclass(frozen=True, slots=True)
class Base(Pattern):
    """Shared by all patterns: calling an op on one gives an :class:`OpPattern`."""

    def of_op(self, defn: OpDef, args: tuple[object, ...], kwargs: dict[str, object]) -> OpPattern:
        return op_pattern(defn, args, kwargs)

    def captures(self) -> Iterator[str]:
        """The names this pattern binds."""
        return iter(())


@dataclass(frozen=True, slots=True)
class Var(Base):
    """Matches any operand and binds it; the same name must bind the same operand everywhere.

    Args:
        name: the capture's name.
        where: a further condition on the value.
        constant: only weights, literals and what is computed from them.
    """

    name: str
    where: Callable[[Value], bool] | None = None
    constant: bool = False

    def captures(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True, slots=True)
class Number(Base):
    """Matches a literal, or a constant of one element, that is close to ``value``."""

    value: float | int | bool
    rtol: float = 1e-6


@dataclass(frozen=True, slots=True)
class Plain(Base):
    """Matches a literal operand equal to ``value`` (a list), or an attribute."""

    value: Attr


@dataclass(frozen=True, slots=True)
class Absent(Base):
    """Matches an operand that is not given."""


@dataclass(frozen=True, slots=True)
class Rest(Base):
    """As the last argument: everything not mentioned may be anything."""


@dataclass(frozen=True, slots=True)
class AnyOf(Base):
    """Matches what one of the alternatives matches; they are tried in order."""

    alternatives: tuple[Base, ...]

    def captures(self) -> Iterator[str]:
        for alternative in self.alternatives:
            yield from alternative.captures()


@dataclass(frozen=True, slots=True)
class Optional(Base):
    """Matches ``inner``, or an absent operand (its captures are then None)."""

    inner: Base

    def captures(self) -> Iterator[str]:
        return self.inner.captures()


@dataclass(frozen=True, slots=True)
class OpPattern(Base):
    """Matches a result of an op of one definition.

    Args:
        defn: the op.
        operands: a pattern, or a list of patterns, by parameter.
        attrs: a pattern by attribute: :class:`Var` binds it, :class:`Plain` compares it.
        open: whatever is not mentioned may be anything.
        index: which result; None any.
    """

    defn: OpDef
    operands: dict[str, Base | tuple[Base, ...]]
    attrs: dict[str, Base]
    open: bool = False
    index: int | None = None
    capture: str | None = field(default=None)

    def __getitem__(self, index: int) -> OpPattern:
        return OpPattern(self.defn, self.operands, self.attrs, self.open, index, self.capture)

    def named(self, name: str) -> OpPattern:
        """The same pattern, which also binds the matched value to ``name``."""
        return OpPattern(self.defn, self.operands, self.attrs, self.open, self.index, name)

    def captures(self) -> Iterator[str]:
        if self.capture:
            yield self.capture
        for operand in (*self.operands.values(), *self.attrs.values()):
            for item in _items(operand):
                yield from item.captures()


rest = Rest()


def var(name: str, where: Callable[[Value], bool] | None = None) -> Var:
    """A capture: matches any operand and hands it to the rule's function by name.

    Args:
        name: the parameter of the rule's function.
        where: a condition on the value, ``lambda v: v.rank == 4``.
    """
    return Var(name, where)


def constant(name: str) -> Var:
    """A capture that matches only what is known before the program runs."""
    return Var(name, constant=True)


def any_of(*alternatives: Pattern | float) -> AnyOf:
    """Match one of several patterns, the first that fits."""
    return AnyOf(tuple(as_pattern(alternative) for alternative in alternatives))


def optional(inner: Pattern) -> Optional:
    """Match ``inner`` or an operand that is not given."""
    return Optional(as_pattern(inner))


def as_pattern(given: object) -> Base:
    """A pattern as it is; numbers match constants, lists literal lists, None an absent operand."""
    if isinstance(given, Base):
        return given
    if given is None:
        return Absent()
    if isinstance(given, (bool, int, float)):
        return Number(given)
    return Plain(freeze(given))


def op_pattern(defn: OpDef, args: tuple[object, ...], kwargs: dict[str, object]) -> OpPattern:
    """The pattern of a call of ``defn`` on patterns.

    Raises:
        AnecError: the arguments do not fit the op.
    """
    is_open = bool(args) and isinstance(args[-1], Rest)
    bound = defn.bind(args[:-1] if is_open else args, kwargs)
    operands: dict[str, Base | tuple[Base, ...]] = {}
    attrs: dict[str, Base] = {}
    for name, given in bound.items():
        param = defn.by_name[name]
        if param.kind is Kind.ATTR:
            attrs[name] = given if isinstance(given, Base) else Plain(freeze(given))
        elif param.kind is Kind.VARIADIC and isinstance(given, (tuple, list)):
            operands[name] = tuple(as_pattern(item) for item in given)
        else:
            operands[name] = as_pattern(given)
    return OpPattern(defn, operands, attrs, is_open)


def depth(pattern: Base) -> int:
    """How many ops lie on the longest way through a pattern."""
    if isinstance(pattern, OpPattern):
        operands = [item for given in pattern.operands.values() for item in _items(given)]
        return 1 + max(map(depth, operands), default=0)
    if isinstance(pattern, AnyOf):
        return max(map(depth, pattern.alternatives), default=0)
    return depth(pattern.inner) if isinstance(pattern, Optional) else 0


def _items(given: Base | tuple[Base, ...]) -> tuple[Base, ...]:
    return given if isinstance(given, tuple) else (given,)


def rooted(pattern: Base) -> list[OpPattern]:
    """The alternatives of a pattern, in order, each with one op at its root.

    Raises:
        AnecError: the root is not an op.
    """
    if isinstance(pattern, OpPattern):
        return [pattern]
    if isinstance(pattern, AnyOf):
        return [found for alternative in pattern.alternatives for found in rooted(alternative)]
    raise AnecError("the root of a rule's pattern must be an op", hint="write @rewrite(mil.add(x, y))")


def root_definitions(pattern: Base) -> list[OpDef]:
    """The ops a pattern can have at its root.

    Raises:
        AnecError: the root is not an op.
    """
    return [alternative.defn for alternative in rooted(pattern)]


def first_makers(alternatives: Sequence[OpPattern]) -> tuple[tuple[str, ...], frozenset[str]] | None:
    """What patterns of one op ask for before anything else.

    Returns:
        The operands that are matched first, of which one has to be made by an op that they ask for,
        and the names of those ops; None where anything may have made them.
    """
    found = [_first_maker(alternative) for alternative in alternatives]
    asked = [one for one in found if one is not None]
    if not asked or len(asked) < len(found):
        return None
    operands = dict.fromkeys(name for names, _ in asked for name in names)
    return tuple(operands), frozenset[str]().union(*(makers for _, makers in asked))


def _first_maker(pattern: OpPattern) -> tuple[tuple[str, ...], frozenset[str]] | None:
    params = pattern.defn.operand_params
    for param in params:
        wanted = pattern.operands.get(param.name)
        names = None if wanted is None or isinstance(wanted, tuple) else _makers(wanted)
        if names is not None:
            # Operands that may change places: either may be the one.
            places = params[:2] if pattern.defn.commutative and param in params[:2] else (param,)
            return tuple(place.name for place in places), names
        if wanted is not None and not isinstance(wanted, Var):
            return None
    return None


def _makers(pattern: Base) -> frozenset[str] | None:
    if isinstance(pattern, OpPattern):
        return frozenset({pattern.defn.name})
    if isinstance(pattern, AnyOf):
        found = [names for alternative in pattern.alternatives if (names := _makers(alternative)) is not None]
        return frozenset[str]().union(*found) if len(found) == len(pattern.alternatives) else None
    return None

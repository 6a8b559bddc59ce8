"""Dimensions: integers, or integer expressions over declared symbols.

An expression is a sum of products in a normal form, so that equal expressions compare equal:
``(S + S) == 2*S`` and ``(2*S + 1) // 2 == S``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from anec.errors import AnecError


@dataclass(frozen=True, slots=True)
class Bounds:
    """The legal range of a symbol, both ends included; ``upper=None`` is unbounded.

    Args:
        lower: the least size.
        upper: the largest.
        default: the size of the example, which a caller sees first; it does not tell ranges apart.
        only: the sizes there are, where not all of the range are legal; ascending.
    """

    lower: int = 1
    upper: int | None = None
    default: int | None = field(default=None, compare=False)
    only: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.lower}..{'' if self.upper is None else self.upper}"


@dataclass(frozen=True, slots=True)
class Atom:
    """A symbol (no arguments) or a function that does not distribute: floordiv, max, min, mod."""

    name: str
    args: tuple[Dim, ...] = ()

    def __str__(self) -> str:
        if not self.args:
            return self.name
        left, right = (str(a) for a in self.args)
        if self.name in ("max", "min"):
            return f"{self.name}({left}, {right})"
        symbol = {"floordiv": "//", "mod": "%"}[self.name]
        return f"{_bracket(left)}{symbol}{_bracket(right)}"

    @property
    def is_plain(self) -> bool:
        """True when the text needs no brackets in a product."""
        return not self.args or self.name in ("max", "min")

    def sort_key(self) -> str:
        return str(self)


Monomial = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A sum of ``coefficient * product of atoms`` in canonical order; never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        totals: dict[Monomial, int] = {}
        for monomial, coefficient in (*self.terms, *_terms(other)):
            totals[monomial] = totals.get(monomial, 0) + coefficient
        return _normal(totals)

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        totals: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                key = tuple(sorted((*left, *right), key=Atom.sort_key))
                totals[key] = totals.get(key, 0) + a * b
        return _normal(totals)

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            # -(S//2) keeps its brackets: Python reads -S//2 as (-S)//2.
            alone = len(monomial) == 1 and coefficient == 1
            factors = [str(atom) if alone or atom.is_plain else f"({atom})" for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            text += ("-" if sign == "-" else "") if not text else sign
            text += "*".join(factors)
        return text

    def __repr__(self) -> str:
        return f"Expr({self})"

    def symbols(self) -> set[str]:
        """The names of all symbols in the expression."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if not atom.args:
                    found.add(atom.name)
                for arg in atom.args:
                    if isinstance(arg, Expr):
                        found |= arg.symbols()
        return found


Dim = int | Expr


def _bracket(text: str) -> str:
    return text if re.fullmatch(r"\w+|(max|min)\([^()]*\)", text) else f"({text})"


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _normal(totals: dict[Monomial, int]) -> Dim:
    kept = {m: c for m, c in totals.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    order = sorted(kept.items(), key=lambda item: (-len(item[0]), [a.sort_key() for a in item[0]]))
    return Expr(tuple(order))


def symbol(name: str) -> Expr:
    """The dimension symbol ``name``."""
    return Expr((((Atom(name),), 1),))


def _atom(name: str, left: Dim, right: Dim) -> Dim:
    return Expr((((Atom(name, (left, right)),), 1),))


def _check_divisor(divisor: Dim) -> None:
    if divisor == 0:
        raise AnecError("a dimension is divided by 0")


def floordiv(left: Dim, right: Dim) -> Dim:
    """``left // right``, with whole multiples of a constant divisor taken out.

    Raises:
        AnecError: a division by 0.
    """
    _check_divisor(right)
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if isinstance(left, Expr):
        left = _without_mods(left, right)
    multiple = _multiple(left, right)
    if multiple is not None:
        return multiple
    if isinstance(right, int) and isinstance(left, Expr):
        whole = {m: c // right for m, c in left.terms if c % right == 0}
        rest = {m: c for m, c in left.terms if c % right}
        if not rest:
            return _normal(whole)
        if set(rest) == {()}:
            whole[()] = whole.get((), 0) + rest[()] // right
            return _normal(whole)
        if whole:
            return _normal(whole) + floordiv(_normal(rest), right)
    return _atom("floordiv", left, right)


def _without_mods(left: Expr, right: Dim) -> Dim:
    """``left`` with ``a % m`` as ``a - m*(a//m)``, if the division by ``right`` comes out even then.

    So what is padded to a multiple of m divides by m: ``((-S)%4 + S)//4 == S - (3*S)//4``.
    """
    if not any(atom.name == "mod" for monomial, _ in left.terms for atom in monomial):
        return left
    spelled: Dim = 0
    for monomial, coefficient in left.terms:
        term: Dim = coefficient
        for atom in monomial:
            value: Dim = Expr((((atom,), 1),))
            if atom.name == "mod" and atom.args:
                value = atom.args[0] - floordiv(*atom.args) * atom.args[1]
            term = term * value
        spelled = spelled + term
    even = _multiple(spelled, right) is not None
    if isinstance(right, int) and isinstance(spelled, Expr):
        even = all(coefficient % right == 0 for _, coefficient in spelled.terms)
    return spelled if even else left


def _multiple(left: Dim, right: Dim) -> int | None:
    """How many times ``right`` the expression ``left`` is; None when that is no whole number."""
    if not isinstance(left, Expr) or not isinstance(right, Expr):
        return None
    times = left.terms[0][1] // right.terms[0][1]
    return times if right * times == left else None


def mod(left: Dim, right: Dim) -> Dim:
    """``left % right``.

    Raises:
        AnecError: a division by 0.
    """
    _check_divisor(right)
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if isinstance(left, Expr):
        left = _without_mods(left, right)
    if _multiple(left, right) is not None:
        return 0
    if isinstance(right, int) and isinstance(left, Expr):
        rest = _normal({m: c % right for m, c in left.terms if c % right})
        if isinstance(rest, int):
            return rest % right
        return _atom("mod", rest, right)
    return _atom("mod", left, right)


def maximum(left: Dim, right: Dim) -> Dim:
    """``max(left, right)``."""
    return _extreme("max", left, right)


def minimum(left: Dim, right: Dim) -> Dim:
    """``min(left, right)``."""
    return _extreme("min", left, right)


def _extreme(name: str, left: Dim, right: Dim) -> Dim:
    least, most = _ends(left - right)
    if isinstance(least, int) and least >= 0:
        return left if name == "max" else right
    if isinstance(most, int) and most <= 0:
        return right if name == "max" else left
    first, second = sorted((left, right), key=str)
    return _atom(name, first, second)


def _ends(dim: Dim) -> tuple[Dim, Dim]:
    """What a dimension lies between: ``d * (n // d)`` between n - d + 1 and n, ``n % d`` between 0 and d - 1."""
    least: Dim = 0
    most: Dim = 0
    for monomial, coefficient in _terms(dim):
        ends: tuple[Dim, Dim] = (_normal({monomial: coefficient}),) * 2
        atom = monomial[0] if len(monomial) == 1 else None
        if atom is not None and atom.args and isinstance(divisor := atom.args[1], int) and divisor > 0:
            if atom.name == "floordiv" and coefficient % divisor == 0:
                whole = (coefficient // divisor) * atom.args[0]
                ends = whole - (coefficient // divisor) * (divisor - 1), whole
            elif atom.name == "mod":
                ends = 0, coefficient * (divisor - 1)
            ends = ends if coefficient > 0 else ends[::-1]
        least, most = least + ends[0], most + ends[1]
    return least, most


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """Return the dimension's value for given symbol sizes.

    Raises:
        AnecError: a symbol has no size, or a divisor is 0 for these sizes.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        total += coefficient * prod(_evaluate_atom(atom, sizes) for atom in monomial)
    return total


def _evaluate_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if not atom.args:
        if atom.name not in sizes:
            raise AnecError(f"the dimension symbol {atom.name} has no size", hint="declare it in `dims`")
        return sizes[atom.name]
    left, right = (evaluate(arg, sizes) for arg in atom.args)
    if atom.name in ("floordiv", "mod"):
        _check_divisor(right)
        return left // right if atom.name == "floordiv" else left % right
    return max(left, right) if atom.name == "max" else min(left, right)


_TOKEN = re.compile(r"\s*(//|[-+*%(),]|\d+|[A-Za-z_]\w*)")


def parse_dim(text: str) -> Dim:
    """Parse ``"(S-1)//2+1"``.

    Raises:
        AnecError: the text is not a dimension expression.
    """
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise AnecError(f"cannot read the dimension {text!r}")
        tokens.append(match.group(1))
        position = match.end()
    if len(tokens) == 1 and tokens[0].isdigit():
        return int(tokens[0])
    reader = _Reader(tokens, text)
    dim = reader.sum()
    if reader.position != len(tokens):
        raise AnecError(f"cannot read the dimension {text!r}")
    return dim


class _Reader:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens, self.text, self.position = tokens, text, 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        word = self.peek()
        self.position += 1
        return word

    def expect(self, wanted: str) -> None:
        if self.take() != wanted:
            raise AnecError(f"cannot read the dimension {self.text!r}")

    def sum(self) -> Dim:
        sign = -1 if self.peek() == "-" else 1
        if sign < 0:
            self.take()
        total = sign * self.product()
        while self.peek() in ("+", "-"):
            minus = self.take() == "-"
            term = self.product()
            total = total - term if minus else total + term
        return total

    def product(self) -> Dim:
        value = self.factor()
        while self.peek() in ("*", "//", "%"):
            operator = self.take()
            right = self.factor()
            if operator == "*":
                value = value * right
            else:
                value = floordiv(value, right) if operator == "//" else mod(value, right)
        return value

    def factor(self) -> Dim:
        word = self.take()
        if word == "(":
            inner = self.sum()
            self.expect(")")
            return inner
        if word in ("max", "min") and self.peek() == "(":
            self.take()
            left = self.sum()
            self.expect(",")
            right = self.sum()
            self.expect(")")
            return maximum(left, right) if word == "max" else minimum(left, right)
        if word.isdigit():
            return int(word)
        if not re.fullmatch(r"[A-Za-z_]\w*", word):
            raise AnecError(f"cannot read the dimension {self.text!r}")
        return symbol(word)

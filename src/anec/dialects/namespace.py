"""Dialects as namespaces, and the registry over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping

from anec.errors import AnecError, UsageError, nearest
from anec.ir.graph import Value
from anec.ir.opdef import OpDef, OperandLike, Pattern


class Packet:
    """The overloads of one torch op: ``aten.add``; calling it means its ``default`` overload."""

    __slots__ = ("_dialect", "_name")

    def __init__(self, dialect: Dialect, name: str) -> None:
        self._dialect, self._name = dialect, name

    def __getattr__(self, overload: str) -> OpDef:
        if overload.startswith("__"):
            raise AttributeError(overload)
        return self._dialect.resolve(f"{self._name}.{overload}")

    def __repr__(self) -> str:
        return f"{self._dialect.name}.{self._name}"

    def __call__(self, *args: OperandLike | Pattern, **kwargs: object) -> Value | Pattern:
        return self.default(*args, **kwargs)


class Dialect:
    """A named set of ops.

    Args:
        name: the prefix of its ops' names.
        ops: definitions by name without the prefix; made on first use when callable.
        missing: called with a name that is not in ``ops``; returns a definition or None.
    """

    def __init__(
        self,
        name: str,
        ops: Callable[[], MutableMapping[str, OpDef]],
        missing: Callable[[str], OpDef | None] | None = None,
    ) -> None:
        self.name = name
        self._make = ops
        self._missing = missing
        self._ops: MutableMapping[str, OpDef] | None = None

    @property
    def ops(self) -> MutableMapping[str, OpDef]:
        if self._ops is None:
            self._ops = self._make()
        return self._ops

    def __iter__(self) -> Iterator[OpDef]:
        return iter(list(self.ops.values()))

    def __contains__(self, name: str) -> bool:
        return name in self.ops

    def __getattr__(self, name: str) -> OpDef:
        if name.startswith("_"):
            raise AttributeError(name)
        # An op is defined once: the next look finds it as an attribute.
        found = self.__dict__[name] = self.resolve(name)
        return found

    def names(self) -> Iterator[str]:
        """The full names of its ops."""
        return (f"{self.name}.{name}" for name in self.ops)

    def define(self, defn: OpDef) -> OpDef:
        """Add an op.

        Raises:
            UsageError: the dialect has one of that name.
        """
        name = defn.name.partition(".")[2]
        if name in self.ops:
            raise UsageError(f"{defn.name} exists already")
        self.ops[name] = defn
        return defn

    def resolve(self, name: str) -> OpDef:
        """The op ``name`` (without the dialect's prefix).

        Raises:
            AnecError: there is no such op; the nearest names are in the hint.
        """
        found = self.ops.get(name)
        if found is None and self._missing is not None:
            found = self._missing(name)
            if found is not None:
                self.ops[name] = found
        if found is None:
            raise AnecError(f"there is no op {self.name}.{name}", hint=nearest(name, self.ops))
        return found


class Registry:
    """All dialects; resolves full op names.

    Args:
        dialects: those known from the start.
        library: makes the dialect of another torch library by its name.
    """

    def __init__(self, dialects: Iterable[Dialect], library: Callable[[str], Dialect]) -> None:
        self.dialects = {dialect.name: dialect for dialect in dialects}
        self._library = library

    def resolve(self, name: str) -> OpDef:
        """The op called ``name``, ``"mil.conv"``. Other torch libraries' ops resolve through torch.

        Raises:
            AnecError: no such op.
        """
        head, _, rest = name.partition(".")
        dialect = self.dialects.get(head)
        if dialect is not None:
            return dialect.resolve(rest)
        try:
            dialect = self._library(head)
            found = dialect.resolve(rest)
        except AnecError:
            known = (defn for known in self.dialects.values() for defn in known.names())
            raise AnecError(f"there is no op {name}", hint=nearest(name, known)) from None
        self.dialects[head] = dialect
        return found

"""The builder: where calling an op on values puts it, and how it gets its types and names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal, freeze
from anec.ir.dims import Bounds
from anec.ir.graph import NOWHERE, Graph, Op, Origin, Value
from anec.ir.opdef import Kind, OpDef, Operand
from anec.ir.types import Type

_CURRENT: ContextVar[Builder | None] = ContextVar("builder", default=None)
_BOUNDS: ContextVar[Mapping[str, Bounds]] = ContextVar("bounds", default=MappingProxyType({}))


class Builder:
    """Creates ops in front of one op, or at a graph's end.

    Args:
        graph: where ops go.
        before: the op to insert in front of; None appends.
        origin: the origin new ops carry.
        name: the stem of new values' names.
        site: a name that each new value carries in front of its op's, ``site_add``: decided by the
            place, whatever else is in the graph.
    """

    __slots__ = ("before", "created", "graph", "name", "origin", "site")

    def __init__(
        self,
        graph: Graph,
        *,
        before: Op | None = None,
        origin: Origin = NOWHERE,
        name: str | None = None,
        site: str | None = None,
    ) -> None:
        self.graph = graph
        self.before = before
        self.origin = origin
        self.name = name
        self.site = site
        self.created: list[Op] = []

    @staticmethod
    def current(wanted: str) -> Builder:
        """The builder in force.

        Raises:
            AnecError: ops are called on values outside a rule and outside ``with builder.active()``.
        """
        builder = _CURRENT.get()
        if builder is None:
            raise AnecError(
                f"{wanted} was called on values outside of a rule or builder",
                hint="inside a pass's run(), use `with ctx.builder(before=op):`",
            )
        return builder

    @contextmanager
    def active(self) -> Iterator[Builder]:
        """Let ops called on values be built here."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)

    def _stem(self, defn: OpDef) -> str:
        return f"{self.site}_{defn.root}" if self.site else defn.root

    def create(
        self,
        defn: OpDef,
        bound: Mapping[str, object],
        *,
        types: tuple[Type, ...] | None = None,
        names: tuple[str, ...] | None = None,
        origin: Origin | None = None,
    ) -> Op:
        """Create an op from arguments by parameter name.

        Args:
            defn: the op's definition.
            bound: operands and attributes by parameter name.
            types: the result types when known (else inferred by running the kernel on fake tensors).
            names: the results' names.
            origin: overrides the builder's origin.

        Raises:
            AnecError: a missing or ill-typed argument, or types that cannot be inferred.
        """
        arguments, attrs = split_arguments(defn, bound)
        op = Op(defn, arguments, attrs, origin or self.origin)
        try:
            if types is None:
                types = infer_types(op)
        except BaseException as error:
            op.drop_uses()
            if isinstance(error, AnecError):
                error.where = error.where or op.origin.place or None
            raise
        for index, type_ in enumerate(types):
            stem = names[index] if names else self.name or self._stem(defn)
            op.results.append(Value(stem, type_, op=op, index=index))
        self.graph.insert(op, before=self.before)
        self.created.append(op)
        return op


@contextmanager
def assuming(bounds: Mapping[str, Bounds]) -> Iterator[None]:
    """Let inference take dimension symbols to lie in these bounds."""
    token = _BOUNDS.set(bounds)
    try:
        yield
    finally:
        _BOUNDS.reset(token)


def bounds_of(symbol: str) -> Bounds:
    """The bounds in force of a dimension symbol; unbounded when none are."""
    return _BOUNDS.get().get(symbol, Bounds())


def split_arguments(defn: OpDef, bound: Mapping[str, object]) -> tuple[dict[str, object], dict[str, Attr]]:
    """Sort bound arguments into operands and attributes; Python numbers become literals."""
    operands: dict[str, object] = {}
    attrs: dict[str, Attr] = {}
    for param in defn.params:
        given = bound.get(param.name)
        if given is None:
            if param.required and param.name not in bound and param.kind is not Kind.VARIADIC:
                raise AnecError(f"{defn.name} needs the argument {param.name!r}")
            if param.kind is Kind.ATTR and param.name in bound and param.default is not None:
                attrs[param.name] = None
            continue
        if param.kind is Kind.ATTR:
            attrs[param.name] = freeze(given)
        elif param.kind is Kind.VARIADIC:
            if not isinstance(given, (tuple, list)):
                raise AnecError(f"{defn.name}: {param.name} takes a list of values")
            operands[param.name] = [as_operand(item) for item in given]
        else:
            operands[param.name] = as_operand(given)
    return operands, attrs


def as_operand(given: object) -> Operand:
    """A value or literal as it is; Python numbers and nested lists of them as a literal."""
    if given is None or isinstance(given, (Value, Literal)):
        return given
    return Literal(freeze(given))


def infer_types(op: Op) -> tuple[Type, ...]:
    """The types of an op's results, from its own ``infer`` or by running its kernel on fake tensors.

    Raises:
        AnecError: the op's arguments do not fit, or it has no kernel.
    """
    if op.defn.infer is not None:
        types = op.defn.infer(op)
        if types is not None:
            return types
    if OpDef.inference is None:
        raise AnecError("no dialect is loaded", hint="import anec first")
    return OpDef.inference(op)

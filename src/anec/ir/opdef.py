"""What an op is: parameters, versions, effects, layout; and how calling one builds an op or a pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Any, ClassVar, Union, overload

from anec.errors import AnecError, nearest
from anec.ir.attrs import Attr, Literal
from anec.ir.types import DType, Type

if TYPE_CHECKING:
    from anec.ir.graph import Op, Value


class Kind(Enum):
    """How a parameter is passed."""

    OPERAND = "operand"
    VARIADIC = "variadic"
    ATTR = "attr"


class Effect(Flag):
    """What an op does besides computing its results."""

    NONE = 0
    READ = auto()
    WRITE = auto()
    RANDOM = auto()


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of an op.

    Args:
        name: MIL's or torch's own name.
        kind: operand (a value, weight or literal), a list of operands, or an attribute.
        required: false when the parameter may be left out.
        default: what an absent attribute means (in the newest version).
        domain: parameters of one domain share a dtype; a literal takes that dtype.
        dtypes: the dtypes an operand may have; empty means any.
        const: the operand must be computable before the program runs.
    """

    name: str
    kind: Kind = Kind.OPERAND
    required: bool = True
    default: Attr = None
    domain: str | None = None
    dtypes: tuple[DType, ...] = ()
    const: bool = False


class LayoutKind(Enum):
    """What an op asks of its operands' layout."""

    ELEMENTWISE = "elementwise"  # any permutation, the same for operands and results (with broadcasting)
    AXES = "axes"  # any permutation, when the attributes named in `axes` are permuted with it
    CONV = "conv"  # batch, channels, space
    FIXED = "fixed"  # only as written
    BARRIER = "barrier"  # mixes axes: reshape, transpose, ...


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout slot of an op, from which layout passes remap it without knowing the op.

    Args:
        kind: see :class:`LayoutKind`.
        axes: parameters that hold axis numbers (``axis``, ``axes``).
        by_axis: parameters that hold one entry an axis (``begin``, ``pad``, ``reps``).
    """

    kind: LayoutKind = LayoutKind.FIXED
    axes: tuple[str, ...] = ()
    by_axis: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """The parameters an op has from target ``since`` (an iOS number) on."""

    since: int
    params: tuple[Param, ...]


class Pattern:
    """What patterns derive from, so that calling an op on one gives a pattern (see ``anec.rewrite``)."""

    __slots__ = ()

    def of_op(self, defn: OpDef, args: tuple[object, ...], kwargs: dict[str, object]) -> Pattern:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Pattern:
        """The pattern of one result of an op with several."""
        raise NotImplementedError

    def named(self, name: str) -> Pattern:
        """The same pattern, which also binds the matched value to ``name``."""
        raise NotImplementedError


Operand = Union["Value", Literal, None]
OperandLike = Union["Value", float, int, bool, Literal, None, Sequence[Any]]
Infer = Callable[["Op"], "tuple[Type, ...]"]


@dataclass(frozen=True, eq=False, slots=True)
class OpDef:
    """The definition of an op; calling it builds one.

    On values it creates an op at the current insertion point and returns its result; on patterns
    (:func:`anec.var`) it returns a pattern that matches such an op.

    Args:
        name: full name, ``"mil.conv"`` or ``"aten.add.Tensor"``.
        params: all parameters in order, of the newest version.
        results: how many results; None when it depends on the arguments.
        commutative: the first two operands may be swapped.
        effects: what it does besides computing.
        layout: the layout slot.
        versions: the parameters by target, oldest first; empty when there is one version.
        verify: an extra check, raising AnecError.
        infer: result types without running the kernel on fake tensors; None leaves a form to the kernel.
        doc: one line.
    """

    name: str
    params: tuple[Param, ...]
    results: int | None = 1
    commutative: bool = False
    effects: Effect = Effect.NONE
    layout: Layout = Layout()
    versions: tuple[Version, ...] = ()
    verify: Callable[[Op], None] | None = None
    infer: Callable[[Op], tuple[Type, ...] | None] | None = None
    doc: str = ""
    by_name: Mapping[str, Param] = field(init=False, repr=False)
    operand_params: tuple[Param, ...] = field(init=False, repr=False)

    inference: ClassVar[Infer | None] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {p.name: p for p in self.params})
        object.__setattr__(self, "operand_params", tuple(p for p in self.params if p.kind is not Kind.ATTR))

    def __str__(self) -> str:
        return self.name

    @property
    def dialect(self) -> str:
        return self.name.partition(".")[0]

    @property
    def root(self) -> str:
        """The name without dialect and overload: ``add`` of ``aten.add.Tensor``."""
        return self.name.split(".")[1]

    @property
    def since(self) -> int:
        """The first target that has the op, as an iOS number; 0 for ops outside Core ML."""
        return self.versions[0].since if self.versions else 0

    def version(self, target: int) -> Version:
        """The version of the op on ``target``.

        Raises:
            AnecError: the target does not have the op.
        """
        if not self.versions:
            return Version(0, self.params)
        found = [v for v in self.versions if v.since <= target]
        if not found:
            raise AnecError(f"{self.name} needs iOS{self.since}", hint=f"compile with --target iOS{self.since}")
        return found[-1]

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Match call arguments to parameters, by position and by name.

        Raises:
            AnecError: an unknown, doubled or missing parameter.
        """
        if len(args) > len(self.params):
            raise AnecError(f"{self.name} takes {len(self.params)} arguments, got {len(args)}")
        bound = {param.name: arg for param, arg in zip(self.params, args, strict=False)}
        for name, arg in kwargs.items():
            if name not in self.by_name:
                raise AnecError(f"{self.name} has no parameter {name!r}", hint=nearest(name, self.by_name))
            if name in bound:
                raise AnecError(f"{self.name} got {name!r} twice")
            bound[name] = arg
        return bound

    # Without a pattern among the arguments the first overload is meant; mypy cannot say "no Pattern".
    @overload
    def __call__(  # type: ignore[overload-overlap]  # see above
        self, *args: OperandLike, **kwargs: object
    ) -> Value: ...
    @overload
    def __call__(self, *args: Pattern | OperandLike, **kwargs: object) -> Pattern: ...
    def __call__(self, *args: object, **kwargs: object) -> Value | Pattern:
        pattern = _find_pattern((*args, *kwargs.values()))
        if pattern is not None:
            return pattern.of_op(self, args, kwargs)
        results = self.build(args, kwargs).results
        if len(results) != 1:
            raise AnecError(
                f"{self.name} has {len(results)} results", hint=f"call {self.name}.many(...), which returns them all"
            )
        return results[0]

    def many(self, *args: OperandLike, **kwargs: object) -> tuple[Value, ...]:
        """Build the op and return all its results."""
        return tuple(self.build(args, kwargs).results)

    def build(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Op:
        """Create the op at the current insertion point."""
        from anec.ir.build import Builder

        return Builder.current(self.name).create(self, self.bind(args, kwargs))


def _find_pattern(values: Sequence[object]) -> Pattern | None:
    for value in values:
        if isinstance(value, Pattern):
            return value
        if isinstance(value, (tuple, list)):
            found = _find_pattern(value)
            if found is not None:
                return found
    return None

"""What the clean-up passes share: reading constants, counting uses, rebuilding ops, running to rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.opdef import Effect, Operand
from anec.ir.types import DType
from anec.pipeline.base import Context
from anec.rewrite import Rule, var
from anec.rewrite.pattern import Var

Number = float | int | bool

# Larger constants are not searched for a single number: it would cost more than it saves.
_LARGEST_SEARCHED = 1 << 16
_ROUNDS = 64
# What `known` found during one sweep of `settle`. A rewrite never makes a constant vary; where it
# makes something constant, the next sweep sees it.
_KNOWN: ContextVar[dict[Value, bool] | None] = ContextVar("known", default=None)

# The same elements in the same order, seen as other axes.
VIEWS = (mil.reshape, mil.expand_dims, mil.squeeze)
# Ops whose result holds elements of one operand and nothing else, with that operand's name.
MOVES: dict[str, str] = {
    **dict.fromkeys(
        (
            f"mil.{name}"
            for name in "reshape transpose expand_dims squeeze flatten2d tile slice_by_index slice_by_size identity "
            "reverse".split()
        ),
        "x",
    ),
    **dict.fromkeys(
        (
            f"aten.{name}"
            for name in "view.default _unsafe_view.default reshape.default permute.default transpose.int t.default "
            "unsqueeze.default squeeze.default squeeze.dim squeeze.dims expand.default repeat.default slice.Tensor "
            "select.int clone.default alias.default detach.default contiguous.default flatten.using_ints "
            "lift_fresh_copy.default flip.default".split()
        ),
        "self",
    ),
}
# Ops that fill a shape with one number: the attribute that holds it, or the number itself.
FILLS: dict[str, str | int] = {
    "mil.fill": "value",
    "mil.fill_like": "value",
    "aten.full.default": "fill_value",
    "aten.zeros.default": 0,
    "aten.ones.default": 1,
}


def settle(ctx: Context, rules: Sequence[Rule], opts: object) -> None:
    """Apply rules until a whole sweep fires none; one run of the driver revisits neighbours only.

    Raises:
        AnecError: the rules never come to rest.
    """
    for _ in range(_ROUNDS):
        token = _KNOWN.set({})
        try:
            if not ctx.rewrite(rules, opts=opts).fired:
                return
        finally:
            _KNOWN.reset(token)
    raise AnecError("the clean-up does not come to rest", hint="two of its rules undo each other")


def varying(name: str) -> Var:
    """A capture that depends on the program's inputs.

    What is constant is computed once, before the program runs: arithmetic there saves nothing.
    """
    return var(name, lambda value: not known(value))


def tensor(name: str) -> Var:
    """A capture that is a value and not a literal."""
    return var(name, lambda value: True)


def known(operand: Operand) -> bool:
    """True for literals, weights, and what effect-free ops compute from them alone.

    Compressed weights (``constexpr_*``) are not computed before emission, so they count as varying.
    """
    if not isinstance(operand, Value):
        return isinstance(operand, Literal)
    memo = _KNOWN.get()
    memo = {} if memo is None else memo
    stack = [operand]
    while stack:
        at = stack[-1]
        missing = None
        if at not in memo:
            found, missing = _judge(at, memo)
            if missing is None:
                memo[at] = found
        if missing is None:
            stack.pop()
        else:
            stack.append(missing)
    return memo[operand]


def _judge(value: Value, memo: dict[Value, bool]) -> tuple[bool, Value | None]:
    """Whether ``value`` is known, or the operand that must be judged first."""
    if value.weight is not None:
        return True, None
    if value.op is None or not _computes(value.op):
        return False, None
    missing = None
    for operand in value.op.inputs:
        if operand not in memo:
            missing = missing or operand
        elif not memo[operand]:
            return False, None
    return missing is None, missing


def _computes(op: Op) -> bool:
    return op.defn.effects is Effect.NONE and not op.defn.root.startswith("constexpr_")


def uniform(operand: Operand) -> Number | None:
    """The number that every element of a constant equals; None when they differ or are not known."""
    while isinstance(operand, Value) and operand.op is not None:
        op = operand.op
        if op.name in FILLS:
            filled = FILLS[op.name]
            number = op.attr(filled) if isinstance(filled, str) else filled
            return number if isinstance(number, (bool, int, float)) else None
        if op.name not in MOVES:
            return None
        operand = op.operand(MOVES[op.name])
    if isinstance(operand, Literal):
        return _common(operand.value)
    if operand is None or operand.weight is None or operand.weight.data is None:
        return None
    weight = operand.weight
    if not 0 < weight.type.size <= _LARGEST_SEARCHED or weight.type.dtype.is_complex:
        return None
    numbers = weight.tensor()
    first = numbers[(0,) * numbers.dim()]
    if not bool((numbers == first).all()):
        return None
    found = first.item()
    return found if isinstance(found, (bool, int, float)) else None


def magnitudes(operand: Operand) -> tuple[float, float] | None:
    """The smallest and the largest magnitude of a constant; None when its numbers are not at hand."""
    number = uniform(operand)
    if number is not None:
        return abs(number), abs(number)
    while isinstance(operand, Value) and operand.op is not None and operand.op.name in MOVES:
        operand = operand.op.operand(MOVES[operand.op.name])
    weight = operand.weight if isinstance(operand, Value) else None
    if weight is None or weight.data is None or not 0 < weight.type.size <= _LARGEST_SEARCHED:
        return None
    numbers = weight.tensor().abs()
    return float(numbers.min()), float(numbers.max())


def _common(value: Attr) -> Number | None:
    if isinstance(value, tuple):
        found = [_common(item) for item in value]
        return found[0] if found and all(item == found[0] for item in found) else None
    return value if isinstance(value, (bool, int, float)) else None


def scalar(operand: Operand) -> Number | None:
    """The number of a literal or of a rank-0 weight; None for anything else."""
    if isinstance(operand, Literal):
        return operand.value if isinstance(operand.value, (bool, int, float)) else None
    return uniform(operand) if isinstance(operand, Value) and operand.rank == 0 else None


def ints(operand: Operand) -> tuple[int, ...] | None:
    """The whole numbers of a shape-like operand; None when they are not written down."""
    if isinstance(operand, Literal):
        items = operand.value if isinstance(operand.value, tuple) else (operand.value,)
        return tuple(i for i in items if isinstance(i, int)) if all(isinstance(i, int) for i in items) else None
    weight = operand.weight if isinstance(operand, Value) else None
    if weight is None or weight.data is None or not weight.type.dtype.is_integer or weight.type.size > 64:
        return None
    return tuple(int(i) for i in weight.tensor().reshape(-1))


def is_empty(operand: Operand) -> bool:
    """True for a tensor that is known to have no elements; Core ML has none."""
    return isinstance(operand, Value) and operand.tensor.is_static and 0 in operand.shape


def only_use(value: Value) -> bool:
    """True when one operand of one op is all that uses the value."""
    return len(value.uses) == 1 and not value.is_output


def holds(holder: DType, dtype: DType) -> bool:
    """True when every number of ``dtype`` is one of ``holder`` too."""
    if holder is dtype:
        return True
    if holder is DType.BOOL or holder.is_complex or dtype.is_complex:
        return False
    if dtype is DType.BOOL:
        return True
    if dtype.is_float:
        return holder is DType.F64 or (holder is DType.F32 and dtype is not DType.F64)
    low, high = dtype.range
    if holder.is_float:
        largest: int = 2 ** {DType.BF16: 8, DType.F16: 11, DType.F32: 24, DType.F64: 53}[holder]
        return -largest <= low and high <= largest
    return holder.range[0] <= low and high <= holder.range[1]


def rebuild(op: Op, **changes: object) -> Value:
    """The op again, with some operands or attributes changed."""
    arguments: dict[str, object] = {n: operand for n, operand in op.arguments().items() if operand is not None}
    return op.defn.build((), {**arguments, **op.attrs, **changes}).result


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """The shape numpy broadcasts ``shapes`` to; None when they do not fit or it cannot be told."""
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def dims(operand: Operand) -> tuple[Dim, ...]:
    """The shape of a value or a literal."""
    if isinstance(operand, Value):
        return operand.tensor.shape
    found: list[Dim] = []
    at: Attr = operand.value if operand is not None else None
    while isinstance(at, tuple):
        found.append(len(at))
        at = at[0] if at else None
    return tuple(found)


def has_rows(op: Op) -> bool:
    """Whether an operand is a list of tensors, or numbers that lie along axes: they do not move with the others."""
    given = op.arguments().values()
    return any(isinstance(one, (tuple, list)) or (isinstance(one, Literal) and bool(dims(one))) for one in given)

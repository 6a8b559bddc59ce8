"""Sizes that a program computes: what a small int32 value holds, as dimensions.

    %1 = mil.shape(%x)                        %x: f32[B,S,8]          [B, S, 8]
    %2 = mil.slice_by_index(%1, [1], [2])                             [S]
    %3 = mil.mul(%2, 2)                                               [2*S]

So an op that is given its shape by a value has a type, as one that is given numbers.
"""

from __future__ import annotations

from collections.abc import Callable

from anec.ir.attrs import Attr, Literal
from anec.ir.dims import Dim, Expr, floordiv, maximum, minimum, mod
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand

Sizes = tuple[Dim, ...]
# Core ML's tensors have five axes; pads have two numbers for each.
_MOST = 10


def known_sizes(operand: Operand) -> Dim | Sizes | None:
    """The numbers of an integer scalar or vector over dimension symbols; None when they are not known.

    A scalar gives a dimension, a vector a tuple of them.
    """
    if isinstance(operand, Literal):
        return _plain(operand.value)
    if not isinstance(operand, Value) or operand.rank > 1 or not operand.tensor.dtype.is_integer:
        return None
    if not operand.tensor.is_static or operand.tensor.size > _MOST:
        return None
    if operand.weight is not None:
        return None if operand.weight.data is None else _plain(_frozen(operand.weight.tensor().tolist()))
    rule = _RULES.get(operand.op.name) if operand.op is not None else None
    return rule(operand.op) if rule is not None and operand.op is not None else None


def _frozen(numbers: object) -> Attr:
    return tuple(numbers) if isinstance(numbers, list) else numbers  # type: ignore[return-value]  # torch is untyped


def _plain(given: Attr) -> Dim | Sizes | None:
    if isinstance(given, tuple):
        found = tuple(item for item in given if isinstance(item, (int, Expr)) and not isinstance(item, bool))
        return found if len(found) == len(given) else None
    return given if isinstance(given, (int, Expr)) and not isinstance(given, bool) else None


def _listed(operand: Operand) -> Sizes | None:
    found = known_sizes(operand)
    return found if isinstance(found, tuple) or found is None else (found,)


def _shape(op: Op) -> Sizes:
    return op.value("x").tensor.shape


def _same(op: Op) -> Dim | Sizes | None:
    return known_sizes(op.operand("x"))


def _reranked(op: Op) -> Dim | Sizes | None:
    """One number, whether as a scalar or a vector of one."""
    found = _listed(op.operand("x"))
    return found if found is None or op.result.rank else found[0]


def _slice(op: Op) -> Dim | Sizes | None:
    x = _listed(op.operand("x"))
    begin, end = (_listed(op.operand(name)) for name in ("begin", "end"))
    if x is None or begin is None or end is None:
        return None
    first, last = begin[0], end[0]
    step = op.attr("stride")
    stride = step[0] if isinstance(step, tuple) else 1
    if not isinstance(first, int) or not isinstance(last, int) or not isinstance(stride, int):
        return None
    if _flag(op, "squeeze_mask"):
        return x[first]
    span = slice(None if _flag(op, "begin_mask") else first, None if _flag(op, "end_mask") else last, stride)
    return x[span]


def _flag(op: Op, name: str) -> bool:
    given = op.attr(name)
    return isinstance(given, tuple) and bool(given[0])


def _gather(op: Op) -> Dim | Sizes | None:
    x, indices = _listed(op.operand("x")), known_sizes(op.operand("indices"))
    if x is None or indices is None:
        return None
    wanted = indices if isinstance(indices, tuple) else (indices,)
    places = [index for index in wanted if isinstance(index, int) and -len(x) <= index < len(x)]
    if len(places) != len(wanted):
        return None
    found = tuple(x[index] for index in places)
    return found if isinstance(indices, tuple) else found[0]


def _concat(op: Op) -> Sizes | None:
    if op.attr("interleave"):
        return None
    parts = [_listed(operand) for operand in op.variadic("values")]
    known = [part for part in parts if part is not None]
    return tuple(size for part in known for size in part) if len(known) == len(parts) else None


def _elementwise(function: Callable[[Dim, Dim], Dim]) -> Callable[[Op], Dim | Sizes | None]:
    def compute(op: Op) -> Dim | Sizes | None:
        left, right = _listed(op.operand("x")), _listed(op.operand("y"))
        if left is None or right is None:
            return None
        length = max(len(left), len(right))
        pairs = zip(left * (length // len(left)), right * (length // len(right)), strict=True)
        if function in (floordiv, mod) and 0 in right:
            return None
        found = tuple(function(a, b) for a, b in pairs)
        return found if op.result.rank else found[0]

    return compute


_RULES: dict[str, Callable[[Op], Dim | Sizes | None]] = {
    "mil.shape": _shape,
    "mil.identity": _same,
    "mil.cast": _same,
    "mil.squeeze": _reranked,
    "mil.expand_dims": _reranked,
    "mil.slice_by_index": _slice,
    "mil.gather": _gather,
    "mil.concat": _concat,
    "mil.add": _elementwise(lambda a, b: a + b),
    "mil.sub": _elementwise(lambda a, b: a - b),
    "mil.mul": _elementwise(lambda a, b: a * b),
    "mil.floor_div": _elementwise(floordiv),
    "mil.mod": _elementwise(mod),
    "mil.maximum": _elementwise(maximum),
    "mil.minimum": _elementwise(minimum),
}

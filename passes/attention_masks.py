"""Masks of attention: added, finite, computed once for all layers.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %ones = aten.ones.default() {size=[4, 4], dtype=bool}
    %mask = aten.tril.default(%ones)
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = weight "y.mask" : f32[1,1,4,4]
    %y = nn.attention(%q, %k, %v, %1)

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: bool[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)

    %q: f32[2,2,4,8], %k: f32[2,2,9,8], %v: f32[2,2,9,8], %mask: f32[2,1,1,9]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten.clamp_min.default(%mask) {min=-40000.0}
    %y = nn.attention(%q, %k, %v, %1)

A constant mask (causal, a window, a bias by position) is one weight that equal layers share; one that
hides nothing goes. What depends on inputs is made of ops that equal layers share behind `cse`.

A hidden score is 40000 lower instead of minus infinity or float32's lowest number: float16 holds the
sum, and the exponential is 0 as long as scores differ by less than 39000. Queries that see no key
give zeros where torch does, that is for bool masks and -inf, and the mean of all values for numbers as
low as float32's lowest. Where a computed mask is of the keys alone, an input of padding only, they
attend by their scores.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import aten, nn
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.algebra import choice, in_dtype
from anec.passes.attention.frames import expanded
from anec.passes.attention.matrices import PERMUTES
from anec.passes.attention.scores import VIEWS
from anec.passes.common import rebuild, settle, tensor, uniform
from anec.passes.lower_to_mil.constants import constant
from anec.passes.mask_bounds import HIDDEN, LEAST, lowest
from anec.pipeline.base import Close, Context, Pass
from anec.pipeline.registry import register
from anec.rewrite import Rule, reject, rest, rewrite

if TYPE_CHECKING:
    import torch

query, key, values = tensor("query"), tensor("key"), tensor("values")
mask = tensor("mask")
# Scores beyond 39000 would tell a bound from minus infinity.
_SCORES = {"query": (-4.0, 4.0), "key": (-4.0, 4.0)}
# Scores as large as this are lost beside a number whose last digit is worth as much.
_LOST = 8.0
# A query that sees a key has a number above this in its row of a mask that ends at -40000.
_VISIBLE = HIDDEN / 2


@rewrite(nn.attention(query, key, values, mask, rest))
def drop_true(op: Op, mask: Value) -> Value:
    """A condition that always holds does not hide a key.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[1,1,1,7]
    %true = aten.ones.default() {size=[4, 7], dtype=bool}
    %1 = aten.bitwise_and.Tensor(%mask, %true)
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    narrow = _without_true(mask)
    if narrow is mask:
        reject("no side of the mask is always true")
    if narrow.rank == 0 or narrow.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("what is left of the mask does not lie along the keys")
    return rebuild(op, mask=narrow)


def _without_true(value: Value) -> Value:
    """``value`` without sides of a conjunction that are true everywhere."""
    while (op := value.op) is not None and op.defn.root in ("bitwise_and", "logical_and", "__and__"):
        sides = [op.operand("self"), op.operand("other")] if value.tensor.dtype is DType.BOOL else []
        other = next((b for a, b in (sides, sides[::-1]) if uniform(a) == 1), None) if sides else None
        if not isinstance(other, Value) or other.tensor.dtype is not DType.BOOL:
            break
        value = other
    return value


@rewrite(nn.attention(query, key, values, rest), domain=_SCORES)
def constant_mask(op: Op, ctx: Context, opts: StaticAttentionMask) -> Value:
    """A constant mask, causal or given, is one weight that is added; or none.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8]
    %y = nn.attention(%q, %k, %v) {causal=true}
        ->
    %1 = weight "y.mask" : f32[1,1,4,4]
    %y = nn.attention(%q, %k, %v, %1)
    """
    given = op.operand("mask")
    if given is not None and not (isinstance(given, Value) and given.is_constant):
        reject("the mask depends on inputs")
    if given is not None and not (given.tensor.is_static and _readable(given)):
        reject("the numbers of the mask are not at hand")
    causal = bool(op.attr("causal"))
    if given is None and not causal:
        reject("there is no mask")
    rows, columns = op.value("query").tensor.shape[-2], op.value("key").tensor.shape[-2]
    if causal and not (isinstance(rows, int) and isinstance(columns, int)):
        reject("a length is symbolic")
    dtype = op.result.tensor.dtype
    shape = (rows, columns) if causal or given is None else given.tensor.shape
    size = TensorType(dtype, shape).bytes
    if not size:
        reject("there are no keys")
    if size > opts.budget:
        reject(f"a mask of {size} bytes is beyond the budget of {opts.budget}")
    parts = _parts(op, given, ctx, causal)
    if given is not None and not causal and _settled(given, parts, dtype):
        reject("it is one weight that is added")
    made = parts.added
    whole = made.reshape((1,) * (op.result.rank - made.dim()) + tuple(made.shape))
    mask = constant(ctx, op, whole, "mask", dtype) if bool(made.any()) else None
    scoring = None if parts.scoring is None else constant(ctx, op, parts.scoring, "scoring", dtype)
    result = _masked(op, mask, scoring)
    return result if parts.kept is None else aten.mul.Tensor(result, constant(ctx, op, parts.kept, "kept", dtype))


def _readable(value: Value) -> bool:
    """Whether the weights behind a constant have numbers."""
    stack, seen = [value], {value}
    while stack:
        at = stack.pop()
        if at.weight is not None and at.weight.data is None:
            return False
        following = [operand for operand in (at.op.inputs if at.op is not None else ()) if operand not in seen]
        seen.update(following)
        stack.extend(following)
    return True


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a constant mask does.

    Args:
        added: what is added to the scores.
        kept: 0 for queries that see no key; None if all do.
        scoring: 0 for queries whose keys are all hidden by a number beside which scores do not count;
            their rows of ``added`` tell which keys that is. None if there is no such query.
    """

    added: torch.Tensor
    kept: torch.Tensor | None
    scoring: torch.Tensor | None


# What constant masks do, as found in one run: layers share masks, and `settle` asks again.
_KNOWN: ContextVar[dict[tuple[object, ...], _Parts] | None] = ContextVar("masks", default=None)


def _parts(op: Op, given: Value | None, ctx: Context, causal: bool) -> _Parts:
    """What a mask does to the scores; read once for all layers."""
    dtype, known = op.result.tensor.dtype, _KNOWN.get()
    lengths = (op.value("query").shape[-2], op.value("key").shape[-2]) if causal else None
    found = None if known is None else known.get((given, dtype, lengths))
    if found is None:
        found = _read(given, ctx, dtype, lengths)
        if known is not None:
            known[given, dtype, lengths] = found
    return found


def _read(given: Value | None, ctx: Context, dtype: DType, lengths: tuple[int, int] | None) -> _Parts:
    import torch

    from anec.ir.weights import torch_dtype
    from anec.reference.evaluate import evaluate_constant

    kind = torch_dtype(dtype)
    numbers = torch.zeros(1, 1, dtype=kind) if given is None else evaluate_constant(given, ctx.module)
    if numbers.dtype is torch.bool:
        numbers = torch.zeros((), dtype=kind).masked_fill(~numbers, -math.inf)
    if lengths is not None:
        numbers = numbers.masked_fill(~torch.ones(lengths, dtype=torch.bool).tril(), -math.inf)
    for axis in range(numbers.dim() - 2):
        first = numbers.narrow(axis, 0, 1)
        if bool((numbers == first).all()):
            numbers = first
    largest = numbers.amax(-1, keepdim=True)
    empty = largest == -math.inf
    # So low a number takes the place of a score: its last digit is worth more than one.
    lost = ~empty & (largest < min(HIDDEN, -_LOST / torch.finfo(kind).eps))
    numbers = torch.where(lost, numbers - largest, numbers)
    return _Parts(
        numbers.to(kind).clamp(min=HIDDEN).contiguous(),
        kept=(~empty).to(kind) if bool(empty.any()) else None,
        scoring=(~lost).to(kind) if bool(lost.any()) else None,
    )


def _settled(given: Value, parts: _Parts, dtype: DType) -> bool:
    """Whether the mask is the weight that would be made of it."""
    if given.weight is None or given.tensor.dtype is not dtype or given.shape != tuple(parts.added.shape):
        return False
    if parts.kept is not None or parts.scoring is not None:
        return False
    return given.weight.extent()[0] >= HIDDEN and bool(parts.added.any())


def _masked(op: Op, mask: Value | None, scoring: Value | None = None) -> Value:
    """The attention again with another mask, which holds what was causal in it."""
    attrs = {name: found for name, found in op.attrs.items() if name != "causal"}
    query = op.value("query") if scoring is None else aten.mul.Tensor(op.value("query"), scoring)
    return nn.attention(query, op.value("key"), op.value("value"), mask, **attrs)


@rewrite(nn.attention(query, key, values, mask, rest), domain=_SCORES)
def causal_and_computed(op: Op, mask: Value, ctx: Context) -> Value:
    """What causal attention hides becomes part of a mask that depends on inputs.

    %q: f32[1,2,4,8], %k: f32[1,2,4,8], %v: f32[1,2,4,8], %mask: bool[1,1,1,4]
    %y = nn.attention(%q, %k, %v, %mask) {causal=true}
        ->
    %1 = weight "y.seen" : bool[4,4]
    %2 = aten.bitwise_and.Tensor(%mask, %1)
    %3 = aten._to_copy.default(%2) {dtype=f32}
    %4 = aten.sub.Tensor(%3, 1.0)
    %5 = aten.mul.Tensor(%4, 40000.0)
    %6 = nn.attention(%q, %k, %v, %5)
    %7 = aten.amax.default(%3) {dim=[-1], keepdim=true}
    %y = aten.mul.Tensor(%6, %7)
    """
    import torch

    if not op.attr("causal") or mask.is_constant:
        reject("it is not causal beside a mask that depends on inputs")
    rows, columns = op.value("query").tensor.shape[-2], op.value("key").tensor.shape[-2]
    if not isinstance(rows, int) or not isinstance(columns, int):
        reject("a length is symbolic")
    seen = torch.ones(rows, columns, dtype=torch.bool).tril()
    if mask.tensor.dtype is DType.BOOL:
        return _masked(op, aten.bitwise_and.Tensor(mask, constant(ctx, op, seen, "seen", DType.BOOL)))
    hidden = torch.zeros(rows, columns).masked_fill(~seen, HIDDEN)
    return _masked(op, aten.add.Tensor(mask, constant(ctx, op, hidden, "mask", DType.F32)))


@rewrite(nn.attention(query, key, values, mask, rest), domain=_SCORES)
def computed_mask(op: Op, mask: Value) -> Value:
    """A bool mask by query is added; queries that see no key give zeros.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[1,1,4,7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %4 = nn.attention(%q, %k, %v, %3)
    %5 = aten.amax.default(%1) {dim=[-1], keepdim=true}
    %y = aten.mul.Tensor(%4, %5)
    """
    _reject_other_than_bool(op, mask)
    if not _rows_differ(mask):
        reject("the mask is of keys alone")
    dtype = op.result.tensor.dtype
    seen = in_dtype(mask, dtype)
    return aten.mul.Tensor(rebuild(op, mask=_added(seen)), aten.amax.default(seen, (-1,), keepdim=True))


# A bool is drawn true as often as the middle of its range says: some key is left nearly always.
@rewrite(nn.attention(query, key, values, mask, rest), domain={**_SCORES, "mask": (0.96, 1.0)})
def padding_mask(op: Op, mask: Value, ctx: Context) -> Value:
    """A bool mask of keys, alike for all queries, is added.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: bool[7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten._to_copy.default(%mask) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    _reject_other_than_bool(op, mask)
    if _rows_differ(mask):
        reject("the mask differs between queries")
    ctx.note(
        f"static-attention-mask: where %{mask.name} hides all keys, which is an input of padding alone, queries "
        "attend by their scores instead of giving zeros"
    )
    return rebuild(op, mask=_added(in_dtype(mask, op.result.tensor.dtype)))


def _reject_other_than_bool(op: Op, mask: Value) -> None:
    if mask.tensor.dtype is not DType.BOOL or mask.is_constant or op.attr("causal"):
        reject("the mask is not a bool that depends on inputs")
    if mask.rank == 0 or mask.tensor.shape[-1] != op.value("key").tensor.shape[-2]:
        reject("the mask does not lie along the keys")


def _rows_differ(mask: Value) -> bool:
    return mask.rank >= 2 and mask.tensor.shape[-2] != 1


def _added(seen: Value, number: float = HIDDEN) -> Value:
    """0 where a bool, held as a float, is true, and a low number elsewhere."""
    return aten.mul.Tensor(aten.sub.Tensor(seen, 1.0), -number)


@rewrite(nn.attention(query, key, values, mask, rest), domain={**_SCORES, "mask": (-1e3, 1e3)})
def bounded_mask(op: Op, query: Value, mask: Value) -> Value:
    """A computed mask that may hold -inf, or what float16 does not, ends at -40000.

    Queries that see no key give zeros where -inf hides them all, and the mean of the values where other
    numbers do: there scores do not count.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: f32[1,1,4,7]
    %y = nn.attention(%q, %k, %v, %mask)
        ->
    %1 = aten.clamp_min.default(%mask) {min=-40000.0}
    %2 = aten.amax.default(%1) {dim=[-1], keepdim=true}
    %3 = aten.gt.Scalar(%2) {other=-20000.0}
    %4 = aten._to_copy.default(%3) {dtype=f32}
    %5 = aten.mul.Tensor(%q, %4)
    %6 = nn.attention(%5, %k, %v, %1)
    %7 = aten.amax.default(%mask) {dim=[-1], keepdim=true}
    %8 = aten.gt.Scalar(%7) {other=-inf}
    %9 = aten._to_copy.default(%8) {dtype=f32}
    %y = aten.mul.Tensor(%6, %9)
    """
    if not mask.tensor.dtype.is_float or mask.is_constant or op.attr("causal"):
        reject("the mask is not a float that depends on inputs")
    least = lowest(mask)
    if least >= LEAST:
        reject("the mask holds no such number")
    bounded = aten.clamp_min.default(mask, HIDDEN)
    if not _rows_differ(mask):
        return rebuild(op, mask=bounded)
    seen = _seen(bounded, query.tensor.dtype)
    if least == -math.inf and lowest(mask, infinite=False) > _VISIBLE:
        return aten.mul.Tensor(rebuild(op, mask=bounded), seen)
    result = rebuild(op, mask=bounded, query=aten.mul.Tensor(query, seen))
    return result if least > -math.inf else aten.mul.Tensor(result, _seen(mask, query.tensor.dtype, -math.inf))


def _seen(mask: Value, dtype: DType, number: float = _VISIBLE) -> Value:
    """1 for each query that has a key above ``number``, 0 for the others."""
    return in_dtype(aten.gt.Scalar(aten.amax.default(mask, (-1,), keepdim=True), number), dtype)


def _by_seen(product: Op | None, mask: Value) -> bool:
    """Whether an op multiplies by :func:`_seen` of this mask."""
    if product is None or product.name != "aten.mul.Tensor":
        return False
    at = product.operand("other")
    for name in ("aten._to_copy.default", "aten.gt.Scalar", "aten.amax.default"):
        if not isinstance(at, Value) or at.op is None or at.op.name != name:
            return False
        at = at.op.operand("self")
    return at is mask


_bounded = nn.attention(query, key, values, aten.clamp_min.default(mask, rest), rest)


@rewrite(_bounded, domain=_SCORES)
def finite_mask(op: Op, query: Value, mask: Value) -> Value:
    """Choices inside a bounded mask are finite themselves; a bound not needed goes.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %keep: bool[1,1,1,7]
    %1 = aten.where.Scalar(%keep) {self=0.0, other=-3.4028234663852886e38}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %y = nn.attention(%q, %k, %v, %3)
    """
    bounded = op.value("mask")
    if any(_by_seen(user, bounded) for user in op.result.users):
        reject("the queries that see no key are told by the same mask")
    finite = _without_choices(bounded, mask)
    if query.op is None or not _by_seen(query.op, bounded):
        return rebuild(op, mask=finite)
    seen = _seen(finite, query.tensor.dtype)
    if finite.op is not None and finite.op.defn.root == "add":
        # What is added to the low number does not count beside it either.
        finite = aten.mul.Tensor(finite, seen)
    return rebuild(op, mask=finite, query=aten.mul.Tensor(query.op.value("self"), seen))


@rewrite(aten.mul.Tensor(_bounded.named("attended"), rest), domain=_SCORES)
def finite_mask_of_seen(op: Op, attended: Value, mask: Value) -> Value:
    """As finite_mask, where the mask also tells which queries see no key.

    %q: f32[1,2,4,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %keep: bool[1,1,4,7]
    %1 = aten.where.Scalar(%keep) {self=0.0, other=-inf}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %1 = aten._to_copy.default(%keep) {dtype=f32}
    %2 = aten.sub.Tensor(%1, 1.0)
    %3 = aten.mul.Tensor(%2, 40000.0)
    %4 = nn.attention(%q, %k, %v, %3)
    %5 = aten.amax.default(%3) {dim=[-1], keepdim=true}
    %6 = aten.gt.Scalar(%5) {other=-20000.0}
    %7 = aten._to_copy.default(%6) {dtype=f32}
    %y = aten.mul.Tensor(%4, %7)
    """
    assert attended.op is not None
    bounded = attended.op.value("mask")
    if not _by_seen(op, bounded):
        reject("it is multiplied by something else")
    finite = _without_choices(bounded, mask)
    return aten.mul.Tensor(rebuild(attended.op, mask=finite), _seen(finite, attended.tensor.dtype))


def _without_choices(bounded: Value, mask: Value) -> Value:
    """``bounded``, which is ``mask`` with our bound, with choices between 0 and a low number as products."""
    assert bounded.op is not None
    if bounded.op.attr("min") != HIDDEN:
        reject("the bound is the model's own")
    found = _finite(mask, _REACH, {})
    if found is mask:
        reject("no choice between numbers is part of the mask")
    if found.rank == 0 or found.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("the condition does not lie along the keys")
    return found if lowest(found) >= LEAST else aten.clamp_min.default(found, HIDDEN)


_MOVES = VIEWS | PERMUTES | {"aten.expand.default", "aten.repeat.default", "aten.slice.Tensor"}
_REACH = 24


def _finite(value: Value, reach: int, memo: dict[tuple[Value, int], Value]) -> Value:
    """The mask with choices between 0 and a low number as products, and with finite constants.

    It may be smaller than ``value``, which it then broadcasts to. What ops share is made once for each reach.
    """
    found = memo.get((value, reach))
    if found is None:
        found = memo[value, reach] = _made_finite(value, reach, memo)
    return found


def _made_finite(value: Value, reach: int, memo: dict[tuple[Value, int], Value]) -> Value:
    op = value.op
    if not reach or not value.tensor.dtype.is_float:
        return value
    if value.is_constant:
        return aten.clamp_min.default(value, HIDDEN) if lowest(value) < HIDDEN else value
    if op is None:
        return value
    if op.name in _MOVES:
        source = op.value("self")
        inner = _finite(source, reach - 1, memo)
        if inner is source:
            return value
        if op.defn.root == "expand":
            return aten.expand.default(inner, value.tensor.shape)
        return rebuild(op, self=expanded(inner, source.tensor.shape))
    if op.name == "aten.add.Tensor" and op.attr("alpha") == 1:
        sides = {name: side for name in ("self", "other") if isinstance(side := op.operand(name), Value)}
        changed = {name: _finite(side, reach - 1, memo) for name, side in sides.items()}
        # Beside what may be as large as it is low elsewhere, -inf is more than -40000.
        if changed == sides or any(lowest(side) < LEAST for side in changed.values()):
            return value
        return rebuild(op, **changed)
    return _choice(op) or value


def _choice(op: Op) -> Value | None:
    """A choice between 0 and a low number as a product; None for anything else."""
    found = choice(op)
    if found is None:
        return None
    first, last = uniform(found.first), uniform(found.last)
    if first is None or last is None or min(first, last) >= 0 or max(first, last) != 0:
        return None
    number, dtype = max(float(min(first, last)), HIDDEN), op.result.tensor.dtype
    if first == 0:
        return _added(in_dtype(_without_true(found.condition), dtype), number)
    return aten.mul.Tensor(in_dtype(found.condition, dtype), number)


RULES: list[Rule] = [
    drop_true,
    constant_mask,
    causal_and_computed,
    computed_mask,
    padding_mask,
    bounded_mask,
    finite_mask,
    finite_mask_of_seen,
]


@register
@dataclass
class StaticAttentionMask(Pass):
    """Fold masks of attention into one finite weight, or one sum all layers share.

    Attributes:
        budget: the largest constant mask, in bytes, that becomes a weight; a larger one stays an expression.
    """

    name = "static-attention-mask"
    # Hidden scores are lower by a finite number; see above.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    rules = RULES
    dialects = frozenset({"nn"})
    after = ("attention",)

    budget: int = 64 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        token = _KNOWN.set({})
        try:
            settle(ctx, self.rules, self)
        finally:
            _KNOWN.reset(token)


__all__ = ["StaticAttentionMask"]

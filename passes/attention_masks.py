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
give zeros where torch does, that is for bool masks and constant -inf, and the mean of all values for
computed floats, as torch does for finite ones; but for a mask of the keys alone, where that is an
input of padding only, they attend by their scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anec.dialects import aten, nn
from anec.ir.graph import Graph, Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.algebra import in_dtype, second
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


@rewrite(nn.attention(query, key, values, mask, rest))
def drop_true(op: Op, mask: Value) -> Value:
    """A condition that always holds does not hide a key."""
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
        other = next((b for a, b in (sides, sides[::-1]) if uniform(a) is True), None) if sides else None
        if not isinstance(other, Value):
            break
        value = other
    return value


@rewrite(nn.attention(query, key, values, rest), domain=_SCORES)
def constant_mask(op: Op, ctx: Context, opts: StaticAttentionMask) -> Value:
    """A constant mask, and what causal attention hides, as one weight that is added; or none."""
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
    if size > opts.budget:
        reject(f"a mask of {size} bytes is beyond the budget of {opts.budget}")
    made, kept = _additive(op, given, ctx, causal)
    if given is not None and given.weight is not None and not causal and kept is None and _settled(given, made, dtype):
        reject("it is one weight that is added")
    whole = made.reshape((1,) * (op.result.rank - made.dim()) + tuple(made.shape))
    result = _masked(op, constant(ctx, op, whole, "mask", dtype) if bool(made.any()) else None)
    return result if kept is None else aten.mul.Tensor(result, constant(ctx, op, kept, "kept", dtype))


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


def _additive(op: Op, given: Value | None, ctx: Context, causal: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What is added to the scores, and which queries see a key if some do not."""
    import torch

    from anec.ir.weights import torch_dtype
    from anec.reference.evaluate import evaluate_constant

    dtype = torch_dtype(op.result.tensor.dtype)
    numbers = torch.zeros(1, 1, dtype=dtype) if given is None else evaluate_constant(given, ctx.module)
    if numbers.dtype is torch.bool:
        numbers = torch.zeros((), dtype=dtype).masked_fill(~numbers, -math.inf)
    if causal:
        seen = torch.ones(op.value("query").shape[-2], op.value("key").shape[-2], dtype=torch.bool).tril()
        numbers = numbers.masked_fill(~seen, -math.inf)
    for axis in range(numbers.dim() - 2):
        first = numbers.narrow(axis, 0, 1)
        if bool((numbers == first).all()):
            numbers = first
    empty = (numbers == -math.inf).all(-1, keepdim=True)
    kept = (~empty).to(dtype) if bool(empty.any()) else None
    return numbers.to(dtype).clamp(min=HIDDEN).contiguous(), kept


def _settled(given: Value, made: torch.Tensor, dtype: DType) -> bool:
    """Whether the weight is what would be made of it."""
    assert given.weight is not None
    alike = given.tensor.dtype is dtype and given.shape == tuple(made.shape)
    return alike and given.weight.extent()[0] >= HIDDEN and bool(made.any())


def _masked(op: Op, mask: Value | None) -> Value:
    """The attention again with another mask, which holds what was causal in it."""
    attrs = {name: found for name, found in op.attrs.items() if name != "causal"}
    return nn.attention(op.value("query"), op.value("key"), op.value("value"), mask, **attrs)


@rewrite(nn.attention(query, key, values, mask, rest), domain=_SCORES)
def causal_and_computed(op: Op, mask: Value, ctx: Context) -> Value:
    """What causal attention hides becomes part of a mask that depends on inputs."""
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
    """A bool mask that differs between queries is added; those that see no key give zeros."""
    _reject_other_than_bool(op, mask)
    if not _rows_differ(mask):
        reject("the mask is of keys alone")
    dtype = op.result.tensor.dtype
    seen = in_dtype(mask, dtype)
    return aten.mul.Tensor(rebuild(op, mask=_added(seen)), aten.amax.default(seen, (-1,), keepdim=True))


# A bool is drawn true as often as the middle of its range says: some key is left nearly always.
@rewrite(nn.attention(query, key, values, mask, rest), domain={**_SCORES, "mask": (0.96, 1.0)})
def padding_mask(op: Op, mask: Value, ctx: Context) -> Value:
    """A bool mask of keys, alike for all queries, is added."""
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
def bounded_mask(op: Op, mask: Value) -> Value:
    """A computed mask that may hold -inf, or what float16 does not, ends at -40000."""
    if not mask.tensor.dtype.is_float or mask.is_constant or op.attr("causal"):
        reject("the mask is not a float that depends on inputs")
    if lowest(mask) >= LEAST:
        reject("the mask holds no such number")
    bounded = aten.clamp_min.default(mask, HIDDEN)
    if not _rows_differ(mask):
        return rebuild(op, mask=bounded)
    return rebuild(op, mask=bounded, query=_scoring(op.value("query"), bounded))


def _scoring(query: Value, mask: Value) -> Value:
    """The queries, 0 where the mask hides all keys: there scores do not count beside a number so low."""
    return aten.mul.Tensor(query, _gate(mask, query.tensor.dtype))


def _gate(mask: Value, dtype: DType) -> Value:
    """1 for each query that sees a key, 0 for the others."""
    return in_dtype(aten.gt.Scalar(aten.amax.default(mask, (-1,), keepdim=True), HIDDEN / 2), dtype)


def _not_scoring(query: Value, mask: Value) -> Value | None:
    """The queries that :func:`_scoring` took for this mask; None when it did not."""
    if query.op is None or query.op.name != "aten.mul.Tensor":
        return None
    at = query.op.operand("other")
    for name in ("aten._to_copy.default", "aten.gt.Scalar", "aten.amax.default"):
        if not isinstance(at, Value) or at.op is None or at.op.name != name:
            return None
        at = at.op.operand("self")
    return query.op.value("self") if at is mask else None


_MOVES = VIEWS | PERMUTES | {"aten.expand.default", "aten.repeat.default", "aten.slice.Tensor"}
_REACH = 24


@rewrite(nn.attention(query, key, values, aten.clamp_min.default(mask, rest), rest), domain=_SCORES)
def finite_mask(op: Op, mask: Value) -> Value:
    """What a bounded mask is made of is finite itself; its bound goes where nothing is lower any more."""
    found = _finite(mask, _REACH)
    if found is mask:
        reject("no choice between numbers is part of the mask")
    if found.rank == 0 or found.tensor.shape[-1] != mask.tensor.shape[-1]:
        reject("the condition does not lie along the keys")
    finite = found if lowest(found) >= LEAST else aten.clamp_min.default(found, HIDDEN)
    plain = _not_scoring(op.value("query"), op.value("mask"))
    if plain is None:
        return rebuild(op, mask=finite)
    gate = _gate(finite, plain.tensor.dtype)
    if finite.op is not None and finite.op.defn.root == "add":
        # What is added to the low number does not count beside it either.
        finite = aten.mul.Tensor(finite, gate)
    return rebuild(op, mask=finite, query=aten.mul.Tensor(plain, gate))


def _finite(value: Value, reach: int) -> Value:
    """The mask with choices between 0 and a low number as products, and with finite constants."""
    op = value.op
    if not reach or not value.tensor.dtype.is_float:
        return value
    if value.is_constant:
        return aten.clamp_min.default(value, HIDDEN) if lowest(value) < HIDDEN else value
    if op is None:
        return value
    if op.name in _MOVES:
        source = op.value("self")
        inner = _finite(source, reach - 1)
        return value if inner is source else rebuild(op, self=inner)
    if op.name == "aten.add.Tensor" and op.attr("alpha") == 1:
        sides = {name: side for name in ("self", "other") if isinstance(side := op.operand(name), Value)}
        changed = {name: _finite(side, reach - 1) for name, side in sides.items()}
        # Beside what may be as large as it is low elsewhere, -inf is more than -40000.
        if changed == sides or any(lowest(side) < LEAST for side in changed.values()):
            return value
        return rebuild(op, **changed)
    return _choice(op) or value


def _choice(op: Op) -> Value | None:
    """A choice between 0 and a low number as a product; None for anything else."""
    if op.defn.dialect != "aten" or op.defn.root not in ("where", "masked_fill"):
        return None
    fills = op.defn.root == "masked_fill"
    condition = op.value("mask" if fills else "condition")
    first, last = uniform(second(op, "value" if fills else "self")), uniform(second(op, "self" if fills else "other"))
    if first is None or last is None or min(first, last) >= 0 or max(first, last) != 0:
        return None
    number, dtype = max(float(min(first, last)), HIDDEN), op.result.tensor.dtype
    if first == 0:
        return _added(in_dtype(_without_true(condition), dtype), number)
    return aten.mul.Tensor(in_dtype(condition, dtype), number)


RULES: list[Rule] = [
    drop_true,
    constant_mask,
    causal_and_computed,
    computed_mask,
    padding_mask,
    bounded_mask,
    finite_mask,
]


@register
@dataclass
class StaticAttentionMask(Pass):
    """Fold masks of attention into one finite weight, or one sum all layers share.

    Attributes:
        budget: the largest constant mask in bytes that is computed now; others are at emission.
    """

    name = "static-attention-mask"
    # Hidden scores are lower by a finite number; see above.
    fidelity = Close(rtol=1e-6, atol=1e-9)
    rules = RULES
    dialects = frozenset({"nn"})
    after = ("attention",)

    budget: int = 64 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        settle(ctx, self.rules, self)


__all__ = ["StaticAttentionMask"]

"""What stands beside an attention becomes its own: scales, repeated heads, heads in the batch.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8]
    %1 = aten.mul.Tensor(%q, 0.5)
    %y = nn.attention(%1, %k, %v) {scale=1.0}                      ->     %y = nn.attention(%q, %k, %v) {scale=0.5}

    %q: f32[1,4,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8]
    %1 = aten.repeat_interleave.self_int(%k) {repeats=2, dim=1}
    %2 = aten.repeat_interleave.self_int(%v) {repeats=2, dim=1}
    %y = nn.attention(%q, %1, %2)                                  ->     %y = nn.attention(%q, %k, %v)

    %q: f32[6,5,8], %k: f32[6,7,8], %v: f32[6,7,8]
    %y = nn.attention(%q, %k, %v)
        ->
    %q1 = aten.view.default(%q) {size=[6, 1, 5, 8]}
    %k1 = aten.view.default(%k) {size=[6, 1, 7, 8]}
    %v1 = aten.view.default(%v) {size=[6, 1, 7, 8]}
    %1 = nn.attention(%q1, %k1, %v1)
    %y = aten.view.default(%1) {size=[6, 5, 8]}

Which of the axes in front are heads shows where the queries come from: a head is a piece of an axis
that was split, a batch was an axis of its own.
"""

from __future__ import annotations

import math

from anec.dialects import aten, nn
from anec.ir.graph import Op, Value
from anec.ir.opdef import Pattern
from anec.passes.algebra import aligned, number, second
from anec.passes.attention.frames import Frame, Permuted, Viewed, regrouped, viewed
from anec.passes.attention.matrices import PERMUTES
from anec.passes.attention.scores import VIEWS
from anec.passes.attention.spelled import scaled
from anec.passes.canonicalize.identities import forms
from anec.passes.canonicalize.views import permutation
from anec.passes.common import only_use, rebuild, tensor
from anec.passes.lower_to_mil.permutation import volume
from anec.rewrite import Rule, any_of, reject, rest, rewrite
from anec.rewrite.rule import Reject

x, query, key, values, mask = (tensor(name) for name in ("x", "query", "key", "values", "mask"))
RANK = 4
MOVES = sorted(name.removeprefix("aten.") for name in PERMUTES | VIEWS)
# With larger numbers a softmax shows how a product was rounded.
_SMALL = (-10.0, 10.0)


def _scaled(inner: Pattern) -> list[Pattern]:
    """``inner`` times or by something."""
    return forms("mul.Tensor mul.Scalar div.Tensor div.Scalar", inner)


@rewrite(any_of(*(aten.resolve(name)(product, rest) for name in MOVES for product in _scaled(x))))
def scale_behind(op: Op, x: Value) -> Value:
    """A number in front of views and permutes of queries or keys goes behind them.

    %x: f32[1,5,16], %k: f32[1,2,7,8], %v: f32[1,2,7,8]
    %1 = aten.mul.Tensor(%x, 0.5)
    %2 = aten.view.default(%1) {size=[1, 5, 2, 8]}
    %3 = aten.permute.default(%2) {dims=[0, 2, 1, 3]}
    %y = nn.attention(%3, %k, %v) {scale=1.0}
        ->
    %1 = aten.view.default(%x) {size=[1, 5, 2, 8]}
    %2 = aten.permute.default(%1) {dims=[0, 2, 1, 3]}
    %y = nn.attention(%2, %k, %v) {scale=0.5}
    """
    product = op.value("self")
    if _factor(product, x) is None or not only_use(product):
        reject("what moves is not multiplied by a number, or has other users")
    if not _meets_attention(op.result):
        reject("it becomes no queries and no keys")
    assert product.op is not None
    return rebuild(product.op, self=rebuild(op, self=x))


def _factor(product: Value, x: Value) -> float | None:
    """The number that ``product`` is ``x`` times; None when there is none."""
    op = product.op
    assert op is not None
    if product.type != x.type or op.value("self") is not x:
        return None
    found = number(second(op))
    return None if not found else found if op.defn.root == "mul" else 1 / found


def _meets_attention(value: Value) -> bool:
    while only_use(value):
        (user,) = value.users
        if user.name == "nn.attention":
            return value in (user.operand("query"), user.operand("key"))
        if user.name not in PERMUTES | VIEWS:
            return False
        value = user.result
    return False


@rewrite(
    any_of(
        *(nn.attention(product, key, rest) for product in _scaled(query)),
        *(nn.attention(query, product, rest) for product in _scaled(key)),
    ),
    domain={"query": _SMALL, "key": _SMALL},
)
def scale_of_operand(op: Op, query: Value, key: Value) -> Value:
    """A number in front of the queries or the keys is part of the scale.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8]
    %1 = aten.div.Tensor(%k, 4.0)
    %y = nn.attention(%q, %1, %v) {scale=1.0}                ->     %y = nn.attention(%q, %k, %v) {scale=0.25}
    """
    given, size = op.attr("scale"), query.tensor.shape[-1]
    if not isinstance(size, int):
        reject("the size of a head is symbolic")
    name, unscaled = ("query", query) if op.value("query") is not query else ("key", key)
    factor = _factor(op.value(name), unscaled)
    if factor is None:
        reject("no number stands in front of queries or keys")
    scale = factor * (float(given) if isinstance(given, (int, float)) else 1 / math.sqrt(size))
    return _changed(op, scaled(scale, size), **{name: unscaled})


def _changed(op: Op, scale: dict[str, float], **operands: Value) -> Value:
    """The attention again with another scale and other operands."""
    mask = op.operand("mask")
    kept = {"query": op.value("query"), "key": op.value("key"), "value": op.value("value"), "mask": mask, **operands}
    return nn.attention(**kept, **{name: found for name, found in op.attrs.items() if name != "scale"}, **scale)


@rewrite(nn.attention(query, key, values, rest))
def grouped_heads(op: Op, query: Value, key: Value, values: Value) -> Value:
    """Heads that were repeated for their group of queries need no copies.

    %q: f32[1,4,5,8], %k: f32[1,2,7,8]
    %1 = aten.unsqueeze.default(%k) {dim=2}
    %2 = aten.expand.default(%1) {size=[1, 2, 2, 7, 8]}
    %3 = aten.view.default(%2) {size=[1, 4, 7, 8]}
    %y = nn.attention(%q, %3, %3)                           ->     %y = nn.attention(%q, %k, %k)
    """
    if query.rank < 3 or key.rank < 3 or values.rank < 3:
        reject("there are no heads")
    first, last = _before_repeats(key), _before_repeats(values)
    if first is None or last is None:
        reject("keys and values are not heads that were repeated")
    if first.rank < 3 or first.tensor.shape[-3] != last.tensor.shape[-3]:
        reject("keys and values are repeated differently")
    return rebuild(op, key=first, value=last)


def _before_repeats(value: Value) -> Value | None:
    """``value`` before each of its heads, axis -3, was repeated side by side."""
    op = value.op
    if op is None:
        return None
    if op.name == "aten.repeat_interleave.self_int":
        source, dim = op.value("self"), op.attr("dim")
        return source if isinstance(dim, int) and dim % value.rank == value.rank - 3 else None
    if op.name not in VIEWS:
        return None
    wide = op.value("self")
    expansion = wide.op
    if expansion is None or expansion.name not in ("aten.expand.default", "aten.repeat.default"):
        return None
    narrow = expansion.value("self")
    shape, repeated = narrow.tensor.shape, wide.tensor.shape
    at = value.rank - 2
    if len(shape) != len(repeated) or len(repeated) != value.rank + 1 or shape[at] != 1:
        return None
    if (*shape[:at], *shape[at + 1 :]) != (*repeated[:at], *repeated[at + 1 :]):
        return None
    wanted = (*shape[:at], *shape[at + 1 :])
    merged = (*wanted[: at - 1], wanted[at - 1] * repeated[at], *wanted[at:])
    return viewed(narrow, wanted) if value.tensor.shape == merged else None


@rewrite(nn.attention(query, key, values, rest))
def four_axes(op: Op, query: Value, key: Value, values: Value) -> Value:
    """Queries, keys and values as [batch, heads, length, size].

    %q: f32[2,3,4,5,8], %k: f32[2,3,4,7,8], %v: f32[2,3,4,7,8]
    %y = nn.attention(%q, %k, %v)
        ->
    %1 = aten.view.default(%q) {size=[6, 4, 5, 8]}
    %2 = aten.view.default(%k) {size=[6, 4, 7, 8]}
    %3 = aten.view.default(%v) {size=[6, 4, 7, 8]}
    %4 = nn.attention(%1, %2, %3)
    %y = aten.view.default(%4) {size=[2, 3, 4, 5, 8]}
    """
    if query.rank == RANK:
        reject("it has four axes")
    tensors = (query, key, values)
    lead = op.result.tensor.shape[:-2]
    once = (1,) * len(lead)
    if any(value.tensor.shape[:-2] not in (lead, once) or not value.tensor.is_static for value in tensors):
        reject("some leading axes are broadcast, or symbolic")
    whole = [value for value in tensors if value.tensor.shape[:-2] == lead]
    if not whole:
        reject("leading axes are those of the mask")
    four = (volume(lead[:-1]), lead[-1]) if len(lead) > 1 else _batch_and_heads(whole[0])
    mask = op.operand("mask")
    if isinstance(mask, Value):
        scores = (*lead, query.tensor.shape[-2], key.tensor.shape[-2])
        mask = regrouped(viewed(mask, aligned(mask, len(scores))), scores, (*four, *scores[-2:]))
    shaped = [viewed(v, (*(four if v in whole else (1, 1)), *v.tensor.shape[-2:])) for v in tensors]
    result = rebuild(op, query=shaped[0], key=shaped[1], value=shaped[2], mask=mask)
    return viewed(result, op.result.tensor.shape)


def _batch_and_heads(of: Value) -> tuple[int, int]:
    """Of how many batches and heads the axis in front of [*, length, size] is made."""
    if of.rank == 2:
        return 1, 1
    count = of.shape[0]
    value, frame = of, Frame()
    while (op := value.op) is not None and (op.name in PERMUTES or op.name in VIEWS):
        source = op.value("self")
        if op.name in PERMUTES:
            frame = frame.before(Permuted(permutation(op)))
        else:
            frame = frame.before(Viewed(source.tensor.shape, value.tensor.shape))
        value = source
    try:
        placed = frame.placed(value.tensor.shape)
    except Reject:
        return count, 1
    whole = {parts[0] for parts in placed.before if len(parts) == 1}
    batch = 1
    for part in placed.behind[0]:
        size = placed.sizes[part]
        if part not in whole or not isinstance(size, int):
            break
        batch *= size
    return batch, count // batch


@rewrite(nn.attention(query, key, values, mask, rest))
def narrow_mask(op: Op, mask: Value) -> Value:
    """A mask is not repeated along axes that it broadcasts along anyway.

    %q: f32[1,2,5,8], %k: f32[1,2,7,8], %v: f32[1,2,7,8], %mask: f32[1,1,1,7]
    %1 = aten.expand.default(%mask) {size=[1, 1, 5, 7]}
    %y = nn.attention(%q, %k, %v, %1)
        ->
    %y = nn.attention(%q, %k, %v, %mask)
    """
    at = mask
    while at.op is not None and at.op.name in VIEWS:
        at = at.op.value("self")
    expansion = at.op
    if expansion is None or expansion.name not in ("aten.expand.default", "aten.repeat.default"):
        reject("the mask is not repeated")
    source, shape = expansion.value("self"), at.tensor.shape
    one = aligned(source, len(shape))
    if any(size not in (1, dim) for size, dim in zip(one, shape, strict=True)):
        reject("the mask is repeated as a whole")
    if shape != mask.tensor.shape or one[-1:] != shape[-1:]:
        reject("the mask is viewed otherwise behind its repetition, or repeated along the keys")
    return rebuild(op, mask=viewed(source, one))


RULES: list[Rule] = [scale_behind, scale_of_operand, grouped_heads, four_axes, narrow_mask]

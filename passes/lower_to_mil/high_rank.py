"""Tensors of rank 6 and more, which Core ML does not have.

Chains of views and permutes whose ends are of rank 5 or less are lowered as a whole:

    %1 = aten.view.default(%x) {size=[2, 7, 8, 7, 8, 96]}     %x: f32[2,56,56,96]
    %2 = aten.permute.default(%1) {dims=[0, 1, 3, 2, 4, 5]}
    %y = aten.view.default(%2) {size=[98, 64, 96]}
        ->
    %1 = mil.reshape(%x, [14, 8, 7, 768])
    %2 = mil.transpose(%1) {perm=[0, 2, 1, 3]}
    %y = mil.reshape(%2, [98, 64, 96])

Any other op between them first becomes the same op on fewer axes, between two views:

    %1 = aten.view.default(%x) {size=[2, 3, 4, 2, 4, 2]}     %x: f32[2,3,8,8]
    %y = aten.sum.dim_IntList(%1) {dim=[3, 5]}
        ->
    %1 = mil.reshape(%x, [24, 2, 4, 2])
    %2 = mil.reduce_sum(%1) {axes=[1, 3], keep_dims=false}
    %y = mil.reshape(%2, [2, 3, 4, 4])
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from anec.dialects import aten, mil, nn
from anec.ir.attrs import Attr
from anec.ir.build import Builder
from anec.ir.dims import Dim
from anec.ir.facts import is_constant, scalar_of
from anec.ir.graph import Op, Value
from anec.ir.opdef import Kind
from anec.ir.types import DType
from anec.passes.lower_to_mil.movement import moved, permutation, unsupported_rank
from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, volume
from anec.passes.lower_to_mil.roots import each
from anec.passes.lower_to_mil.shape import PERMUTATIONS, RESHAPES
from anec.passes.lower_to_mil.typing import axes, axis, dtype_of, result_type, value
from anec.rewrite import Rule, any_of, reject, rest, rewrite

_RESHAPES = {aten.resolve(name if "." in name else f"{name}.default") for name in RESHAPES}
_ELEMENTWISE = (
    "add.Tensor sub.Tensor mul.Tensor div.Tensor add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar neg abs sqrt "
    "pow.Tensor_Scalar pow.Tensor_Tensor rsqrt exp log relu sigmoid tanh sin cos floor ceil round square reciprocal "
    "silu gelu clamp clamp_min clamp_max hardtanh maximum minimum where.self eq.Tensor ne.Tensor lt.Tensor le.Tensor "
    "gt.Tensor ge.Tensor eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar logical_and logical_or "
    "logical_not logical_xor bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor bitwise_and.Scalar "
    "bitwise_or.Scalar bitwise_xor.Scalar bitwise_not copy copysign.Tensor logaddexp2 masked_fill.Scalar "
    "masked_fill.Tensor _to_copy to.dtype where.Scalar where.ScalarSelf where.ScalarOther clamp.Tensor leaky_relu elu "
    "celu selu relu6 hardshrink softshrink threshold hardswish hardsigmoid softplus mish log_sigmoid sign sgn trunc "
    "frac erf erfc expm1 exp2 log1p log2 log10 tan asin acos atan sinh cosh asinh acosh atanh atan2 hypot fmod.Scalar "
    "fmod.Tensor remainder.Scalar remainder.Tensor div.Tensor_mode div.Scalar_mode floor_divide lerp.Scalar "
    "lerp.Tensor addcmul addcdiv isnan isinf isfinite nan_to_num logit pow.Scalar fmin fmax logaddexp xlogy.Tensor"
).split()
_ACTIVATIONS = "gelu silu mish softplus hard_sigmoid hard_swish log_sigmoid softsign".split()
_ONE_AXIS = (
    "select.int slice.Tensor narrow split.Tensor split_with_sizes unbind.int chunk unfold cat stack cumsum _softmax "
    "softmax.int _log_softmax log_softmax.int index_select argmax argmin max.dim min.dim prod.dim_int any.dim all.dim "
    "median.dim kthvalue mode topk sort sort.stable argsort argsort.stable cumprod cummax cummin logcumsumexp glu"
).split()
_REDUCTIONS = (
    "mean.dim sum.dim_IntList amax amin any.dims all.dims var.correction std.correction var_mean.correction "
    "std_mean.correction var.dim std.dim logsumexp linalg_vector_norm norm.ScalarOpt_dim"
).split()
_OF_ALL = "sum mean prod any all max min var std".split()
# Along no axis these ask each element.
_OF_EACH = ("aten.any.dims", "aten.all.dims")
# What these lay out along one more axis leaves four of them: each place beside all others, numbers as bits.
_RUNNING = frozenset("cumprod cummax cummin logcumsumexp mode isin bucketize searchsorted".split())
_BITWISE = frozenset("bitwise_and bitwise_or bitwise_xor".split())
_SAME = "clone alias detach contiguous lift_fresh_copy lift_fresh".split()


# -- chains of views and permutes ----------------------------------------------------------------


@rewrite(each(*RESHAPES, *PERMUTATIONS, *_SAME))
def chain(op: Op) -> Value:
    """The first op whose result is of rank 5 or less takes the chain above it along."""
    kind = result_type(op)
    if kind.rank > MAX_RANK and op.inputs[0].tensor.dtype is kind.dtype is not op.results[0].tensor.dtype:
        return _created(op, {}, {})[0]  # its users see that what is in front has been lowered
    if not any(operand.rank > MAX_RANK for operand in op.inputs[:1]):
        reject(f"the operand of {op.name} has {MAX_RANK} axes or fewer")
    if kind.rank > MAX_RANK:
        reject(f"%{op.results[0].name} has rank {kind.rank}; it is lowered with its users")
    steps: list[Op] = []
    at: Value | None = op.results[0]
    while at is not None and at.op is not None and (at.op is op or (at.rank > MAX_RANK and _is_movable(at.op))):
        steps.append(at.op)
        at = next(iter(at.op.inputs), None)
    if at is None or (at.rank > MAX_RANK and not is_constant(at)):
        name = at.name if at is not None else op.results[0].name
        raise unsupported_rank(op, f"%{name} is an input of the model")
    if dtype_of(at) is not at.tensor.dtype:
        reject(f"%{at.name} is not lowered yet")
    buffer, movement = at, Movement.of(at.tensor.shape)
    for step in reversed(steps):
        buffer, movement = _apply(step, buffer, movement)
    return value(moved(buffer, movement, kind.shape), kind.dtype)


def _is_movable(op: Op) -> bool:
    return op.defn.dialect != "mil" or op.defn is mil.cast


def _apply(step: Op, buffer: Value, movement: Movement) -> tuple[Value, Movement]:
    if step.defn.root in _SAME:
        return buffer, movement
    if step.defn is mil.cast:
        return value(buffer, step.results[0].tensor.dtype), movement
    order = permutation(step)
    if order is not None:
        return buffer, movement.permuted(order)
    if step.defn not in _RESHAPES:
        raise unsupported_rank(step, "no lowering takes it apart")
    shape = step.results[0].tensor.shape
    viewed = movement.viewed(shape)
    if viewed is not None:
        return buffer, viewed
    # The new axes straddle the buffer's parts: bring it into order, and start again from there.
    dense = moved(buffer, movement, (volume(shape),))
    return dense, Movement.of(shape)


# -- the same op on fewer axes -------------------------------------------------------------------


def grouped(flags: Sequence[Hashable], sizes: Sequence[Dim]) -> list[list[int]]:
    """Neighbouring axes that an op treats alike, as groups; an axis of size 1 joins any."""
    groups: list[list[int]] = []
    known: list[Hashable] = []
    for index, (flag, size) in enumerate(zip(flags, sizes, strict=True)):
        free = size == 1
        if groups and (free or known[-1] is None or known[-1] == flag):
            groups[-1].append(index)
            known[-1] = known[-1] if free else flag
        else:
            groups.append([index])
            known.append(None if free else flag)
    return groups


def fits(op: Op, groups: Sequence[Sequence[int]]) -> None:
    """Decline more groups of axes than a tensor may have."""
    if len(groups) > MAX_RANK:
        raise unsupported_rank(op, f"it needs {len(groups)} axes at once")


def _most_axes(op: Op) -> int:
    """How many axes the tensors of ``op`` may have for its lowering."""
    by_bits = op.defn.root in _BITWISE and op.results[0].tensor.dtype is not DType.BOOL
    return MAX_RANK - (op.defn.root in _RUNNING or (by_bits and all(scalar_of(v) is None for v in op.inputs)))


def require_high(op: Op) -> None:
    """Decline an op whose tensors all have as few axes as its lowering takes."""
    most = _most_axes(op)
    if all(v.rank <= most for v in (*op.inputs, *op.results)):
        reject(f"the tensors of {op.name} have {most} axes or fewer")


def view(x: Value, shape: Sequence[Dim]) -> Value:
    """``x`` in another shape; ``x`` itself when it has it."""
    return x if x.tensor.shape == tuple(shape) else aten.view.default(x, tuple(shape))


def again(op: Op, operands: dict[str, object], **attrs: Attr) -> tuple[Value, ...]:
    """The same op on other operands; its results have the dtypes torch gave, whatever operands are held in by now."""
    results = _created(op, operands, attrs)
    for result, old in zip(results, op.results, strict=True):
        result.type = result.tensor.with_dtype(old.tensor.dtype)
    return results


def _created(op: Op, operands: dict[str, object], attrs: dict[str, Attr]) -> tuple[Value, ...]:
    bound = {**op.arguments(), **op.attrs, **operands, **attrs}
    bound = {name: given for name, given in bound.items() if given is not None}
    return tuple(Builder.current(op.name).create(op.defn, bound).results)


def merged(shape: Sequence[Dim], groups: Sequence[Sequence[int]]) -> tuple[Dim, ...]:
    """The sizes of groups of axes."""
    return tuple(volume([shape[index] for index in group]) for group in groups)


@rewrite(any_of(each(*_ELEMENTWISE), *(nn.resolve(name)(rest) for name in _ACTIVATIONS)))
def elementwise(op: Op) -> Value:
    """Axes along which the same operands broadcast are merged."""
    require_high(op)
    shape = op.results[0].tensor.shape
    padded = {
        operand: (*(1,) * (len(shape) - operand.rank), *operand.tensor.shape) for operand in dict.fromkeys(op.inputs)
    }
    wide, groups = _repeated(op, padded, shape)
    small = {
        operand: view(_expand(operand, sizes, wide[operand]), merged(wide[operand], groups))
        if operand.rank
        else operand
        for operand, sizes in padded.items()
    }
    (result,) = again(
        op, {name: small[given] if isinstance(given, Value) else given for name, given in op.arguments().items()}
    )
    return view(result, shape)


Sizes = dict[Value, tuple[Dim, ...]]


def _repeated(op: Op, padded: Sizes, shape: Sequence[Dim]) -> tuple[Sizes, list[list[int]]]:
    """What operands are repeated to, so that the axes along which all go together are few enough; and those."""
    most = _most_axes(op)
    while len(groups := _together(padded, shape)) > most:
        trials = [_along(padded, group, shape) for group in groups]
        trials = [trial for trial in trials if trial != padded]
        if not all(value.tensor.is_static for value in padded) or not trials:
            raise unsupported_rank(op, f"it needs {len(groups)} axes at once")
        padded = min(trials, key=lambda trial: (max(len(_together(trial, shape)), most), _elements(trial)))
    return padded, groups


def _together(padded: Sizes, shape: Sequence[Dim]) -> list[list[int]]:
    flags = [tuple(sizes[index] == size for sizes in padded.values()) for index, size in enumerate(shape)]
    return grouped(flags, shape)


def _along(padded: Sizes, group: Sequence[int], shape: Sequence[Dim]) -> Sizes:
    """The sizes when every operand is repeated along some axes; a number stays one."""
    return {
        operand: tuple(shape[i] if i in group else size for i, size in enumerate(sizes)) if operand.rank else sizes
        for operand, sizes in padded.items()
    }


def _elements(padded: Sizes) -> int:
    return sum(math.prod(size for size in sizes if isinstance(size, int)) for sizes in padded.values())


def _expand(x: Value, sizes: Sequence[Dim], wide: Sequence[Dim]) -> Value:
    found: Value = x if sizes == wide else aten.expand.default(view(x, sizes), tuple(wide))
    return found


@rewrite(each(*_REDUCTIONS))
def reduction(op: Op) -> list[Value]:
    """Neighbouring axes that are all reduced, or all kept, are merged; many of them are sorted first."""
    require_high(op)
    x = op.value("self")
    shape = x.tensor.shape
    reduced = set() if op.attr("dim") == () and op.name in _OF_EACH else set(axes(op.attr("dim"), x.rank))
    wide = {index for index in reduced if shape[index] != 1}
    # An axis of size 1 joins its neighbours, unless only such axes are reduced.
    groups = grouped([index in reduced for index in range(x.rank)], shape if wide else [0] * x.rank)
    if len(groups) > MAX_RANK:
        kept = [index for index in range(x.rank) if index not in reduced]
        x = aten.permute.default(x, (*kept, *sorted(reduced)))
        groups, wide = [kept, sorted(reduced)], set(reduced)
    small = view(x, merged(shape, groups))
    dims = tuple(number for number, group in enumerate(groups) if any(i in (wide or reduced) for i in group))
    results = again(op, {"self": small}, dim=dims, keepdim=False)
    return [view(result, old.tensor.shape) for result, old in zip(results, op.results, strict=True)]


@rewrite(each(*_OF_ALL))
def total(op: Op) -> Value:
    """All axes are one."""
    require_high(op)
    x = op.value("self")
    return again(op, {"self": view(x, (volume(x.tensor.shape),))})[0]


@rewrite(each(*_ONE_AXIS))
def along_one_axis(op: Op) -> list[Value]:
    """Only one axis matters: what is before it is merged, and what is after it."""
    require_high(op)
    name = "self" if "self" in op.defn.by_name else "tensors"
    variadic = op.defn.by_name[name].kind is Kind.VARIADIC
    given = op.variadic(name) if variadic else [op.value(name)]
    operands = [operand for operand in given if isinstance(operand, Value)]
    stacks = op.defn.root == "stack"
    dim_name = "dim" if "dim" in op.defn.by_name else "dimension"
    if op.attr(dim_name) is None:
        results = again(op, {name: view(operands[0], (volume(operands[0].tensor.shape),))})
        return [view(result, old.tensor.shape) for result, old in zip(results, op.results, strict=True)]
    at = axis(op.attr(dim_name), operands[0].rank + stacks)
    small: list[Value] = []
    for operand in operands:
        shape = operand.tensor.shape
        middle = () if stacks else (shape[at],)
        small.append(view(operand, (volume(shape[:at]), *middle, volume(shape[at + (not stacks) :]))))
    results = again(op, {name: small if variadic else small[0]}, **{dim_name: 1})
    return [view(result, old.tensor.shape) for result, old in zip(results, op.results, strict=True)]


@rewrite(aten.expand.default)
def expansion(op: Op) -> Value:
    """Neighbouring axes that are all repeated, or all kept, are merged."""
    require_high(op)
    x, shape = op.value("self"), op.results[0].tensor.shape
    padded = (*(1,) * (len(shape) - x.rank), *x.tensor.shape)
    groups = grouped([given == wanted for given, wanted in zip(padded, shape, strict=True)], shape)
    fits(op, groups)
    small = view(x, merged(padded, groups))
    return view(aten.expand.default(small, merged(shape, groups)), shape)


@rewrite(aten.flip.default)
def reversal(op: Op) -> Value:
    """Axes that stay are merged."""
    require_high(op)
    x = op.value("self")
    shape = x.tensor.shape
    flipped = set(axes(op.attr("dims"), x.rank)) if op.attr("dims") else set()
    groups = grouped([index if index in flipped else -1 for index in range(x.rank)], shape)
    fits(op, groups)
    dims = tuple(number for number, group in enumerate(groups) if any(i in flipped and shape[i] != 1 for i in group))
    (result,) = again(op, {"self": view(x, merged(shape, groups))}, dims=dims)
    return view(result, shape)


RULES: list[Rule] = [chain, elementwise, reduction, total, along_one_axis, expansion, reversal]

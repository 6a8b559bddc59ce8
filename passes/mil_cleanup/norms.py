"""Batch norms and chains of scales and offsets that no weights stand next to.

    %x: f32[2,8,4,4], %m: f32[8] weight, %v: f32[8] weight
    %1 = mil.batch_norm(%x, %m, %v)
    %y = mil.mul(%1, 0.5)
        ->
    %1 = mil.tile([0.5], [8])
    %y = mil.batch_norm(%x, %m, %v, %1)

A batch norm takes in what scales or shifts its operand or its result, another batch norm included.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import broadcast, dims, known, magnitudes, only_use, tensor, uniform, varying
from anec.passes.lower_to_mil.permutation import volume
from anec.passes.mil_cleanup.affine import reciprocal
from anec.passes.mil_cleanup.channels import Place, behind, in_front, moved, moved_again, moves_to
from anec.passes.mil_cleanup.inputs import LARGEST, SMALLEST, unevenness
from anec.passes.mil_cleanup.steps import Step, step_of, steps_on
from anec.passes.mil_cleanup.weighted import as_channels, weights_of
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, a, b, c = varying("x"), var("a"), var("b"), var("c")
_last = mil.batch_norm(tensor("source"), rest).named("last")


def _with(op: Op, x: Value, **changes: Operand) -> Value:
    """The batch norm of ``x``, with some statistics changed."""
    names = ("mean", "variance", "gamma", "beta")
    parts = {name: operand for name in names if (operand := changes.get(name, op.operand(name))) is not None}
    return mil.batch_norm(x, **parts, epsilon=op.attr("epsilon"))


def _check_place(place: Place | None, op: Op) -> None:
    if place is not None and place != Place(1, op.value("mean").tensor.size):
        reject("its channels are not those of the batch norm")


@rewrite(any_of(*steps_on(any_of(_last, moved("last")))))
def fold_into_batch_norm(op: Op, last: Value) -> Value:
    """What scales or shifts the result of a batch norm, another one included, goes into its gamma and beta.

    %x: f32[2,8,4,4], %m: f32[8] weight, %v: f32[8] weight, %g: f32[8] weight, %b: f32[8] weight
    %1 = mil.batch_norm(%x, %m, %v, %g, %b)
    %y = mil.add(%1, 0.5)
        ->
    %1 = mil.tile([0.5], [8])
    %2 = mil.add(%b, %1)
    %y = mil.batch_norm(%x, %m, %v, %g, %2)
    """
    step = step_of(op)
    if step.x is not last:
        reject("the batch norm stands behind its constant")
    moves, source = moves_to(last)
    if source.op is None or source.op.name != "mil.batch_norm":
        reject("no batch norm is in front")
    inner = source.op
    _check_place(in_front(moves, step.place), inner)
    step_of(inner)
    scale, shift = (_vector(part, inner) for part in step.parts())
    gamma, beta = inner.operand("gamma"), inner.operand("beta")
    if scale is not None:
        gamma = scale if gamma is None else mil.mul(gamma, scale)
        beta = None if beta is None else mil.mul(beta, scale)
    if shift is not None:
        beta = shift if beta is None else mil.add(beta, shift)
    return moved_again(moves, _with(inner, inner.value("x"), gamma=gamma, beta=beta))


def _vector(part: Operand, op: Op) -> Operand:
    mean = op.value("mean").tensor
    return None if part is None else as_channels(part, mean.size, mean.dtype)


@rewrite(mil.batch_norm(any_of(moved("last"), *(step.named("last") for step in steps_on(tensor("source"))[1:])), rest))
def fold_into_batch_norm_behind(op: Op) -> Value:
    """What scales or shifts the operand of a batch norm goes into its mean, gamma and beta.

    %x: f32[2,8,4,4], %m: f32[8] weight, %v: f32[8] weight
    %1 = mil.add(%x, 0.5)
    %y = mil.batch_norm(%1, %m, %v)
        ->
    %1 = mil.tile([0.5], [8])
    %2 = mil.sub(%m, %1)
    %y = mil.batch_norm(%x, %2, %v)
    """
    step_of(op)
    moves, source = moves_to(op.value("x"))
    step = step_of(source.op)
    if step.constant is None:
        reject("the batch norm in front takes in the one behind")
    _check_place(behind(moves, step.place), op)
    scale, shift = (_vector(part, op) for part in step.parts())
    mean, inner = op.value("mean"), moved_again(moves, step.x)
    if scale is None:
        return _with(op, inner, mean=mil.sub(mean, shift))
    # (x * scale + shift - mean) * g + beta  =  (x - 0) * (g * scale) + (shift - mean) * g + beta
    center = mil.mul(mean, -1.0) if shift is None else mil.sub(shift, mean)
    gamma, beta = op.operand("gamma"), op.operand("beta")
    offset = mil.mul(center, mil.rsqrt(op.value("variance"), epsilon=op.attr("epsilon")))
    if gamma is not None:
        offset = mil.mul(offset, gamma)
    changes = {
        "mean": mil.mul(mean, 0.0),
        "gamma": scale if gamma is None else mil.mul(gamma, scale),
        "beta": offset if beta is None else mil.add(offset, beta),
    }
    return _with(op, inner, **changes)


_scales = [step(x, a).named("scaled") for step in (mil.mul, mil.real_div)]
_shifts = [step(scaled, b) for scaled in _scales for step in (mil.add, mil.sub)]
_normalized = mil.batch_norm(x, rest)


@rewrite(any_of(*(defn(inner, rest) for defn in (mil.conv, mil.conv_transpose) for inner in (_normalized, *_shifts))))
def fold_scale_past_shift(op: Op, x: Value, scaled: Value | None) -> Value:
    """Padding has no offset: a batch norm leaves its offset in front of the conv, and its scale goes into it.

    %x: f32[1,3,8,8], %m: f32[3] weight, %v: f32[3] weight, %w: f32[4,3,3,3] weight
    %1 = mil.batch_norm(%x, %m, %v)
    %y = mil.conv(%1, %w) {pad_type="custom", pad=[1, 1, 1, 1]}
        ->
    %scale = mil.rsqrt(%v) {epsilon=1e-05}
    %1 = mil.mul(%m, -1.0)
    %2 = mil.reshape(%1, [3, 1, 1])
    %3 = mil.add(%x, %2)
    %4 = mil.reshape(%scale, [1, 3, 1, 1])
    %5 = mil.mul(%w, %4)
    %y = mil.conv(%3, %5) {pad_type="custom", pad=[1, 1, 1, 1]}
    """
    target, last = weights_of(op), op.value("x")
    if not unevenness(target):
        reject("the offset goes into the bias")
    if not only_use(last) or (scaled is not None and not only_use(scaled)):
        reject("the operand has other users")
    target.own_weight()
    if scaled is None:
        scale, offset = _batch_norm_parts(step_of(last.op))
    else:
        scale, offset = _parts(step_of(scaled.op), step_of(last.op), target.taken.size)
    if isinstance(offset, Value):
        offset = mil.reshape(offset, (offset.tensor.size, *(1,) * (x.rank - 2)))
    return target.rebuilt(x=mil.add(x, offset), weight=target.scaled_inputs(scale))


def _batch_norm_parts(step: Step) -> tuple[Operand, Operand]:
    """A batch norm as ``(x + offset) * scale``."""
    op = step.op
    gamma, beta, mean = op.operand("gamma"), op.operand("beta"), op.value("mean")
    if gamma is not None and beta is not None:
        _check_divisor(gamma)
    scale = mil.rsqrt(op.value("variance"), epsilon=op.attr("epsilon"))
    if gamma is not None:
        scale = mil.mul(scale, gamma)
    return scale, mil.mul(mean, -1.0) if beta is None else mil.sub(mil.real_div(beta, scale), mean)


def _parts(scaling: Step, shifting: Step, channels: int) -> tuple[Operand, Operand]:
    """``x * scale + shift`` as ``(x + offset) * scale``."""
    for step in (scaling, shifting):
        if step.place not in (None, Place(1, channels)):
            reject("the constant is not by channel")
    _check_divisor(scaling.constant)
    scale, shift = scaling.parts()[0], shifting.parts()[1]
    assert scale is not None
    inverse = reciprocal(scale)
    if isinstance(shift, Literal) and isinstance(inverse, Literal):
        return scale, _product(shift, inverse)
    return scale, mil.mul(shift, inverse)


def _product(left: Literal, right: Literal) -> Literal:
    assert isinstance(left.value, (int, float))
    assert isinstance(right.value, (int, float))
    return Literal(left.value * right.value, left.dtype)


def _check_divisor(operand: Operand) -> None:
    """Refuse a constant that has a zero, or numbers which leave float16's range.

    Raises:
        Reject: it has, or its numbers are not there to be read.
    """
    found = magnitudes(operand)
    if found is None:
        reject("the numbers of the scale are not known before emission")
    if found[0] < SMALLEST or found[1] > LARGEST:
        reject(f"a scale between {found[0]:g} and {found[1]:g} is no divisor")


_chains = [*_shifts, *(mil.sub(b, scaled) for scaled in _scales)]


@rewrite(any_of(*(outer(chain, c) for chain in _chains for outer in (mil.mul, mil.real_div))))
def join_scales(op: Op, x: Value, a: Operand, b: Operand, c: Operand, scaled: Value) -> Value:
    """Of a scale, an offset and a scale the scales come first, where they are one.

    %x: f32[2,8], %s: f32[8] weight, %t: f32[8] weight, %u: f32[8] weight
    %1 = mil.mul(%x, %s)
    %2 = mil.add(%1, %t)
    %y = mil.mul(%2, %u)
        ->
    %1 = mil.mul(%s, %u)
    %2 = mil.mul(%x, %1)
    %3 = mil.mul(%t, %u)
    %y = mil.add(%2, %3)
    """
    middle = op.value("x") if isinstance(op.operand("x"), Value) and op.operand("x") is not c else op.value("y")
    assert middle.op is not None
    if not all(known(operand) for operand in (a, b, c)) or not only_use(scaled) or not only_use(middle):
        reject("a constant is not one, or something in between has other users")
    if x.type != op.result.type or not x.tensor.dtype.is_float:
        reject("a constant changes the shape, or the numbers are whole")
    for constant in (a, b):
        joined = broadcast(dims(constant), dims(c))
        if joined is None or volume(joined) not in (volume(dims(constant)), volume(dims(c))):
            reject("a joined constant would be larger than either")
    if op.name == "mil.real_div" and uniform(c) == 0:
        reject("a division by zero")
    first, offset = op.defn(scaled, c), _joined(op, b, c)
    return middle.op.defn(*((offset, first) if middle.op.operand("x") is b else (first, offset)))


def _joined(op: Op, b: Operand, c: Operand) -> Operand:
    """The offset ``b`` times or divided by ``c``."""
    if isinstance(b, Literal) and isinstance(c, Literal):
        return _product(b, c if op.name == "mil.mul" else _inverse(c))
    return op.defn(b, c)


def _inverse(literal: Literal) -> Literal:
    found = reciprocal(literal)
    assert isinstance(found, Literal)
    return found


RULES: list[Rule] = [fold_into_batch_norm, fold_into_batch_norm_behind, fold_scale_past_shift, join_scales]

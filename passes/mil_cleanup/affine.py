"""Scales and offsets a channel, batch norms included, go into the weights of the op in front of them.

    %x: f32[1,3,8,8], %w: f32[4,3,1,1] weight, %mean: f32[4] weight, %variance: f32[4] weight
    %1 = mil.conv(%x, %w)
    %y = mil.batch_norm(%1, %mean, %variance)
        ->
    %scale = mil.rsqrt(%variance) {epsilon=1e-05}
    %1 = mil.mul(%mean, -1.0)
    %bias = mil.mul(%1, %scale)
    %2 = mil.reshape(%scale, [4, 1, 1, 1])
    %weight = mil.mul(%w, %2)
    %y = mil.conv(%x, %weight, %bias)

The new weights are constant ops on the old ones: emission computes them. A weight that something
else uses too keeps its scale apart, since it would be stored twice.
"""

from __future__ import annotations

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.ir.types import DType
from anec.passes.common import known, only_use, tensor, uniform
from anec.passes.mil_cleanup.weighted import Weighted, as_vector, check_per_channel, weighted
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, c = tensor("x"), var("c")


def _fronts() -> tuple[Pattern, Pattern]:
    """What a scale or offset may stand behind: an op with weights, and a transpose of its result."""
    weights = (mil.conv(x, rest), mil.conv_transpose(x, rest), mil.linear(x, rest), mil.matmul(x, var("matrix"), rest))
    return any_of(*weights), mil.transpose(any_of(*weights), rest)


@rewrite(any_of(*(mil.batch_norm(front, rest) for front in _fronts())))
def fold_batch_norm(op: Op) -> Value:
    """A batch norm goes into the weights in front of it, also past a transpose.

    %x: f32[1,4,6,6], %w: f32[8,4,3,3] weight, %mean: f32[8] weight, %variance: f32[8] weight
    %1 = mil.conv(%x, %w)
    %y = mil.batch_norm(%1, %mean, %variance)
        ->
    %1 = mil.rsqrt(%variance) {epsilon=1e-05}
    %2 = mil.mul(%mean, -1.0)
    %3 = mil.mul(%2, %1)
    %4 = mil.reshape(%1, [8, 1, 1, 1])
    %5 = mil.mul(%w, %4)
    %y = mil.conv(%x, %5, %3)
    """
    target = weighted(op.value("x"))
    if target.given.axis != 1 or target.op.name == "mil.matmul":
        reject("the channels are another axis, or there is no bias")
    target.own_weight()
    scale, bias = normalization(op, target.weight.tensor.dtype, target.bias)
    return target.rebuilt(weight=target.scaled(scale), bias=bias)


def normalization(op: Op, dtype: DType, bias: Value | None = None) -> tuple[Value, Value]:
    """What a batch norm of x + bias multiplies x by and adds to the product, as vectors.

    Raises:
        Reject: its statistics are no constants of ``dtype``.
    """
    names = ("mean", "variance", "gamma", "beta")
    parts = {name: op.operand(name) for name in names if op.operand(name) is not None}
    for part in parts.values():
        if not isinstance(part, Value) or not known(part) or part.tensor.dtype is not dtype:
            reject("the statistics are no constants of the weight's dtype")
    scale: Value = mil.rsqrt(op.value("variance"), epsilon=op.attr("epsilon"))
    if "gamma" in parts:
        scale = mil.mul(scale, op.value("gamma"))
    mean = op.value("mean")
    shift: Value = mil.mul(mil.mul(mean, -1.0) if bias is None else mil.sub(bias, mean), scale)
    return scale, mil.add(shift, op.value("beta")) if "beta" in parts else shift


@rewrite(any_of(*(form for front in _fronts() for form in (mil.mul(front, c), mil.real_div(front, c)))))
def fold_scale(op: Op, c: Operand) -> Value:
    """A constant factor a channel goes into the weights, also past a transpose.

    %w: f32[4,8] weight, %b: f32[4] weight
    %1 = mil.linear(%x, %w, %b)
    %y = mil.mul(%1, 0.5)
        ->
    %1 = mil.mul(%b, 0.5)
    %2 = mil.mul(%w, 0.5)
    %y = mil.linear(%x, %2, %1)
    """
    target = weighted(_front(op, c))
    check_per_channel(c, target.given)
    _same_type(op, target)
    target.own_weight()
    divides = op.name == "mil.real_div"
    if divides and uniform(c) == 0:
        reject("a division by zero")
    scale = as_vector(c, target.given)
    if divides:
        scale = reciprocal(scale)
    bias = None if target.bias is None else mil.mul(target.bias, scale)
    return target.rebuilt(weight=target.scaled(scale), bias=bias)


def reciprocal(scale: Operand) -> Operand:
    """One divided by a literal number or a vector."""
    if isinstance(scale, Literal):
        assert isinstance(scale.value, (int, float))
        return Literal(1.0 / scale.value, scale.dtype)
    return mil.real_div(1.0, scale)


@rewrite(any_of(*(form for front in _fronts() for form in (mil.add(front, c), mil.sub(front, c), mil.sub(c, front)))))
def fold_offset(op: Op, c: Operand) -> Value:
    """A constant offset a channel goes into the bias, also past a transpose.

    %x: f32[1,4,6,6], %w: f32[8,4,3,3] weight, %c: f32[8,1,1] weight
    %1 = mil.conv(%x, %w)
    %y = mil.add(%1, %c)
        ->
    %1 = mil.reshape(%c, [8])
    %y = mil.conv(%x, %w, %1)
    """
    target = weighted(_front(op, c))
    check_per_channel(c, target.given)
    _same_type(op, target)
    if target.op.name == "mil.matmul":
        reject("a matmul has no bias")
    negated = op.name == "mil.sub" and op.operand("y") is target.result
    if negated:
        target.own_weight()
    offset = target.vector(as_vector(c, target.given))
    if negated:
        bias = offset if target.bias is None else mil.sub(offset, target.bias)
        return target.rebuilt(weight=mil.mul(target.weight, -1.0), bias=bias)
    if op.name == "mil.sub":
        bias = mil.mul(offset, -1.0) if target.bias is None else mil.sub(target.bias, offset)
    else:
        bias = offset if target.bias is None else mil.add(target.bias, offset)
    return target.rebuilt(bias=bias)


def _front(op: Op, c: Operand) -> Value:
    """The operand beside the constant."""
    return op.value("y") if op.operand("x") is c else op.value("x")


def _same_type(op: Op, target: Weighted) -> None:
    if op.result.type != target.result.type:
        reject("the constant changes the shape")


@rewrite(mil.matmul(x, c, rest))
def matmul_to_linear(op: Op, x: Value, c: Operand) -> Value:
    """A product with a constant matrix is a linear. Its operand has rank 1 to 3 (coremltools, ``linear``).

    %w: f32[8,4] weight
    %y = mil.matmul(%x, %w)
        ->
    %1 = mil.transpose(%w) {perm=[1, 0]}
    %y = mil.linear(%x, %1)
    """
    if not isinstance(c, Value) or not known(c) or known(x) or c.rank != 2:
        reject("the right operand is no constant matrix")
    if op.attr("transpose_x") or not 1 <= x.rank <= 3:
        reject("linear takes operands of rank 1 to 3 as they lie")
    if c.tensor.dtype is not x.tensor.dtype or not c.tensor.dtype.is_float:
        reject(f"the matrix is {c.tensor.dtype}")
    if op.attr("transpose_y"):
        return mil.linear(x, c)
    if not only_use(c) and (c.op is None or c.op.name != "mil.transpose"):
        reject("the matrix is used elsewhere; it would be stored twice")
    return mil.linear(x, mil.transpose(c, perm=(1, 0)))


RULES: list[Rule] = [fold_batch_norm, fold_scale, fold_offset, matmul_to_linear]

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

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand, Pattern
from anec.passes.common import dims, known, only_use, rebuild, tensor, uniform
from anec.rewrite import Rule, any_of, reject, rest, rewrite, var

x, c = tensor("x"), var("c")


def _weighted() -> Pattern:
    return any_of(mil.conv(x, rest), mil.conv_transpose(x, rest), mil.linear(x, rest))


@dataclass(frozen=True, slots=True)
class Weighted:
    """A conv, conv_transpose or linear with constant weight and bias."""

    op: Op
    weight: Value
    bias: Value | None
    channels: int

    @property
    def axis(self) -> int:
        """The channel axis of the result."""
        return self.op.result.rank - 1 if self.op.name == "mil.linear" else 1

    def scaled(self, scale: Operand) -> Value:
        """The weight times ``scale``: a literal, or a vector with an entry for each channel or one.

        conv and linear weights are [C_out, ...], those of conv_transpose [C_in, C_out / groups, ...]
        with the channels of one group after those of another.
        """
        if isinstance(scale, Literal):
            return mil.mul(self.weight, scale)
        assert scale is not None
        rank, entries = self.weight.rank, scale.shape[0]
        if self.op.name != "mil.conv_transpose":
            return mil.mul(self.weight, mil.reshape(scale, (entries, *[1] * (rank - 1))))
        groups = self.op.attr("groups") or 1
        if groups == 1 or entries == 1:
            return mil.mul(self.weight, mil.reshape(scale, (1, entries, *[1] * (rank - 2))))
        assert isinstance(groups, int)
        inputs, outputs, *kernel = self.weight.shape
        grouped = mil.reshape(self.weight, (groups, inputs // groups, outputs, *kernel))
        column = mil.reshape(scale, (groups, 1, outputs, *[1] * len(kernel)))
        return mil.reshape(mil.mul(grouped, column), self.weight.shape)

    def vector(self, operand: Operand) -> Value:
        """A literal or vector as one entry for each channel."""
        if isinstance(operand, Literal):
            operand = mil.tile(Literal((operand.value,), self.weight.tensor.dtype), (self.channels,))
        assert operand is not None
        return operand if operand.shape == (self.channels,) else mil.tile(operand, (self.channels,))


def weighted(value: Value) -> Weighted:
    """The op that makes ``value``, if its weights may change.

    Raises:
        Reject: they vary or are not f16 or f32, or the result has other users.
    """
    op = value.op
    assert op is not None
    weight, bias = op.operand("weight"), op.operand("bias")
    if not isinstance(weight, Value) or isinstance(bias, Literal):
        reject("the weight or bias is a literal")
    if not known(weight) or not (bias is None or known(bias)):
        reject("the weights are not constant")
    if not only_use(value):
        reject("the result in front has other users")
    if not weight.tensor.dtype.is_float or weight.tensor.dtype is not value.tensor.dtype:
        reject(f"the weight is {weight.tensor.dtype}")
    channels = value.shape[-1] if op.name == "mil.linear" else value.tensor.shape[1]
    if not isinstance(channels, int):
        reject("the number of channels is symbolic")
    return Weighted(op, weight, bias, channels)


def check_per_channel(operand: Operand, target: Weighted) -> None:
    """Refuse what is not one constant number for all, or one for each channel.

    Raises:
        Reject: it varies along another axis, or is not constant.
    """
    if not known(operand):
        reject("the other operand is not constant")
    result = target.op.result
    if isinstance(operand, Value) and operand.tensor.dtype is not result.tensor.dtype:
        reject(f"the constant is {operand.tensor.dtype}")
    shape = dims(operand)
    if len(shape) > result.rank:
        reject("the constant has more axes than the result")
    for axis, size in enumerate(shape, result.rank - len(shape)):
        if size != 1 and (axis != target.axis or size != target.channels):
            reject("the constant differs within a channel")


def as_vector(operand: Operand, target: Weighted) -> Operand:
    """A constant that :func:`check_per_channel` passed, as a literal number or a vector of rank 1."""
    if isinstance(operand, Literal):
        if not isinstance(operand.value, tuple):
            return operand
        operand = Literal(operand.value, operand.dtype or target.weight.tensor.dtype)
    shape = dims(operand)
    entries = target.channels if target.channels in shape else 1
    if shape == (entries,) and isinstance(operand, Value):
        return operand
    assert operand is not None
    return mil.reshape(operand, (entries,))


def _own_weight(target: Weighted) -> None:
    if not only_use(target.weight):
        reject("the weight is used elsewhere; it would be stored twice")


@rewrite(mil.batch_norm(any_of(mil.conv(x, rest), mil.conv_transpose(x, rest)), rest))
def fold_batch_norm(op: Op) -> Value:
    """A batch norm goes into the conv in front of it.

    %1 = mil.conv(%x, %w)
    %y = mil.batch_norm(%1, %mean, %variance)
        ->     %2 = mil.rsqrt(%variance) {epsilon=1e-05}
               %3 = mil.mul(%w, mil.reshape(%2, [8, 1, 1, 1]))
               %4 = mil.mul(mil.mul(%mean, %2), -1.0)
               %y = mil.conv(%x, %3, %4)
    """
    target = weighted(op.value("x"))
    names = ("mean", "variance", "gamma", "beta")
    parts = {name: op.operand(name) for name in names if op.operand(name) is not None}
    for part in parts.values():
        if not isinstance(part, Value) or not known(part) or part.tensor.dtype is not target.weight.tensor.dtype:
            reject("the statistics are no constants of the weight's dtype")
    _own_weight(target)
    scale: Value = mil.rsqrt(op.value("variance"), epsilon=op.attr("epsilon"))
    if "gamma" in parts:
        scale = mil.mul(scale, op.value("gamma"))
    mean = op.value("mean")
    centre = mil.mul(mean, -1.0) if target.bias is None else mil.sub(target.bias, mean)
    bias = mil.mul(centre, scale)
    if "beta" in parts:
        bias = mil.add(bias, op.value("beta"))
    return rebuild(target.op, weight=target.scaled(scale), bias=bias)


@rewrite(any_of(mil.mul(_weighted(), c), mil.real_div(_weighted(), c)))
def fold_scale(op: Op, c: Operand) -> Value:
    """A constant factor a channel goes into the weights.

    %1 = mil.linear(%x, %w, %b)
    %y = mil.mul(%1, 0.5)     ->     %y = mil.linear(%x, %w * 0.5, %b * 0.5)
    """
    target = weighted(_front(op, c))
    check_per_channel(c, target)
    _same_type(op, target)
    _own_weight(target)
    divides = op.name == "mil.real_div"
    if divides and uniform(c) == 0:
        reject("a division by zero")
    scale = as_vector(c, target)
    if divides:
        scale = _reciprocal(scale)
    bias = None if target.bias is None else mil.mul(target.bias, scale)
    return rebuild(target.op, weight=target.scaled(scale), bias=bias)


def _reciprocal(scale: Operand) -> Operand:
    if isinstance(scale, Literal):
        assert isinstance(scale.value, (int, float))
        return Literal(1.0 / scale.value, scale.dtype)
    return mil.real_div(1.0, scale)


@rewrite(any_of(mil.add(_weighted(), c), mil.sub(_weighted(), c), mil.sub(c, _weighted())))
def fold_offset(op: Op, c: Operand) -> Value:
    """A constant offset a channel goes into the bias.

    %1 = mil.conv(%x, %w)
    %y = mil.add(%1, %c)     ->     %y = mil.conv(%x, %w, %c)          (%c is f32[8,1,1])
    """
    target = weighted(_front(op, c))
    check_per_channel(c, target)
    _same_type(op, target)
    negated = op.name == "mil.sub" and op.operand("y") is target.op.result
    if negated:
        _own_weight(target)
    offset = target.vector(as_vector(c, target))
    if negated:
        bias = offset if target.bias is None else mil.sub(offset, target.bias)
        return rebuild(target.op, weight=mil.mul(target.weight, -1.0), bias=bias)
    if op.name == "mil.sub":
        bias = mil.mul(offset, -1.0) if target.bias is None else mil.sub(target.bias, offset)
    else:
        bias = offset if target.bias is None else mil.add(target.bias, offset)
    return rebuild(target.op, bias=bias)


def _front(op: Op, c: Operand) -> Value:
    """The operand beside the constant."""
    return op.value("y") if op.operand("x") is c else op.value("x")


def _same_type(op: Op, target: Weighted) -> None:
    if op.result.type != target.op.result.type:
        reject("the constant changes the shape")


@rewrite(mil.matmul(x, c, rest))
def matmul_to_linear(op: Op, x: Value, c: Operand) -> Value:
    """A product with a constant matrix is a linear. Its operand has rank 1 to 3 (coremltools, ``linear``).

    %y = mil.matmul(%x, %w)     ->     %1 = mil.transpose(%w) {perm=[1, 0]}
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

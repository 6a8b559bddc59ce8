"""An op with constant weights as the rules of :mod:`affine` see it: channels, scaled weights, offsets."""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.common import dims, known, only_use, rebuild
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import reject


@dataclass(frozen=True, slots=True)
class Weighted:
    """A conv, conv_transpose, linear or matmul with constant weight and bias, and a transpose behind it.

    Args:
        op: the op.
        weight: its weight; the right operand of a matmul.
        bias: its bias, if it has one.
        channels: the size of the result's channel axis.
        behind: the transpose, if there is one.
    """

    op: Op
    weight: Value
    bias: Value | None
    channels: int
    behind: Op | None

    @property
    def result(self) -> Value:
        return self.op.result if self.behind is None else self.behind.result

    @property
    def axis(self) -> int:
        """The channel axis of the result."""
        axis = _channel_axis(self.op)
        return axis if self.behind is None else permutation(self.behind).index(axis)

    def own_weight(self) -> None:
        """Refuse a weight that something else uses too.

        Raises:
            Reject: it does; a changed weight would be stored beside the old one.
        """
        if not only_use(self.weight):
            reject("the weight is used elsewhere; it would be stored twice")

    def scaled(self, scale: Operand) -> Value:
        """The weight times ``scale``: a literal, or a vector with an entry for each channel or one.

        conv and linear weights are [C_out, ...], those of conv_transpose [C_in, C_out / groups, ...]
        with the channels of one group after those of another.
        """
        if isinstance(scale, Literal):
            return mil.mul(self.weight, scale)
        assert scale is not None
        rank, entries = self.weight.rank, scale.shape[0]
        groups = 1
        if self.op.name == "mil.conv_transpose":
            given = self.op.attr("groups") or 1
            assert isinstance(given, int)
            axis, groups = 1, given
        else:
            axis = 1 if self.op.name == "mil.matmul" and not self.op.attr("transpose_y") else 0
        if groups == 1 or entries == 1:
            return mil.mul(self.weight, mil.reshape(scale, tuple(entries if i == axis else 1 for i in range(rank))))
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

    def rebuilt(self, *, weight: Value | None = None, bias: Value | None = None) -> Value:
        """The op and the transpose again, with another weight, another bias, or both."""
        changes = {} if weight is None else {"y" if self.op.name == "mil.matmul" else "weight": weight}
        if bias is not None:
            changes["bias"] = bias
        made = rebuild(self.op, **changes)
        return made if self.behind is None else mil.transpose(made, perm=permutation(self.behind))


def _channel_axis(op: Op) -> int:
    return 1 if op.name in ("mil.conv", "mil.conv_transpose") else op.result.rank - 1


def weighted(value: Value) -> Weighted:
    """The op that makes ``value``, perhaps through a transpose, if its weights may change.

    Raises:
        Reject: they vary or are not f16 or f32, or the result has other users.
    """
    behind = value.op if value.op is not None and value.op.name == "mil.transpose" else None
    source = value if behind is None else behind.value("x")
    op = source.op
    assert op is not None
    weight, bias = op.operand("y" if op.name == "mil.matmul" else "weight"), None
    if op.name != "mil.matmul":
        bias = op.operand("bias")
    if not isinstance(weight, Value) or isinstance(bias, Literal):
        reject("the weight or bias is a literal")
    if not known(weight) or not (bias is None or known(bias)) or (op.name == "mil.matmul" and weight.rank != 2):
        reject("the weights are not constant")
    if not only_use(value) or not only_use(source):
        reject("the result in front has other users")
    if not weight.tensor.dtype.is_float or weight.tensor.dtype is not value.tensor.dtype:
        reject(f"the weight is {weight.tensor.dtype}")
    channels = source.tensor.shape[_channel_axis(op)] if source.rank else None
    if not isinstance(channels, int):
        reject("the number of channels is symbolic")
    return Weighted(op, weight, bias, channels, behind)


def check_per_channel(operand: Operand, target: Weighted) -> None:
    """Refuse what is not one constant number for all, or one for each channel.

    Raises:
        Reject: it varies along another axis, or is not constant.
    """
    if not known(operand):
        reject("the other operand is not constant")
    if isinstance(operand, Value) and operand.tensor.dtype is not target.weight.tensor.dtype:
        reject(f"the constant is {operand.tensor.dtype}")
    shape, rank, axis = dims(operand), target.result.rank, target.axis
    if len(shape) > rank:
        reject("the constant has more axes than the result")
    for at, size in enumerate(shape, rank - len(shape)):
        if size != 1 and (at != axis or size != target.channels):
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

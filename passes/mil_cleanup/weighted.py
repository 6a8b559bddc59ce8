"""An op with constant weights as the rules beside it see it: channels, scaled weights, offsets."""

from __future__ import annotations

from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.ir.types import DType
from anec.passes.common import dims, known, only_use, rebuild
from anec.passes.mil_cleanup.pads import own_pads
from anec.passes.mil_cleanup.transposes import permutation
from anec.rewrite import reject

_CONVS = ("mil.conv", "mil.conv_transpose")


@dataclass(frozen=True, slots=True)
class Channels:
    """The channel axis of a tensor: which one, of how many axes, how long, and the weight's dtype."""

    axis: int
    rank: int
    size: int
    dtype: DType


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
    def given(self) -> Channels:
        """The channels of the result."""
        axis = _channel_axis(self.op)
        axis = axis if self.behind is None else permutation(self.behind).index(axis)
        return Channels(axis, self.result.rank, self.channels, self.weight.tensor.dtype)

    @property
    def taken(self) -> Channels:
        """The channels of the operand."""
        x = self.op.value("x")
        size = self.weight.shape[self._input_axis] * (self.groups if self.op.name == "mil.conv" else 1)
        axis = 1 if self.op.name in _CONVS else x.rank - 1
        return Channels(axis, x.rank, size, self.weight.tensor.dtype)

    @property
    def groups(self) -> int:
        """How many groups of channels are computed apart."""
        groups = self.op.attr("groups") if self.op.name in _CONVS else None
        return groups if isinstance(groups, int) else 1

    @property
    def strides(self) -> tuple[int, ...]:
        """The steps of a conv's window."""
        given = self.op.attr("strides")
        if not isinstance(given, tuple):
            return (1,) * (self.weight.rank - 2)
        return tuple(step for step in given if isinstance(step, int))

    @property
    def is_pointwise(self) -> bool:
        """Whether a conv's window is of one element, without padding.

        Raises:
            Reject: the padding depends on the size.
        """
        window = self.weight.shape[2:]
        return all(size == 1 for size in window) and not any(own_pads(self.op, self.weight.rank))

    @property
    def _input_axis(self) -> int:
        if self.op.name == "mil.matmul":
            return 1 if self.op.attr("transpose_y") else 0
        return 0 if self.op.name == "mil.conv_transpose" else 1

    def own_weight(self) -> None:
        """Refuse a weight that something else uses too, other than sums of it, which are constants.

        Raises:
            Reject: it does; a changed weight would be stored beside the old one.
        """
        mine = [user for user, _ in self.weight.uses if user is self.op]
        others = [user for user in self.weight.users if user is not self.op]
        if len(mine) != 1 or self.weight.is_output or not all(_is_summed(user) for user in others):
            reject("the weight is used elsewhere; it would be stored twice")

    def scaled(self, scale: Operand) -> Value:
        """The weight times ``scale``, a literal or a vector: an entry for each channel of the result, or one.

        conv and linear weights are [C_out, ...], those of conv_transpose [C_in, C_out / groups, ...]
        with the channels of one group after those of another.
        """
        return self._times(scale, 1 - self._input_axis, "mil.conv_transpose")

    def scaled_inputs(self, scale: Operand) -> Value:
        """The weight times ``scale``, a literal or a vector: an entry for each channel of the operand, or one.

        Those of a conv are [C_out, C_in / groups, ...].
        """
        return self._times(scale, self._input_axis, "mil.conv")

    def _times(self, scale: Operand, axis: int, grouped: str) -> Value:
        """The weight times ``scale`` along ``axis``, of which ops called ``grouped`` hold one group only."""
        if isinstance(scale, Literal):
            return mil.mul(self.weight, scale)
        assert scale is not None
        rank, entries, groups = self.weight.rank, scale.shape[0], self.groups
        if self.op.name != grouped or groups == 1 or entries == 1:
            return mil.mul(self.weight, mil.reshape(scale, tuple(entries if i == axis else 1 for i in range(rank))))
        rows, columns, *kernel = self.weight.shape
        apart = mil.reshape(self.weight, (groups, rows // groups, columns, *kernel))
        column = mil.reshape(scale, (groups, 1, columns, *[1] * len(kernel)))
        return mil.reshape(mil.mul(apart, column), self.weight.shape)

    def summed(self, weight: Value) -> Value:
        """A weight of this op's shape, summed for each channel of the result."""
        axes = tuple(axis for axis in range(weight.rank) if axis != 1 - self._input_axis)
        if self.op.name != "mil.conv_transpose" or self.groups == 1:
            return mil.reduce_sum(weight, axes=axes, keep_dims=False)
        rows, columns, *kernel = weight.shape
        apart = mil.reshape(weight, (self.groups, rows // self.groups, columns, *kernel))
        totals = mil.reduce_sum(apart, axes=(1, *range(3, apart.rank)), keep_dims=False)
        return mil.reshape(totals, (self.channels,))

    def vector(self, operand: Operand) -> Value:
        """A literal or vector as one entry for each channel."""
        return as_channels(operand, self.channels, self.weight.tensor.dtype)

    def rebuilt(self, *, x: Value | None = None, weight: Value | None = None, bias: Value | None = None) -> Value:
        """The op and the transpose again, with another operand, weight or bias."""
        names = {"x": x, "y" if self.op.name == "mil.matmul" else "weight": weight, "bias": bias}
        changes = {name: value for name, value in names.items() if value is not None}
        made = rebuild(self.op, **changes)
        return made if self.behind is None else mil.transpose(made, perm=permutation(self.behind))


def _is_summed(op: Op) -> bool:
    """Whether nothing but sums is left of what a constant op computes."""
    if not all(known(result) and not result.is_output for result in op.results):
        return False
    if op.name == "mil.reduce_sum":
        return True
    users = [user for result in op.results for user in result.users]
    return op.name in ("mil.mul", "mil.reshape") and all(_is_summed(user) for user in users)


def _channel_axis(op: Op) -> int:
    return 1 if op.name in _CONVS else op.result.rank - 1


def weighted(value: Value) -> Weighted:
    """The op that makes ``value``, perhaps through a transpose, if its weights may change.

    Raises:
        Reject: they vary or are not f16 or f32, or the result has other users.
    """
    behind = value.op if value.op is not None and value.op.name == "mil.transpose" else None
    source = value if behind is None else behind.value("x")
    assert source.op is not None
    target = weights_of(source.op, behind)
    if not only_use(value) or not only_use(source):
        reject("the result in front has other users")
    return target


def weights_of(op: Op, behind: Op | None = None) -> Weighted:
    """A conv, conv_transpose, linear or matmul, if its weights are constant.

    Raises:
        Reject: they vary or are not f16 or f32.
    """
    weight, bias = op.operand("y" if op.name == "mil.matmul" else "weight"), None
    if op.name != "mil.matmul":
        bias = op.operand("bias")
    if not isinstance(weight, Value) or isinstance(bias, Literal):
        reject("the weight or bias is a literal")
    if not known(weight) or not (bias is None or known(bias)) or (op.name == "mil.matmul" and weight.rank != 2):
        reject("the weights are not constant")
    if not weight.tensor.dtype.is_float or weight.tensor.dtype is not op.result.tensor.dtype:
        reject(f"the weight is {weight.tensor.dtype}")
    channels = op.result.tensor.shape[_channel_axis(op)] if op.result.rank else None
    if not isinstance(channels, int):
        reject("the number of channels is symbolic")
    return Weighted(op, weight, bias, channels, behind)


def check_per_channel(operand: Operand, channels: Channels) -> None:
    """Refuse what is not one constant number for all, or one for each channel.

    Raises:
        Reject: it varies along another axis, or is not constant.
    """
    if not known(operand):
        reject("the other operand is not constant")
    if isinstance(operand, Value) and operand.tensor.dtype is not channels.dtype:
        reject(f"the constant is {operand.tensor.dtype}")
    shape = dims(operand)
    if len(shape) > channels.rank:
        reject("the constant has more axes than the result")
    for at, size in enumerate(shape, channels.rank - len(shape)):
        if size != 1 and (at != channels.axis or size != channels.size):
            reject("the constant differs within a channel")


def as_vector(operand: Operand, channels: Channels) -> Operand:
    """A constant that :func:`check_per_channel` passed, as a literal number or a vector of rank 1."""
    if isinstance(operand, Literal):
        if not isinstance(operand.value, tuple):
            return operand
        operand = Literal(operand.value, operand.dtype or channels.dtype)
    shape = dims(operand)
    entries = channels.size if channels.size in shape else 1
    if shape == (entries,) and isinstance(operand, Value):
        return operand
    assert operand is not None
    return mil.reshape(operand, (entries,))


def as_channels(operand: Operand, count: int, dtype: DType) -> Value:
    """A literal, or a vector of one entry or ``count``, as a vector of ``count``."""
    if isinstance(operand, Literal):
        operand = mil.tile(Literal((operand.value,), dtype), (count,))
    assert operand is not None
    return operand if operand.shape == (count,) else mil.tile(operand, (count,))

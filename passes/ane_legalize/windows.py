"""Convolutions as the rules beside it see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anec.ane import CATALOGUE
from anec.ane.limits import Limits
from anec.ane.site import Site
from anec.ir.attrs import Attr
from anec.ir.graph import Op, Value
from anec.passes.common import known
from anec.passes.lower_to_mil.conv import Window, convolved
from anec.passes.mil_cleanup.pads import own_pads
from anec.rewrite import reject

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]


def breaks(op: Op, limits: Limits, *rules: str) -> str | None:
    """What the first of these rules of the catalogue says of an op of static sizes; None where all are silent."""
    site = Site(op, limits, {})
    found = (test(site) for rule in rules if (test := CATALOGUE.by_id[rule].test) is not None)
    return next((reason for reason in found if reason is not None), None)


@dataclass(frozen=True, slots=True)
class Convolution:
    """A conv or conv_transpose of static sizes with constant weights.

    Args:
        x: its operand.
        weight: [C_out, C_in / groups, *kernel], of a conv_transpose [C_in, C_out / groups, *kernel].
        bias: [C_out], if there is one.
        window: kernel, stride and dilation; its padding says nothing.
        pads: (before, after) a space axis.
        groups: of channels.
        counts: the sizes of the result's space axes.
    """

    x: Value
    weight: Value
    bias: Value | None
    window: Window
    pads: tuple[tuple[int, int], ...]
    groups: int
    counts: Ints

    @property
    def space(self) -> Ints:
        """The sizes of the operand's space axes."""
        return self.x.shape[2:]

    def again(self, x: Value, weight: Value, window: Window, pads: Pads, *, bias: bool = True) -> Value:
        """A conv with the same bias and groups."""
        return convolved(x, weight, self.bias if bias else None, window, self.groups, pads)


def window_of(kernel: Sequence[int], stride: Sequence[int] = (), dilation: Sequence[int] = ()) -> Window:
    """A window whose steps are 1 where nothing else is said."""
    ones = (1,) * len(kernel)
    return Window(tuple(kernel), tuple(stride) or ones, (0,) * len(kernel), tuple(dilation) or ones)


def convolution(op: Op) -> Convolution:
    """A conv or conv_transpose, read.

    Raises:
        Reject: sizes are symbolic, weights are computed, or the padding depends on the size.
    """
    x, weight, bias, result = op.value("x"), op.value("weight"), op.operand("bias"), op.results[0]
    if not x.tensor.is_static or not result.tensor.is_static:
        reject("sizes are symbolic")
    if not known(weight) or not (bias is None or (isinstance(bias, Value) and known(bias))):
        reject("the weights are not constant")
    pads, groups = own_pads(op, x.rank), op.attr("groups")
    assert isinstance(groups, int)
    kernel = weight.shape[2:]
    steps = [_steps(op.attr(name), len(kernel)) for name in ("strides", "dilations")]
    pairs = tuple(zip(pads[::2], pads[1::2], strict=True))
    return Convolution(x, weight, bias, window_of(kernel, *steps), pairs, groups, result.shape[2:])


def _steps(given: Attr, count: int) -> Ints:
    steps = tuple(step for step in given if isinstance(step, int)) if isinstance(given, tuple) else ()
    return steps or (1,) * count


__all__ = ["Convolution", "Ints", "Pads", "breaks", "convolution", "window_of"]

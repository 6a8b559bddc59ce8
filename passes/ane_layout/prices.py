"""What a choice pays for: bringing data to an op, and the op in its form; in the unit of ``forms.cost``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.ir.types import TensorType
from anec.passes.ane_layout.forms import Form, Route, Step, cost, places, tensors_written
from anec.passes.ane_layout.transfer import Moving, is_projection
from anec.passes.lower_to_mil.permutation import volume


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost.

    Args:
        copies: what each element that a transpose or reshape writes costs besides.
    """

    copies: int = 0

    def moving(self, route: Route, held: Form, wanted: Form) -> int:
        """What bringing the root, held in one form, to a use that wants another takes."""
        found = cost(route, held, wanted)
        return found + self.copies * size_of(route.root) * len(tensors_written(route, held, wanted))

    def working(self, op: Op, how: Moving, form: Form) -> int:
        """What ``op`` takes in ``form``."""
        if form is Form.WRITTEN or how.keeps_rank:
            return _price(op, how, form)
        dropped = sum(self.moving(squeezed(op, result), form, form) for result in op.results)
        return _price(op, how, form) + dropped


PRICED = Prices()


def _price(op: Op, how: Moving, form: Form) -> int:
    """What ``op`` takes in ``form``, beside moving data.

    A product with a constant that stays as it is written is split into less efficient ops and may fall
    back (rule A20): that is worth one and a half transposes of its smaller end, so that a block of two
    turns, and a head onto a large vocabulary does not. A convolution of single rows has a last axis of
    one element (rule A06), which takes a third of that. A norm or softmax over the last axis cannot be
    divided along that (rule A23).
    """
    if is_projection(op):
        smaller = min(size_of(op.results[0]), size_of(op.value("x")))
        single = form is Form.CHANNELS_FIRST and how.rank == 2
        return 3 * smaller if form is Form.WRITTEN else smaller if single else 0
    if form is Form.WRITTEN:
        return _along_rows(op, range(how.rank), how.rank - 1)
    return _along_rows(op, places(form, how.rank), 3)


def _along_rows(op: Op, stand: Sequence[int], last: int) -> int:
    """What a norm or softmax over the last axis takes."""
    if op.defn not in (mil.layer_norm, mil.softmax):
        return 0
    axes = op.attr("axes" if op.defn is mil.layer_norm else "axis")
    given: Sequence[object] = axes if isinstance(axes, tuple) else (axes,)
    return size_of(op.results[0]) if any(isinstance(axis, int) and stand[axis] == last for axis in given) else 0


def size_of(value: Value) -> int:
    """The number of elements."""
    size = volume(value.tensor.shape)
    assert isinstance(size, int)
    return size


def squeezed(op: Op, result: Value) -> Route:
    """From the result with all axes kept to the result itself."""
    kept = TensorType(result.tensor.dtype, _kept_shape(op, result))
    return Route(Value(result.name, kept)).then(Step(result.tensor.shape))


def _kept_shape(op: Op, result: Value) -> tuple[Dim, ...]:
    flags = op.attrs.get("squeeze_mask")
    if isinstance(flags, tuple):
        sizes = iter(result.tensor.shape)
        return tuple(1 if dropped else next(sizes) for dropped in flags)
    shape = list(op.value("x").tensor.shape)
    axes = op.attr("axes" if "axes" in op.defn.by_name else "axis")
    given: Sequence[object] = axes if isinstance(axes, tuple) else range(len(shape)) if axes is None else (axes,)
    for axis in given:
        assert isinstance(axis, int)
        shape[axis] = 1
    return tuple(shape)

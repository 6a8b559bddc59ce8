"""Views by strides read the memory of a tensor, and the IR's values have none.

    x = y.T                                         %x = aten.t.default(%y)
    x.as_strided(size=(3,), stride=(2,))     ->     %1 = aten.permute.default(%x) {dims=[1, 0]}
                                                    %2 = aten.as_strided.default(%1) {size=[3], stride=[2]}

In the IR they read the elements of their operand in row-major order: its axes are put in the order in which the
traced tensor lies in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from anec.dialects import registry
from anec.errors import UnsupportedError
from anec.frontend.origins import origin_of
from anec.ir.build import Builder

_WRITE = "aten::as_strided_scatter"
VIEWS = frozenset(("aten::as_strided", "aten::as_strided_copy", _WRITE))
_HINT = "use view, permute and unfold in its place"


def in_memory_order(node: Node, bound: dict[str, object], builder: Builder) -> None:
    """Make the operand of a view by strides one whose elements in row-major order are the memory it reads.

    Args:
        node: the view; the strides of its traced operand tell how that lies in memory.
        bound: its arguments by name; ``self`` and ``storage_offset`` are replaced where they must be.
        builder: writes what turns the operand.

    Raises:
        UnsupportedError: the memory is not the elements of the operand in some order of its axes, each once; or the
            view is written to, and the order is not row-major.
    """
    operand, target = node.args[0], node.target
    assert isinstance(operand, Node)
    assert isinstance(target, torch._ops.OpOverload)
    val = operand.meta["val"]
    order = _memory_order(val)
    turned = order != tuple(range(val.dim()))
    if order is None or (turned and target._schema.name == _WRITE):
        steps = ", ".join(map(str, val.stride()))
        raise UnsupportedError(f"{target} of a tensor that lies in memory with strides ({steps})", hint=_HINT)
    first = bound.get("storage_offset")
    if isinstance(first, int):
        bound["storage_offset"] = first = first - int(val.storage_offset())
    if not _is_inside(first or 0, bound["size"], bound["stride"], val.numel()):
        raise UnsupportedError(f"{target} reads memory in front of the tensor or behind it", hint=_HINT)
    if turned:
        turn = {"self": bound["self"], "dims": order}
        bound["self"] = builder.create(registry.resolve("aten.permute.default"), turn, origin=origin_of(node)).result


def _is_inside(first: Any, size: Any, stride: Any, count: Any) -> bool:
    """Whether a view stays among ``count`` elements; torch has compared symbolic sizes with the memory."""
    if not all(isinstance(number, int) for number in (first, *size, *stride, count)):
        return True
    last = first + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return bool(first >= 0 and last < max(count, 1))


def _memory_order(val: torch.Tensor) -> tuple[int, ...] | None:
    """The axes from the longest step to the shortest; None if they leave gaps, overlap or are symbolic and turned."""
    if _is_dense(val, range(val.dim())):
        return tuple(range(val.dim()))
    steps = val.stride()
    if not all(isinstance(number, int) for number in (*val.shape, *steps)):
        return None
    # Axes of size 1 have any stride: they stay at the end.
    order = sorted(range(val.dim()), key=lambda axis: (val.shape[axis] == 1, -steps[axis]))
    return tuple(order) if _is_dense(val, order) else None


def _is_dense(val: torch.Tensor, order: Sequence[int]) -> bool:
    """Whether the elements follow one another in memory, axes taken in ``order``."""
    step: Any = 1
    for axis in reversed(order):
        size = val.shape[axis]
        if not statically_known_true(size == 1):
            if not statically_known_true(val.stride(axis) == step):
                return False
            step = step * size
    return True

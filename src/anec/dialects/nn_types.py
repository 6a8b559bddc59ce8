"""Result types of `nn` ops whose kernels fake tensors cannot run on symbolic shapes, or only slowly.

torch's resizing and pooling kernels specialise symbols silently, and a recurrent kernel walks every
step. Their results follow from attributes and operand types alone.
"""

from __future__ import annotations

from anec.errors import AnecError
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Op
from anec.ir.types import TensorType, Type


def _sizes(op: Op, name: str) -> tuple[Dim, ...]:
    found = op.attr(name)
    if not isinstance(found, tuple):
        raise AnecError(f"{op.name}: {name} is {found}, not a list of sizes")
    sizes: list[Dim] = []
    for size in found:
        if not isinstance(size, (int, Expr)):
            raise AnecError(f"{op.name}: the size {size} is no integer")
        sizes.append(size)
    return tuple(sizes)


def same(op: Op) -> tuple[Type, ...]:
    """Types of norms and activations: those of x."""
    return (op.value("x").tensor,)


def resized(op: Op) -> tuple[Type, ...]:
    """Types of nn.interpolate: the space axes become ``size``.

    Raises:
        AnecError: x does not have two axes more than ``size``.
    """
    x, size = op.value("x").tensor, _sizes(op, "size")
    if x.rank != len(size) + 2:
        raise AnecError(f"{op.name} of {x} to {len(size)} sizes", hint="x is [N, C, space...]")
    return (x.with_shape((*x.shape[:2], *size)),)


def pooled(op: Op) -> tuple[Type, ...]:
    """Types of the adaptive pools: the last axes become ``size``.

    Raises:
        AnecError: x has neither one nor two axes more than ``size``.
    """
    x, size = op.value("x").tensor, _sizes(op, "size")
    if x.rank - len(size) not in (1, 2):
        raise AnecError(f"{op.name} of {x} to {len(size)} sizes", hint="x is [N, C, space...] or [C, space...]")
    return (x.with_shape((*x.shape[: -len(size)], *size)),)


def sampled(op: Op) -> tuple[Type, ...]:
    """Types of nn.grid_sample: the space axes become those of the grid.

    Raises:
        AnecError: x and grid are not both of rank 4 or both of rank 5, or the grid's last axis does not fit.
    """
    x, grid = op.value("x").tensor, op.value("grid").tensor
    if x.rank not in (4, 5) or grid.rank != x.rank or grid.shape[-1] != x.rank - 2:
        raise AnecError(f"{op.name} of {x} at {grid}", hint="[N, C, H, W] at [N, h, w, 2], or one axis more each")
    return (x.with_shape((*x.shape[:2], *grid.shape[1:-1])),)


def recurrent(op: Op) -> tuple[Type, ...]:
    """Types of nn.lstm, nn.gru and nn.rnn: the output, then each state's last value.

    Raises:
        AnecError: x is not of rank 3, or the count of weights does not fit.
    """
    x, h = op.value("x").tensor, op.value("initial_h").tensor
    directions = 2 if op.attr("bidirectional") else 1
    layers = op.attr("layers")
    projection = op.attr("projection") if "projection" in op.defn.by_name else 0
    weights = len(op.variadic("weights"))
    assert isinstance(layers, int)
    wanted = layers * directions * ((4 if op.attr("has_bias") else 2) + bool(projection))
    if x.rank != 3 or h.rank != 3 or weights != wanted:
        raise AnecError(f"{op.name} of {x} with the state {h} and {weights} weights, not {wanted}")
    hidden = h.shape[2]
    output = TensorType(x.dtype, (*x.shape[:2], hidden * directions))
    states = [op.value(name).tensor for name in ("initial_h", "initial_c") if name in op.defn.by_name]
    return (output, *states)

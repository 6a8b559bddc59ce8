"""The signature: what a caller of the compiled function sees at its boundary."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from anec.ir.types import DType, Type


class PortKind(Enum):
    """What an input or output is to Core ML."""

    TENSOR = "tensor"
    IMAGE = "image"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a function.

    Args:
        name: the public name, a legal unique identifier.
        type: the type the torch model has there.
        path: where it sits in the torch call, ``"args[0]"`` or ``"logits"``.
        boundary: the dtype at the Core ML boundary; None follows the rule of the target.
        kind: tensor, image or state.
        scale: an image's factor, applied before ``bias``.
        bias: an image's offset a channel.
        shapes: the only shapes an input may have; of several inputs with lists, those at one place.
    """

    name: str
    type: Type
    path: str = ""
    boundary: DType | None = None
    kind: PortKind = PortKind.TENSOR
    scale: float = 1.0
    bias: tuple[float, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True)
class Signature:
    """Inputs and outputs in order, and the notes made on the way (dropped inputs)."""

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def input(self, name: str) -> Port | None:
        return next((port for port in self.inputs if port.name == name), None)

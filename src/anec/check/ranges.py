"""What each value of a program holds, and which ops lose it when the program is rounded.

A float32 run keeps the largest magnitude and a few thousand elements of every value. A second program made
from the same source, with the same value names, is compared with that op by op: the op at which the
numbers leave their places is found even where later ops hide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from anec.check.metrics import compare
from anec.check.numerics import at_boundary
from anec.ir.attr_types import HALF_MAX, SMALLEST_HALF
from anec.ir.graph import Module, Op
from anec.reference.evaluate import evaluate

# Half of float16's smallest number, which is rounded to 0.
HALF_FLUSHED = SMALLEST_HALF / 2
# The PSNR at which two programs agree but for one rounding to float16.
ROUNDED = 75.0
_SAMPLE = 4096


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of a float32 run.

    Args:
        largest: the largest finite magnitude.
        flushed: the share of its elements that are not 0 and would be in float16.
        sample: some of its elements, always the same ones of a shape.
    """

    largest: float
    flushed: float
    sample: torch.Tensor

    @property
    def overflows(self) -> bool:
        return self.largest > HALF_MAX

    @property
    def leaves(self) -> bool:
        """True for what float16 does not hold, being too large or mostly too small."""
        return self.overflows or self.flushed > 0.5


@dataclass(frozen=True, slots=True)
class Loss:
    """What one op of a rounded program does to its numbers, in dB.

    Args:
        op: the op.
        name: its value in the float32 program.
        before: the PSNR of its worst operand.
        after: the PSNR of its result.
    """

    op: Op
    name: str
    before: float
    after: float

    @property
    def drop(self) -> float:
        """How much is lost here; infinite where NaN or infinity appears."""
        return 0.0 if self.before == -math.inf else min(self.before, ROUNDED) - self.after


def measure(
    module: Module, function: str, inputs: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Measured], dict[str, torch.Tensor]]:
    """Run a function, and measure its float values by name.

    Returns:
        What was measured, and the outputs.

    Raises:
        AnecError: an input is missing, or an op fails.
    """
    found: dict[str, Measured] = {}

    def observe(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        for value, result in zip(op.results, results, strict=True):
            if result.is_floating_point() and result.numel():
                found[value.name] = _measured(result)

    given = at_boundary(module.functions[function], inputs)
    return found, evaluate(module, given, function=function, observer=observe)


def losses(
    wide: Mapping[str, Measured], module: Module, function: str, inputs: Mapping[str, torch.Tensor]
) -> tuple[list[Loss], dict[str, torch.Tensor]]:
    """Run a program made from the same source, and compare its values with those of the float32 run.

    Returns:
        A loss for each op with a value that both have, in the order of the program, and the outputs.

    Raises:
        AnecError: an input is missing, or an op fails.
    """
    found: list[Loss] = []
    known: dict[str, float] = {}

    def observe(op: Op, results: tuple[torch.Tensor, ...]) -> None:
        before = min((known.get(value.name, ROUNDED) for value in op.inputs), default=ROUNDED)
        for value, result in zip(op.results, results, strict=True):
            # `to-fp16` gives the name of an output to the cast behind it.
            name = value.name if value.name in wide else value.name.removesuffix("_fp16")
            there = wide.get(name)
            if there is None or not result.is_floating_point():
                known[value.name] = before
                continue
            sample = _sampled(result)
            metric = compare(name, sample, there.sample) if sample.shape == there.sample.shape else None
            after = before if metric is None else metric.psnr
            known[value.name] = after
            if metric is not None:
                found.append(Loss(op, name, before, after))

    given = at_boundary(module.functions[function], inputs)
    return found, evaluate(module, given, function=function, observer=observe)


def _measured(tensor: torch.Tensor) -> Measured:
    magnitude = torch.nan_to_num(tensor.detach().abs(), nan=0.0, posinf=0.0)
    nonzero = magnitude > 0
    count = int(nonzero.sum())
    flushed = int((nonzero & (magnitude <= HALF_FLUSHED)).sum()) / count if count else 0.0
    return Measured(float(magnitude.max()), flushed, _sampled(tensor))


def _sampled(tensor: torch.Tensor) -> torch.Tensor:
    """At most a few thousand elements, evenly spread, as float32."""
    flat = tensor.detach().reshape(-1)
    step = max(1, -(-flat.numel() // _SAMPLE))
    # An odd step meets every column of an even matrix.
    return flat[:: step | 1 if step > 1 else 1].to(torch.float32).clone()


__all__ = ["Loss", "Measured", "losses", "measure"]

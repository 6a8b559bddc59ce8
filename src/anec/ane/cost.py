"""What an op costs on a device, as Core ML's own placement is known to estimate it (rule B61).

The numbers were read from Core ML by a third party (ane-guide, chapters 5 and 18). They order devices;
they are no times: 800 GFLOP/s is far below what the hardware reaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from anec.ane.site import Site
from anec.ir.graph import Value


class Device(Enum):
    """Where an op may run."""

    ANE = "ANE"
    GPU = "GPU"
    CPU = "CPU"


@dataclass(frozen=True, slots=True)
class _Speed:
    """Operations and bytes a millisecond, and what launching an op and moving to the device take."""

    flops: float
    bytes: float
    launch: float
    transfer: float


_SPEEDS = {
    Device.ANE: _Speed(800e6, 50e6, 0.05, 0.09),
    Device.GPU: _Speed(120e6, 40e6, 0.10, 0.23),
    Device.CPU: _Speed(20e6, 10e6, 0.10, 0.23),
}
# What a CPU reaches: 64 x 256 x 256 in 0.026 ms (B60), and its memory.
_CPU_FLOPS, _CPU_BYTES = 320e6, 50e6


@dataclass(frozen=True, slots=True)
class Work:
    """What an op does: multiply-adds of products, all floating-point operations, bytes read and written."""

    products: int = 0
    flops: int = 0
    bytes: int = 0

    def milliseconds(self, device: Device) -> float:
        """Core ML's estimate for one op."""
        speed = _SPEEDS[device]
        return max(self.flops / speed.flops, self.bytes / speed.bytes) + speed.launch


def transfer(source: Device, destination: Device) -> float:
    """What it takes to go on elsewhere, in milliseconds."""
    return 0.0 if source is destination else _SPEEDS[destination].transfer


def cpu_milliseconds(works: Sequence[Work]) -> float:
    """How long a CPU really needs for several ops."""
    return sum(max(work.flops / _CPU_FLOPS, work.bytes / _CPU_BYTES) for work in works)


def work_of(site: Site) -> Work:
    """Estimate an op from its sizes."""
    products = _products(site)
    results = sum(math.prod(site.shape(value)) for value in site.op.results)
    # A lookup reads what it returns, not the whole table.
    read = site.op.results if site.root.startswith("gather") else (*site.inputs, *site.constants)
    moved = sum(site.bytes(value) for value in (*read, *site.op.results))
    return Work(products, 2 * products or results, moved)


def _products(site: Site) -> int:
    """The multiply-adds of a product; 0 for other ops."""
    root, weight = site.root, site.size("weight")
    if root == "conv":
        return math.prod(site.result) * math.prod(weight[1:])
    if root == "conv_transpose":
        return math.prod(site.size("x")) * math.prod(weight[1:])
    if root == "linear":
        return math.prod(site.result) * weight[-1]
    if root == "matmul":
        first = site.size("x") or (1,)
        turned = site.given("transpose_x") is True and len(first) > 1
        return math.prod(site.result) * (first[-2] if turned else first[-1])
    if root == "einsum":
        # Both equations sum over the last axis of the first operand, or over the axis in the middle.
        first = next((site.shape(value) for value in site.op.variadic("values") if isinstance(value, Value)), (1,))
        return math.prod(site.result) * first[-1]
    if root == "scaled_dot_product_attention":
        keys = site.size("key")[-2]
        return math.prod(site.size("query")) * keys + math.prod(site.result) * keys
    if root in ("lstm", "gru", "rnn"):
        steps = math.prod(site.size("x")[:2])
        names = ("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back")
        return steps * sum(math.prod(site.size(name)) for name in names if site.operand(name) is not None)
    return 0

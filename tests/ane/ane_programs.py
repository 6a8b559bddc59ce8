"""Tiny programs for the rules of the Neural Engine, and the structure of Apple's hand-written DistilBERT."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import anec
from anec.dialects import mil
from anec.ir.build import Builder
from anec.ir.dims import Bounds, symbol
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import DTYPES, StateType, TensorType
from anec.ir.weights import TensorData, Weight


def typed(text: str) -> TensorType:
    """``f16[1,S,8]``; names are symbols."""
    match = re.fullmatch(r"(\w+)\[(.*)\]", text)
    assert match is not None
    dims = [int(part) if part.isdigit() else symbol(part) for part in match[2].split(",") if part]
    return TensorType(DTYPES[match[1]], tuple(dims))


class Maker:
    """A function under construction."""

    def __init__(self, target: str = "iOS18") -> None:
        self.module = Module(target=target)
        self.graph = self.module.functions["main"] = Graph("main")

    def x(self, text: str, shapes: Sequence[tuple[int, ...]] = ()) -> Value:
        """An input; ``shapes`` lists those it may have."""
        value = self.graph.add_input("x", typed(text))
        self.graph.signature.inputs.append(Port(value.name, value.type, shapes=tuple(shapes)))
        self._declare(value.tensor)
        return value

    def _declare(self, type_: TensorType) -> None:
        for dim in type_.shape:
            if not isinstance(dim, int):
                self.module.dims |= dict.fromkeys(dim.symbols(), Bounds(1, 64))

    def state(self, text: str) -> Value:
        value = self.graph.add_input("state", StateType(typed(text)))
        self.graph.signature.inputs.append(Port(value.name, value.type))
        self._declare(value.tensor)
        return value

    def w(self, text: str, fill: float | None = None) -> Value:
        """A weight; its numbers are unknown, as in a text without weights, unless ``fill`` says them."""
        type_ = typed(text)
        data = None if fill is None else TensorData(torch.full(type_.static_shape, fill, dtype=torch.float16))
        name = f"w{len(self.module.weights)}"
        return self.graph.add_weight(self.module.add_weight(Weight(name, type_, data)))

    def conv(self, x: Value, weight: str, **attrs: object) -> Value:
        return mil.conv(x, self.w(weight), **attrs)


def made(build: Callable[[Maker], Value | Sequence[Value]] | str, target: str = "iOS18") -> Module:
    """The module that ``build`` makes, what it returns being the output; or that IR text spells out."""
    if isinstance(build, str):
        return anec.read(f"anec 1\nmodule target={target}\n\n{build}")
    maker = Maker(target)
    with Builder(maker.graph).active():
        found = build(maker)
    maker.graph.outputs = [found] if isinstance(found, Value) else list(found)
    maker.graph.signature.outputs = [Port(f"y{n}", value.type) for n, value in enumerate(maker.graph.outputs)]
    return maker.module


def distilbert() -> Module:
    """Apple's hand-written DistilBERT (ml-ane-transformers) as coremltools converts it, without numbers.

    Written by ``tools/make_apple_distilbert.py``.
    """
    return anec.read(Path(__file__).parent / "apple_distilbert.anec")

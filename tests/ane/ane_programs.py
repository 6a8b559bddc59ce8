"""Tiny programs for the rules of the Neural Engine, and the structure of Apple's hand-written DistilBERT."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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


_EQUATION = "nchw,nwhu->nchu"


def distilbert(layers: int = 1, heads: int = 12, length: int = 128, width: int = 768) -> Module:
    """Apple's hand-written DistilBERT (ml-ane-transformers), without numbers.

    One transpose behind the embeddings and one a layer (of the keys, before they are split), products
    head by head as einsum with keys on axis 1, convolutions of kernel 1, no reshape; the mask is made
    once and added.
    """
    head = width // heads

    def dense(m: Maker, x: Value, inputs: int, outputs: int) -> Value:
        return mil.conv(x, m.w(f"f16[{outputs},{inputs},1,1]"), m.w(f"f16[{outputs}]"))

    def norm(m: Maker, x: Value) -> Value:
        return mil.layer_norm(x, gamma=m.w(f"f16[{width}]"), beta=m.w(f"f16[{width}]"), axes=[1], epsilon=1e-7)

    def attention(m: Maker, x: Value, mask: Value) -> Value:
        query, key, values = (dense(m, x, width, width) for _ in range(3))
        queries = mil.split.many(query, num_splits=heads, axis=1)
        keys = mil.split.many(mil.transpose(key, perm=[0, 3, 2, 1]), num_splits=heads, axis=3)
        value_heads = mil.split.many(values, num_splits=heads, axis=1)
        parts = []
        for q, k, v in zip(queries, keys, value_heads, strict=True):
            scores = mil.add(mil.mul(mil.einsum([k, q], equation=_EQUATION), head**-0.5), mask)
            parts.append(mil.einsum([v, mil.softmax(scores, axis=1)], equation=_EQUATION))
        return dense(m, mil.concat(parts, axis=1), width, width)

    def build(m: Maker) -> Value:
        ids, given = m.x(f"i32[1,{length}]"), m.x(f"i32[1,{length}]")
        embedded = mil.add(mil.gather(m.w(f"f16[30522,{width}]"), ids, axis=0), m.w(f"f16[1,{length},{width}]"))
        x = norm(m, mil.expand_dims(mil.transpose(embedded, perm=[0, 2, 1]), axes=[2]))
        mask = mil.mul(mil.sub(1.0, mil.cast(given, dtype="fp16")), -1e4)
        mask = mil.expand_dims(mil.expand_dims(mask, axes=[2]), axes=[3])
        for _ in range(layers):
            x = norm(m, mil.add(attention(m, x, mask), x))
            x = norm(m, mil.add(dense(m, mil.gelu(dense(m, x, width, 4 * width)), 4 * width, width), x))
        first = mil.slice_by_index(x, [0, 0, 0, 0], [1, width, 1, 1])
        scores = dense(m, mil.relu(dense(m, first, width, width)), width, 2)
        return mil.cast(mil.squeeze(mil.squeeze(scores, axes=[3]), axes=[2]), dtype="fp32")

    return made(build)

"""Small random programs of mil ops, drawn as lists of (op, seed) so that hypothesis can shrink them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch

from anec.dialects import mil
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight

LARGEST = 4096
Step = tuple[int, int]


class Program:
    """A module under construction; every method of the menu appends to ``values`` or does nothing."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.module = Module()
        self.graph = self.module.functions["main"] = Graph("main")
        self.values: list[Value] = []
        self.random = random.Random(0)
        for number, shape in enumerate(shapes):
            value = self.graph.add_input(f"x{number}", TensorType(DType.F32, shape))
            self.graph.signature.inputs.append(Port(value.name, value.type))
            self.values.append(value)

    def weight(self, *shape: int, positive: bool = False) -> Value:
        """A new weight of small multiples of 1/8, zeros and ones among them."""
        generator = torch.Generator().manual_seed(self.random.randrange(1 << 30))
        kind = self.random.randrange(4)
        if kind < 2 and not positive:
            numbers = torch.full(shape, float(kind))
        else:
            numbers = torch.randint(-12, 13, shape, generator=generator) / 8
        numbers = numbers.abs() + 0.5 if positive else numbers
        name = f"w{len(self.module.weights)}"
        weight = self.module.add_weight(Weight(name, TensorType(DType.F32, shape), TensorData(numbers)))
        return self.graph.add_weight(weight)

    def number(self) -> float:
        return self.random.choice([0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 3.0])

    def axis(self, x: Value) -> int:
        return self.random.randrange(x.rank)

    def channels(self, x: Value) -> Value | float:
        """A constant to combine with ``x``: a number, or a vector along one of its axes."""
        if self.random.random() < 0.4:
            return self.number()
        axis = self.axis(x)
        shape = [x.shape[axis] if i == axis else 1 for i in range(x.rank)]
        return self.weight(*shape[self.random.randrange(axis + 1) :])

    def build(self, steps: Sequence[Step]) -> Module:
        """Append the steps that fit, and return the values nobody uses."""
        builder = Builder(self.graph)
        for op, seed in steps:
            self.random = random.Random(seed)
            # The newest values more often than not, so that chains arise.
            x = self.values[-1] if self.random.random() < 0.6 else self.random.choice(self.values)
            builder.name = f"v{len(self.values)}"
            with builder.active():
                made = MENU[op](self, x)
            results = made if isinstance(made, list) else [made]
            self.values += [v for v in results if v is not None and v.tensor.size <= LARGEST]
        outputs = [value for value in self.values if not value.uses] or [self.values[-1]]
        self.graph.outputs = outputs[-6:]
        self.graph.signature.outputs = [Port(f"y{i}", value.type) for i, value in enumerate(self.graph.outputs)]
        return self.module


Maker = Callable[[Program, Value], "Value | list[Value] | None"]


def _combine(p: Program, x: Value) -> Value:
    op = p.random.choice([mil.add, mil.sub, mil.mul])
    constant = p.channels(x)
    return op(x, constant) if p.random.random() < 0.7 else op(constant, x)


def _divide(p: Program, x: Value) -> Value:
    return mil.real_div(x, p.random.choice([1.0, 2.0, 0.5, -4.0]))


def _bound(p: Program, x: Value) -> Value:
    number = p.random.choice([0.0, -1.0, 2.0, 6.0])
    choices: list[Callable[[], Value]] = [
        lambda: mil.relu(x),
        lambda: mil.relu6(x),
        lambda: mil.clip(x, alpha=-number - 1, beta=number + 2),
        lambda: mil.maximum(x, number),
        lambda: mil.minimum(number, x),
    ]
    return p.random.choice(choices)()


def _unary(p: Program, x: Value) -> Value:
    return p.random.choice([mil.sigmoid, mil.tanh, mil.abs, mil.identity])(x)


def _reshape(p: Program, x: Value) -> Value:
    sizes = list(x.shape)
    if p.random.random() < 0.5 and len(sizes) > 1:
        at = p.random.randrange(len(sizes) - 1)
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    elif len(sizes) < 5:
        at = p.random.randrange(len(sizes))
        by = p.random.choice([d for d in (1, 2, 3) if sizes[at] % d == 0])
        sizes[at : at + 1] = [by, sizes[at] // by]
    return mil.reshape(x, tuple(sizes))


def _ones(p: Program, x: Value) -> Value | None:
    if p.random.random() < 0.5 and 1 in x.shape and x.rank > 1:
        return mil.squeeze(x, axes=[x.shape.index(1)])
    return mil.expand_dims(x, axes=[p.random.randrange(x.rank + 1)]) if x.rank < 5 else None


def _transpose(p: Program, x: Value) -> Value:
    perm = list(range(x.rank))
    p.random.shuffle(perm)
    return mil.transpose(x, perm=tuple(perm))


def _slice(p: Program, x: Value) -> Value:
    begin, end, stride = [], [], []
    for size in x.shape:
        start = p.random.randrange(size) if p.random.random() < 0.3 else 0
        begin.append(start)
        end.append(p.random.randint(start + 1, size) if p.random.random() < 0.3 else size)
        stride.append(p.random.choice([1, 1, 1, 2]))
    return mil.slice_by_index(x, begin, end, stride=stride)


def _split(p: Program, x: Value) -> list[Value] | None:
    axis = p.axis(x)
    size = x.shape[axis]
    at = p.random.randrange(size + 1)
    parts = mil.split.many(x, split_sizes=[at, size - at] if 0 < at < size else [size], axis=axis)
    if p.random.random() < 0.6:
        return [*parts, mil.concat(list(parts), axis=axis)]
    return list(parts)


def _concat(p: Program, x: Value) -> Value | None:
    axis = p.axis(x)
    others = [i for i in range(x.rank) if i != axis]
    fitting = [v for v in p.values if v.rank == x.rank and all(v.shape[i] == x.shape[i] for i in others)]
    pieces = [x, *(p.random.choice(fitting) for _ in range(p.random.randrange(3)))]
    p.random.shuffle(pieces)
    return mil.concat(pieces, axis=axis)


def _pad(p: Program, x: Value) -> Value:
    axes = p.random.randint(1, min(2, x.rank))
    return mil.pad(x, [p.random.randrange(2) for _ in range(2 * axes)], constant_val=p.random.choice([0.0, 0.0, 1.0]))


def _conv(p: Program, x: Value) -> Value | None:
    fitting = [v for v in p.values if v.rank == 4 and min(v.shape[2:]) >= 2]
    if not fitting:
        return None
    x = fitting[-1]
    made = _plain_conv(p, x)
    if p.random.random() < 0.5:
        return made
    # What usually stands behind a conv.
    vector = p.weight(made.shape[1], 1, 1)
    return p.random.choice([_batch_norm, lambda _, y: mil.mul(y, vector), lambda _, y: mil.add(y, vector)])(p, made)


def _plain_conv(p: Program, x: Value) -> Value:
    groups = p.random.choice([g for g in (1, 2) if x.shape[1] % g == 0])
    out = groups * p.random.randint(1, 3)
    bias = p.weight(out) if p.random.random() < 0.5 else None
    if p.random.random() < 0.3:
        return mil.conv_transpose(x, p.weight(x.shape[1], out // groups, 2, 1), bias, groups=groups)
    attrs: dict[str, object] = p.random.choice([{"pad_type": "valid"}, {"pad_type": "custom", "pad": (0, 1, 1, 0)}])
    return mil.conv(x, p.weight(out, x.shape[1] // groups, 2, 1), bias, groups=groups, **attrs)


def _batch_norm(p: Program, x: Value) -> Value | None:
    if not 3 <= x.rank <= 5:
        return None
    size = x.shape[1]
    gamma, beta = (p.weight(size), p.weight(size)) if p.random.random() < 0.5 else (None, None)
    return mil.batch_norm(x, p.weight(size), p.weight(size, positive=True), gamma, beta)


def _pool(p: Program, x: Value) -> Value | None:
    if x.rank != 4 or min(x.shape[2:]) < 2:
        return None
    pool = p.random.choice([mil.avg_pool, mil.max_pool])
    return pool(x=x, kernel_sizes=[2, 2], pad_type=p.random.choice(["valid", "same"]))


def _linear(p: Program, x: Value) -> Value | None:
    size = x.shape[-1]
    if p.random.random() < 0.5 and x.rank <= 3:
        return mil.linear(x, p.weight(3, size), p.weight(3) if p.random.random() < 0.5 else None)
    return mil.matmul(x, p.weight(size, 3)) if x.rank > 1 else None


def _matmul(p: Program, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    swapped = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    return mil.matmul(x, mil.transpose(x, perm=swapped))


def _tile(p: Program, x: Value) -> Value | None:
    reps = [p.random.choice([1, 1, 2]) for _ in x.shape]
    tiled = mil.tile(x, reps)
    if tiled.tensor.size > LARGEST:
        return None
    return mil.add(tiled, p.weight(*tiled.shape)) if p.random.random() < 0.5 else tiled


def _select(p: Program, x: Value) -> Value:
    positive: Value | Literal = mil.greater(x, 0.0) if p.random.random() < 0.5 else Literal(p.random.random() < 0.5)
    return mil.select(positive, x, mil.mul(x, 2.0))


def _casts(p: Program, x: Value) -> Value:
    return mil.cast(mil.cast(x, dtype=p.random.choice(["fp32", "int32"])), dtype="fp32")


def _reduce(p: Program, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    return p.random.choice([mil.reduce_mean, mil.reduce_max])(x, axes=[p.axis(x)], keep_dims=p.random.random() < 0.5)


def _again(p: Program, x: Value) -> Value | None:
    """The op that made ``x`` once more, for cse."""
    if x.op is None or len(x.op.results) != 1:
        return None
    arguments = {name: given for name, given in x.op.arguments().items() if given is not None}
    return x.op.defn.build((), {**arguments, **x.op.attrs}).result


MENU: list[Maker] = [
    _combine, _combine, _divide, _bound, _unary, _reshape, _ones, _transpose, _slice, _split, _concat, _pad, _conv,
    _batch_norm, _pool, _linear, _matmul, _tile, _select, _casts, _reduce, _again,
]  # fmt: skip

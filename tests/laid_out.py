"""What tests of the layout share: a small function, and a model compiled with it, its numbers checked and its ops counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn as tnn

import anec
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Value
from anec.ir.types import DType, TensorType
from anec.ir.weights import TensorData, Weight
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate


class Program:
    """Builds a function of one input and random weights."""

    def __init__(self, *shape: int) -> None:
        self.module, self.graph = Module(), Graph()
        self.module.functions["main"] = self.graph
        self.x = self.graph.add_input("x", TensorType(DType.F32, shape))
        self.generator = torch.Generator().manual_seed(sum(shape))

    def weight(self, *shape: int) -> Value:
        data = torch.randn(*shape, generator=self.generator)
        made = Weight(f"w{len(self.module.weights)}", TensorType(DType.F32, shape), TensorData(data))
        return self.graph.add_weight(self.module.add_weight(made))

    def returns(self, make: Callable[[Value], object]) -> Module:
        with Builder(self.graph).active():
            made = make(self.x)
        self.graph.outputs = list(made) if isinstance(made, (tuple, list)) else [made]  # type: ignore[list-item]
        return self.module

    def numbers(self) -> dict[str, torch.Tensor]:
        x = torch.randn(*self.x.shape, generator=self.generator, dtype=torch.float64)
        return evaluate(self.module, {"x": x}, precision=DOUBLE) | {"x": x}


def counts(module: Module) -> Counter[str]:
    return Counter(op.name.removeprefix("mil.") for op in module.main if not op.is_constant)


# Small programs write no transposes of their own: what their ends take is let through.
FREE = "default,ane-attention,ane{bounded=false},ane-layout"


def compiled(model: tnn.Module, *shape: int, passes: str = FREE) -> Counter[str]:
    torch.manual_seed(0)
    x = torch.randn(*shape)
    for parameter in model.parameters():
        tnn.init.normal_(parameter, 0.1, 0.5)
    with torch.no_grad():
        wanted = model.eval()(x)
    made = anec.compile(model, (x,), passes=passes, precision="fp32")
    found = made.run({made.input_names[0]: x})
    torch.testing.assert_close(torch.as_tensor(next(iter(found.values()))), wanted, rtol=1e-4, atol=1e-5)
    return counts(made.module)

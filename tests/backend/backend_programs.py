"""Programs as IR text with weights drawn from a seed, and what protobufs of them hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anec.backend import load, save
from anec.backend.quiet import ct
from anec.dialects import registry
from anec.ir.attrs import Literal, format_attr
from anec.ir.graph import Graph, Module, Op, Value
from anec.ir.opdef import Effect, Kind
from anec.ir.parser import parse_module
from anec.ir.types import DType
from anec.ir.weights import TensorData, torch_dtype


def read(text: str, seed: int = 0) -> Module:
    """The module of ``text``; float weights are normal, integer ones fill their range."""
    module = parse_module(text.strip(), registry)
    generator = torch.Generator().manual_seed(seed)
    for weight in module.weights.values():
        dtype, shape = weight.type.dtype, weight.type.static_shape
        if dtype is DType.BOOL:
            tensor = torch.rand(shape, generator=generator) < 0.5
        elif dtype.is_float:
            tensor = torch.randn(shape, generator=generator).to(torch_dtype(dtype))
        else:
            low, high = dtype.range
            low, high = max(low, -(2**31)), min(high, 2**31 - 1)
            tensor = torch.randint(low, high + 1, shape, generator=generator).to(torch_dtype(dtype))
        weight.data = TensorData(tensor)
    return module


def program(ops: str, inputs: str, outputs: str, target: str = "iOS18", dims: str = "") -> str:
    """The text of a module of one function."""
    returned = ", ".join("%" + part.split(":")[0].strip().removeprefix("%") for part in outputs.split("; "))
    lines = "\n".join("  " + line.strip() for line in ops.strip().splitlines())
    head = f"anec 1\nmodule target={target}\n" + (f"dims {dims}\n" if dims else "")
    return f"{head}\nfunc main({inputs}) -> ({outputs.replace('; ', ', ')}) {{\n{lines}\n  return {returned}\n}}\n"


def spec_of(path: Path) -> Any:
    """The ``Model`` protobuf of a package, as coremltools reads it."""
    return ct.utils.load_spec(str(path))


def operations(model: Any, function: str = "main", *, consts: bool = False) -> list[Any]:
    """The operations of a function of a ``Model`` protobuf."""
    found = model.mlProgram.functions[function]
    block = found.block_specializations[found.opset]
    return [op for op in block.operations if consts or op.type != "const"]


def files(package: Path) -> dict[str, bytes]:
    """Every file of a package by its path."""
    return {str(p.relative_to(package)): p.read_bytes() for p in sorted(package.rglob("*")) if p.is_file()}


def folded(graph: Graph) -> set[Value]:
    """The values that emission computes: results of effect-free ops on constants, outputs and constexpr apart."""
    found = set(graph.weights.values())
    for op in graph.ops():
        plain = op.defn.effects is Effect.NONE and "constexpr" not in op.name
        if plain and not any(r.is_output for r in op.results) and all(v in found for v in op.inputs):
            found.update(op.results)
    return found


def emitted_lines(graph: Graph) -> list[str]:
    """One line an op that reaches the program: results, name, operands, attributes in parameter order."""
    constant = folded(graph)
    return [_line(op) for op in graph.ops() if not (op.results and op.results[0] in constant)]


def _line(op: Op) -> str:
    results = ", ".join(f"{value.name}: {value.type}" for value in op.results)
    operands = []
    for param in op.defn.operand_params:
        items = [op.operands[i] for i in op.slot(param.name)]
        shown = ", ".join(str(i) if isinstance(i, Literal) else "%" + i.name for i in items if i is not None)
        operands.append(f"{param.name}=[{shown}]" if param.kind is Kind.VARIADIC else f"{param.name}={shown}")
    return f"{results} = {op.name}({'; '.join(o for o in operands if not o.endswith('='))})"


def given_attrs(graph: Graph) -> dict[str, dict[str, str]]:
    """The attributes each emitted op gives, by the op's first result."""
    constant = folded(graph)
    return {
        op.results[0].name: {name: format_attr(value) for name, value in op.attrs.items() if value is not None}
        for op in graph.ops()
        if op.results and op.results[0] not in constant
    }


def assert_round_trip(before: Module, after: Module) -> None:
    """Assert that ``after``, loaded again, holds the ops of ``before``, op by op, and attributes that it gave."""
    assert list(after.functions) == list(before.functions)
    assert after.target == before.target
    for name, graph in before.functions.items():
        found = after.functions[name]
        assert emitted_lines(found) == emitted_lines(graph)
        assert [(v.name, v.type) for v in found.inputs] == [(v.name, v.type) for v in graph.inputs]
        assert [v.name for v in found.outputs] == [v.name for v in graph.outputs]
        assert found.signature == graph.signature
        given, read_back = given_attrs(graph), given_attrs(found)
        assert given.keys() == read_back.keys()
        for op, attrs in given.items():
            assert attrs.items() <= read_back[op].items(), op


def there_and_back(module: Module, folder: Path) -> Module:
    """Save, load, save: the two packages must agree byte for byte."""
    save(module, folder / "a.mlpackage")
    found = load(folder / "a.mlpackage")
    save(found, folder / "b.mlpackage")
    assert files(folder / "a.mlpackage") == files(folder / "b.mlpackage")
    return found


CONV = program(
    """
    %w = weight "conv.weight" : f16[4,3,3,3]
    %b = weight "conv.bias" : f32[4]
    %scale = weight "norm.weight" : f16[8]
    %xh = mil.cast(%x) {dtype="fp16"} : f16[1,3,8,8]
    %bh = mil.cast(%b) {dtype="fp16"} : f16[4]
    %c = mil.conv(%xh, %w, %bh) {pad_type="custom", pad=[1,1,1,1]} : f16[1,4,8,8]
    %m = mil.mul(%c, 1.702) : f16[1,4,8,8]
    %r = mil.reshape(%m, [4,8,8]) : f16[4,8,8]
    %n = mil.layer_norm(%r, %scale) {axes=[-1], epsilon=1e-05} : f16[4,8,8]
    %y = mil.cast(%n) {dtype="fp32"} : f32[4,8,8]
    """,
    '%x: f32[1,3,8,8] {path="args[0]"}',
    "%y: f32[4,8,8]",
)

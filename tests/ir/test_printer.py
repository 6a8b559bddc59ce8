"""The printer: canonical text, and no error on a broken graph."""

from __future__ import annotations

from typing import Any

import pytest

from anec import aten, mil
from anec.dialects import registry
from anec.ir.attrs import Literal, freeze
from anec.ir.build import Builder
from anec.ir.diff import differences, unified
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import OpDef
from anec.ir.parser import parse_module
from anec.ir.printer import Reference, print_module, print_op, window
from anec.ir.signature import Port, PortKind
from anec.ir.types import DType, StateType, TensorType
from anec.ir.weights import Weight

F24 = TensorType(DType.F32, (2, 4))


def example() -> Module:
    module = Module(target="iOS17", meta={"author": 'a "b"'})
    graph = module.functions["main"] = Graph("main")
    x = graph.add_input("x", F24)
    scale = graph.add_weight(module.add_weight(Weight("norm.weight", TensorType(DType.F32, (4,)))))
    graph.signature.inputs = [Port("x", F24, path="args[0]")]
    with Builder(graph, origin=Origin("norm", "block.py:21", ("fuse",))).active():
        y = mil.layer_norm(x, axes=[-1], gamma=scale, epsilon=1e-5)
        first, second = mil.split.many(mil.add(y, 1.702), num_splits=2, axis=1)
        empty = mil.reshape(mil.reduce_sum(first), ())
    graph.outputs = [first, second, empty]
    return module


TEXT = """anec 1
module target=iOS17
meta "author" = "a \\"b\\""

func main(%x: f32[2,4] {path="args[0]"}) -> (%output0: f32[2,2], %output1: f32[2,2], %output2: f32[]) {
  %norm_weight = weight "norm.weight" : f32[4]
  %layer_norm = mil.layer_norm(%x, %norm_weight) {axes=[-1], epsilon=1e-05} : f32[2,4]
  %add = mil.add(%layer_norm, 1.702) : f32[2,4]
  %split, %split_1 = mil.split(%add) {num_splits=2, axis=1} : f32[2,2], f32[2,2]
  %reduce_sum = mil.reduce_sum(%split) : f32[]
  %reshape = mil.reshape(%reduce_sum, []) : f32[]
  return %split, %split_1, %reshape
}
"""


def test_canonical_text() -> None:
    module = example()
    text = "\n".join(line.split("  ; ")[0].rstrip() for line in str(module).split("\n"))
    assert text == TEXT
    assert str(module).count("  ; norm  block.py:21  <fuse>\n") == 5
    assert str(parse_module(str(module), registry)) == str(module)


def test_weights_with_references() -> None:
    module = example()
    text = print_module(module, {"norm.weight": Reference("w/a b.bin", 64, "ab12"), "gone": Reference("x", 0, "00")})
    assert 'weight "norm.weight" : f32[4] @ "w/a b.bin" +64 sha256:ab12\n' in text
    assert "gone" not in text


def test_ports_say_all() -> None:
    module = Module()
    graph = module.functions["main"] = Graph("main")
    graph.add_input("image", TensorType(DType.F16, (1, 3, 8, 8)))
    graph.add_input("cache", StateType(F24))
    graph.signature.inputs = [
        Port("pixels", TensorType(DType.F32, (1, 3, 8, 8)), "images", DType.F16, PortKind.IMAGE, 0.5, (1.0, -0.0)),
        Port("cache", StateType(F24), kind=PortKind.STATE),
    ]
    line = next(line for line in str(module).split("\n") if line.startswith("func"))
    assert line == (
        'func main(%image: f16[1,3,8,8] {name="pixels", path="images", type="f32[1,3,8,8]", boundary=f16, '
        'kind="image", scale=0.5, bias=[1.0, -0.0]}, %cache: state<f32[2,4]> {kind="state"}) -> () {'
    )
    assert parse_module(str(module), registry).main.signature == graph.signature


def broken_graphs() -> list[tuple[str, Module]]:
    found = []
    for name in (
        "other graph",
        "no results",
        "odd attributes",
        "unregistered",
        "no names",
        "half a signature",
        "cut list",
    ):
        module = example()
        graph = module.main
        first = graph.first
        assert first is not None
        if name == "other graph":
            first._operands[0] = Value("ghost", F24)
        elif name == "no results":
            first.results = []
        elif name == "odd attributes":
            first.attrs.update({"axes": object(), "strange": {1: 2}, "list": [1]})  # type: ignore[dict-item]
            first._operands[1] = Literal(object())  # type: ignore[arg-type]
        elif name == "unregistered":
            graph.values.clear()
        elif name == "no names":
            first.result.name = None  # type: ignore[assignment]
        elif name == "half a signature":
            graph.signature.outputs = [Port("a", F24)]
            graph.signature.inputs = []
            graph.weights["norm.weight"].weight = None
        else:
            first.next = None
        found.append((name, module))
    return found


@pytest.mark.parametrize(("name", "module"), broken_graphs(), ids=lambda given: given if isinstance(given, str) else "")
def test_broken_graphs_print(name: str, module: Module) -> None:
    text = str(module)
    assert text.startswith("anec 1\n")
    for op in module.ops():
        assert op.name in print_op(op)
        assert op.name in window(op)
        assert op.name in repr(op)


def test_the_window_points_at_the_op() -> None:
    module = example()
    ops = list(module.main.ops())
    lines = window(ops[2], radius=1).split("\n")
    assert [line[:2] for line in lines] == ["  ", "> ", "  "]
    assert "mil.split" in lines[1]
    assert len(window(ops[0], radius=9).split("\n")) == 5


def test_differences_are_told_line_by_line() -> None:
    left, right = example(), example()
    right.target = "iOS18"
    op = next(op for op in right.ops() if op.name == "mil.add")
    op.set_operand(1, Literal(1.5))
    found = differences(left, right)
    assert found[0] == "target: iOS17 became iOS18"
    assert "func main: -  %add = mil.add(%layer_norm, 1.702) : f32[2,4]" in found
    assert "func main: +  %add = mil.add(%layer_norm, 1.5) : f32[2,4]" in found
    assert "-module target=iOS17" in unified(left, right)
    right.functions["other"] = Graph("other")
    assert "func other: only in the second" in differences(left, right)
    assert differences(left, example()) == []


def test_strings_of_attributes_are_compared_whatever_they_hold() -> None:
    """A string that looks like a value, or like a line of the header, is still a string."""
    modules = []
    for text in ("%a", "%b", "x = weight y"):
        module = Module()
        graph = module.functions["main"] = Graph("main")
        a = graph.add_input("a", F24)
        with Builder(graph).active():
            graph.outputs = [aten.gelu.default(a, approximate="none")]
        assert graph.first is not None
        graph.first.set_attr("approximate", text)
        modules.append(module)
    assert differences(modules[0], modules[1], names=False)
    assert differences(modules[0], modules[2])


@pytest.mark.parametrize("given", [b"ab", {1: 2}, object(), 1j])
def test_what_cannot_be_an_attribute(given: Any) -> None:
    from anec.errors import AnecError

    with pytest.raises(AnecError, match="cannot be an attribute"):
        freeze(given)


def test_numpy_and_torch_numbers_become_plain() -> None:
    import numpy as np
    import torch

    for given, wanted in ((np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True), (torch.tensor(2.5), 2.5)):
        assert freeze(given) == wanted
        assert type(freeze(given)) is type(wanted)
    assert freeze([np.float64(1.0), (2, [True])]) == (1.0, (2, (True,)))


def test_ops_without_operands_or_results() -> None:
    graph = Graph()
    state = graph.add_input("s", StateType(F24))
    defn: OpDef = registry.resolve("nn.write_state")
    op = Op(defn, {"state": state, "value": Literal(0.0)}, {}, Origin())
    graph.insert(op)
    assert print_op(op) == "nn.write_state(%s, 0.0)"

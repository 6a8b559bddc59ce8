"""The verifier: each broken law is an error with a window, and good graphs pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from anec import aten, mil
from anec.dialects import registry
from anec.errors import VerifyError
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Op, Origin, Value
from anec.ir.opdef import OpDef, Param
from anec.ir.parser import parse_module
from anec.ir.signature import Port
from anec.ir.types import DType, TensorType
from anec.ir.verify import verify
from anec.ir.weights import TensorData, Weight

F4 = TensorType(DType.F32, (4,))


def example() -> Module:
    """x, w -> relu -> add -> concat."""
    module = Module()
    graph = module.functions["main"] = Graph("main")
    x = graph.add_input("x", F4)
    w = graph.add_weight(module.add_weight(Weight("w", F4, TensorData(torch.ones(4)))))
    with Builder(graph, origin=Origin("block", "model.py:7")).active():
        y = mil.add(mil.relu(x), w)
        graph.outputs = [mil.concat([y, x], axis=0)]
    graph.signature.inputs = [Port("x", F4)]
    graph.signature.outputs = [Port("y", TensorType(DType.F32, (8,)))]
    return module


def ops(module: Module) -> list[Op]:
    return list(module.main.ops())


def use_before_definition(m: Module) -> None:
    relu, add, _ = ops(m)
    relu.set_operand(0, add.result)


def forgotten_use(m: Module) -> None:
    m.main.inputs[0].uses.clear()


def stale_use(m: Module) -> None:
    relu, add, _ = ops(m)
    m.main.inputs[0].uses[add, 0] = None


def use_beyond_the_operands(m: Module) -> None:
    m.main.inputs[0].uses[ops(m)[0], 9] = None


def use_by_an_erased_op(m: Module) -> None:
    with Builder(m.main).active():
        gone = mil.abs(m.main.inputs[0]).op
    assert gone is not None
    m.main.erase(gone)
    m.main.inputs[0].uses[gone, 0] = None


def foreign_value(m: Module) -> None:
    ops(m)[0].set_operand(0, Graph("other").add_input("x", F4))


def unknown_attribute(m: Module) -> None:
    ops(m)[0].attrs["alpha"] = 1.0


def operand_as_attribute(m: Module) -> None:
    ops(m)[1].attrs["y"] = 1.0


def missing_attribute(m: Module) -> None:
    del ops(m)[2].attrs["axis"]


def missing_operand(m: Module) -> None:
    ops(m)[0].set_operand(0, None)


def wrong_dtype(m: Module) -> None:
    ops(m)[0].set_operand(0, Literal(1, DType.I64))


def wrong_value_dtype(m: Module) -> None:
    m.main.inputs[0].type = TensorType(DType.I8, (4,))


def mixed_domain(m: Module) -> None:
    half = m.main.add_input("half", TensorType(DType.F16, (4,)))
    m.main.signature.inputs.append(Port("half", half.type))
    ops(m)[1].set_operand(0, half)


def wrong_type(m: Module) -> None:
    ops(m)[0].result.type = TensorType(DType.F32, (5,))


def untypable(m: Module) -> None:
    m.main.inputs[0].type = TensorType(DType.F32, (3,))


def wrong_dialect(m: Module) -> None:
    with Builder(m.main).active():
        aten.relu.default(m.main.inputs[0])


def too_many_results(m: Module) -> None:
    relu = ops(m)[0]
    extra = Value("extra", F4, op=relu, index=1)
    m.main.values["extra"] = extra
    relu.results.append(extra)


def unregistered_result(m: Module) -> None:
    m.main.values.pop("relu")


def wrong_result_index(m: Module) -> None:
    ops(m)[0].result.index = 1


def unregistered_input(m: Module) -> None:
    m.main.values["x"] = Value("x", F4)


def unknown_weight(m: Module) -> None:
    m.weights.clear()


def other_weight_type(m: Module) -> None:
    m.main.weights["w"].type = TensorType(DType.F32, (1,))


def undefined_output(m: Module) -> None:
    m.main.outputs = [Value("ghost", F4)]


def missing_port(m: Module) -> None:
    m.main.signature.outputs.append(Port("z", F4))


def equal_port_names(m: Module) -> None:
    m.main.add_input("other", F4)
    m.main.signature.inputs.append(Port("x", F4))


def unpaired_shapes(m: Module) -> None:
    m.main.add_input("other", F4)
    first, *_ = m.main.signature.inputs
    m.main.signature.inputs[:] = [replace(first, shapes=((4,), (4,))), Port("other", F4, shapes=((4,),))]


def undeclared_symbol(m: Module) -> None:
    from anec.ir.dims import symbol

    m.main.add_input("long", TensorType(DType.F32, (symbol("S"),)))
    m.main.signature.inputs.append(Port("long", F4))


def op_of_another_graph(m: Module) -> None:
    ops(m)[1].graph = Graph("other")


def broken_link(m: Module) -> None:
    ops(m)[1].prev = None


def broken_order(m: Module) -> None:
    first, second, _ = ops(m)
    first._key, second._key = second._key, first._key


def wrong_count(m: Module) -> None:
    m.main.op_count = 7


def own_law(m: Module) -> None:
    from anec.errors import AnecError

    def check(op: Op) -> None:
        raise AnecError("even numbers only")

    defn = OpDef("mil.odd", (Param("x"),), verify=check, infer=lambda op: (F4,))
    with Builder(m.main).active():
        defn(m.main.inputs[0])


LAWS: list[tuple[Callable[[Module], None], str]] = [
    (use_before_definition, "mil.relu uses %add before it is defined"),
    (forgotten_use, "%x does not know its use by mil.relu"),
    (stale_use, "%x lists a use by mil.add that is gone"),
    (use_beyond_the_operands, "%x lists a use by mil.relu that is gone"),
    (use_by_an_erased_op, "%x lists a use by mil.abs that is gone"),
    (foreign_value, "mil.relu uses %x before it is defined"),
    (unknown_attribute, "mil.relu has no attribute 'alpha'"),
    (operand_as_attribute, "mil.add has no attribute 'y'"),
    (missing_attribute, "mil.concat lacks the attribute 'axis'"),
    (missing_operand, "mil.relu lacks the operand 'x'"),
    (wrong_dtype, "mil.relu: x is i64; it takes f16, f32"),
    (wrong_value_dtype, "mil.relu: x is i8; it takes f16, f32"),
    (mixed_domain, "mil.add: y is f32, but x is f16"),
    (wrong_type, "mil.relu gives f32[4], recorded is f32[5]"),
    (untypable, "mil.relu gives f32[3], recorded is f32[4]"),
    (wrong_dialect, "aten.relu.default is not of the dialects mil"),
    (too_many_results, "mil.relu has 1 results, not 2"),
    (unregistered_result, "the result %relu is not registered"),
    (wrong_result_index, "the result %relu is not registered"),
    (unregistered_input, "%x is not registered in main"),
    (unknown_weight, "%w refers to the weight 'w', which the module does not hold"),
    (other_weight_type, "%w is f32[1], its weight is f32[4]"),
    (undefined_output, "the output %ghost of main is not defined in it"),
    (missing_port, "main has 1 outputs, its signature 2"),
    (equal_port_names, "two inputs of main are called 'x'"),
    (unpaired_shapes, "the inputs of main list different numbers of shapes"),
    (undeclared_symbol, "%long is f32[S]; the module does not declare S"),
    (op_of_another_graph, "mil.add does not know its graph"),
    (broken_link, "mil.add does not know the op in front of it"),
    (broken_order, "mil.add has no place behind mil.relu"),
    (wrong_count, "main holds 3 ops and counts 7"),
    (own_law, "even numbers only"),
]


@pytest.mark.parametrize(("spoil", "message"), LAWS, ids=[spoil.__name__ for spoil, _ in LAWS])
def test_each_law(spoil: Callable[[Module], None], message: str) -> None:
    module = example()
    verify(module, dialects={"mil"})
    spoil(module)
    with pytest.raises(VerifyError, match=re.escape(message)) as caught:
        verify(module, dialects={"mil"})
    assert caught.value.window
    assert "mil." in caught.value.window
    assert "model.py:7" in (caught.value.where or caught.value.window)


def test_types_may_be_left_out() -> None:
    module = example()
    wrong_type(module)
    verify(module, types=False)
    with pytest.raises(VerifyError):
        verify(module)


SYMBOLIC = """anec 1
module target=iOS18
dims S in {bounds}

func main(%x: f32[1,S,4]) -> (%y: f32[{dim}]) {{
  %w = weight "w" : f32[8,4,3]
  %t = mil.transpose(%x) {{perm=[0, 2, 1]}} : f32[1,4,S]
  %y = mil.conv(%t, %w) {{strides=[2], pad_type="custom", pad=[1, 1], dilations=[1]}} : f32[{dim}]
  return %y
}}
"""


@pytest.mark.parametrize(
    ("dim", "good"),
    [
        ("1,8,(S-1)//2+1", True),
        ("1,8,(S+1)//2", True),  # another spelling of the same size
        ("1,8,S//2", False),
        ("1,8,4", False),
        ("1,8,S-S//2", True),
        ("1,8,max((S+1)//2, 1)", True),
        ("1,8,max((S+1)//2, 3)", False),
    ],
)
def test_spellings_of_a_symbolic_size(dim: str, good: bool) -> None:
    module = parse_module(SYMBOLIC.format(bounds="1..512", dim=dim), registry)
    if good:
        verify(module)
    else:
        with pytest.raises(VerifyError, match="recorded is"):
            verify(module)


def test_sizes_are_compared_within_their_bounds() -> None:
    module = parse_module(SYMBOLIC.format(bounds="7..8", dim="1,8,4"), registry)
    verify(module)

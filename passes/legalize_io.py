"""Make the boundary what Core ML accepts.

    %m: bool[4]
    %y = mil.logical_not(%m)     ->     %1 = mil.cast(%m) {dtype="bool"}
                                        %2 = mil.logical_not(%1)
                                        %y = mil.cast(%2) {dtype="int32"} : i32[4]

Inputs and outputs are float32 (float16 on request, from iOS16) or int32, of rank 1 to 5; no value
is both input and output, or two outputs; outputs are made by an op and carry their public names.
Source: Core ML's ML Program interface, and what coremltools' own backend passes enforce.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

from anec.dialects import mil
from anec.errors import AnecError
from anec.ir.attrs import Literal
from anec.ir.facts import is_constant
from anec.ir.graph import Graph, Value, legal_name
from anec.ir.signature import Port, PortKind
from anec.ir.types import DType, StateType, TensorType
from anec.passes.common import holds
from anec.passes.legalize_states import legalize_states
from anec.passes.lower_to_mil.typing import MIL_NAMES
from anec.pipeline.base import EXACT, Context, Pass
from anec.pipeline.registry import register

MAX_RANK = 5


@register
@dataclass
class LegalizeIo(Pass):
    """Give inputs and outputs legal dtypes, ranks and names.

    Attributes:
        io_dtype: the dtype of float inputs and outputs; fp16 needs iOS16.
    """

    name = "legalize-io"
    fidelity = EXACT
    dialects = frozenset({"mil"})
    after = ("lower-to-mil", "to-fp16")
    requires = ("mil",)

    io_dtype: typing.Literal["fp32", "fp16"] = "fp32"

    def run(self, graph: Graph, ctx: Context) -> None:
        if self.io_dtype == "fp16" and ctx.module.opset < 16:
            raise AnecError("float16 inputs and outputs need iOS16", hint="compile with --target iOS16 or later")
        floats = DType.F16 if self.io_dtype == "fp16" else DType.F32
        if not graph.outputs:
            raise AnecError(f"the function {graph.name} has no output", hint="return a tensor from forward")
        # Outputs first: an input that is also an output gets its own op before its type changes.
        _separate_outputs(graph, ctx)
        legalize_states(graph, ctx)
        for value in list(graph.inputs):
            if not isinstance(value.type, StateType):
                _legalize_input(graph, ctx, value, floats)
        for index in range(len(graph.outputs)):
            _legalize_output(graph, ctx, index, floats)
        _public_names(graph)


def _boundary(type_: TensorType, floats: DType, name: str) -> TensorType:
    if type_.rank > MAX_RANK:
        hint = "reshape it outside of the model"
        raise AnecError(f"{name} has rank {type_.rank}; Core ML takes ranks 1 to {MAX_RANK}", hint=hint)
    if 0 in type_.shape:
        raise AnecError(f"{name} is {type_}; Core ML has no empty tensors", hint="give an example with numbers in it")
    if type_.dtype.is_complex:
        raise AnecError(f"{name} is {type_.dtype}; Core ML has no complex numbers", hint="use torch.view_as_real")
    dtype = floats if type_.dtype.is_float else DType.I32
    return TensorType(dtype, type_.shape or (1,))


def _legalize_input(graph: Graph, ctx: Context, value: Value, floats: DType) -> None:
    inner = value.tensor
    outer = _boundary(inner, floats, f"the input %{value.name}")
    port = next((p for p, v in zip(graph.signature.inputs, graph.inputs, strict=False) if v is value), None)
    is_image = port is not None and port.kind is PortKind.IMAGE
    if outer == inner and not is_image:
        return
    uses = list(value.uses)
    value.type = outer
    if not uses:
        return
    with ctx.builder(before=graph.first) as builder:
        builder.name = value.name
        legal = value
        if outer.dtype is not inner.dtype:
            legal = mil.cast(legal, dtype=MIL_NAMES[inner.dtype])
        if outer.rank != inner.rank:
            legal = mil.squeeze(legal, axes=[0])
        if is_image and port is not None:
            if port.scale != 1.0:
                legal = mil.mul(legal, port.scale)
            if any(port.bias):
                legal = mil.add(legal, _bias(port.bias, inner))
    for op, index in uses:
        op.set_operand(index, legal)
    _drop_double_casts(graph, legal)


def _bias(bias: tuple[float, ...], type_: TensorType) -> Literal:
    """An image's offset a channel, shaped to add to (1, C, H, W) or (C, H, W)."""
    if len(bias) == 1:
        return Literal(bias[0])
    channels = tuple(((offset,),) for offset in bias)
    return Literal((channels,) if type_.rank == 4 else channels)


def _drop_double_casts(graph: Graph, value: Value) -> None:
    """A float16 input no longer needs the cast behind it: cast(x: f16 -> f32 -> f16) is x."""
    if value.op is None or value.op.name != "mil.cast":
        return
    source = value.op.value("x")
    if not holds(value.tensor.dtype, source.tensor.dtype):
        return  # cast(x: i32 -> bool -> i32) makes 1 of every number but 0
    for user in value.users:
        if user.name == "mil.cast" and user.result.type == source.type:
            graph.replace(user.result, source)
            graph.erase(user)
    if not value.uses and not value.is_output:
        graph.erase(value.op)


def _separate_outputs(graph: Graph, ctx: Context) -> None:
    """An op of its own for each output that is an input, a constant, or an output already."""
    seen: set[Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.op is None or value in seen or is_constant(value):
            with ctx.builder(before=None) as builder:
                builder.name = value.name
                value = graph.outputs[index] = mil.identity(value)
        seen.add(value)


def _legalize_output(graph: Graph, ctx: Context, index: int, floats: DType) -> None:
    value = graph.outputs[index]
    outer = _boundary(value.tensor, floats, f"the output %{value.name}")
    if outer == value.tensor:
        return
    source = _uncast(value, outer)
    with ctx.builder(before=None, like=value.op) as builder:
        builder.name = value.name
        legal = source
        if outer.dtype is not source.tensor.dtype:
            legal = mil.cast(legal, dtype=MIL_NAMES[outer.dtype])
        if outer.rank != value.rank:
            legal = mil.expand_dims(legal, axes=[0])
        if legal is source and (source.op is None or source in graph.outputs):
            legal = mil.identity(legal)
    graph.outputs[index] = legal
    if value.op is not None and not value.uses and not value.is_output:
        graph.erase(value.op)


def _uncast(value: Value, outer: TensorType) -> Value:
    """What the program casts in front of an output that would be cast back: cast(x: f16 -> f32 -> f16) is x."""
    if value.op is None or value.op.name != "mil.cast" or value.uses:
        return value
    source = value.op.operand("x")
    if isinstance(source, Value) and source.type == outer and holds(value.tensor.dtype, source.tensor.dtype):
        return source
    return value


def _public_names(graph: Graph) -> None:
    """Values at the boundary carry their ports' names, whoever has such a name makes room, and all names are legal."""
    ports = [*zip(graph.signature.inputs, graph.inputs, strict=False)]
    ports += [*zip(graph.signature.outputs, graph.outputs, strict=False)]
    for port, value in ports:
        name = legal_name(port.name)
        holder = graph.values.get(name)
        if holder is value:
            continue
        if holder is not None:
            if any(holder is other for _, other in ports) and _named(holder, ports) == name:
                raise AnecError(f"an input and an output are both called {name!r}", hint="name them with output_names")
            graph.rename(holder, name + "_inner")
        graph.rename(value, name)
    for value in [value for value in graph.values.values() if legal_name(value.name) != value.name]:
        graph.rename(value, legal_name(value.name))


def _named(value: Value, ports: list[tuple[Port, Value]]) -> str:
    return next((legal_name(port.name) for port, other in ports if other is value), "")


"""Parameters, buffers and constants of a program: weights, or states where the model writes them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node

from anec.dialects import nn
from anec.errors import AnecError, UnsupportedError
from anec.frontend.origins import origin_of
from anec.frontend.weights import dtype_of, make_weight
from anec.ir.build import Builder
from anec.ir.graph import Module, Value, legal_name
from anec.ir.signature import Port, PortKind
from anec.ir.types import StateType, TensorType

_TORCH_CONSTANT = re.compile(r"_?lifted_tensor\w*|_tensor_constant\d+")


class Stored:
    """What a program holds, entered into the graph as it is used.

    Args:
        program: the exported program.
        module: gets the weights.
        builder: writes into the function's graph.
        check_nan: refuse weights that hold NaN.

    Raises:
        UnsupportedError: the program writes into an input or a parameter, or the target has no states.
    """

    def __init__(self, program: ExportedProgram, module: Module, builder: Builder, check_nan: bool) -> None:
        self._program, self._module, self._builder, self._check_nan = program, module, builder, check_nan
        self._tensors: dict[Node, tuple[str, object]] = {}
        self._states: dict[Node, tuple[Value, object]] = {}
        self._twins: dict[tuple[object, ...], Value] = {}
        self._writes: dict[str, Node] = {}
        nodes = {node.name: node for node in program.graph.nodes}
        for output in program.graph_signature.output_specs:
            self._note_write(output, nodes)
        for spec in program.graph_signature.input_specs:
            if spec.kind is not InputKind.USER_INPUT and getattr(spec.arg, "name", "") in nodes:
                self._note(nodes[spec.arg.name], str(spec.target), spec.kind)

    def __contains__(self, node: Node) -> bool:
        return node in self._tensors or node in self._states

    def value(self, node: Node) -> Value:
        """The weight behind a placeholder, or what is read of a state.

        Raises:
            AnecError: a weight without data or with NaN, a state that does not start at zeros.
        """
        return self._read(node) if node in self._states else self._weight(node)

    def writes(self) -> list[tuple[Value, Node]]:
        """The states that are written, each with the node of its new value."""
        return [(state, self._writes[name]) for state, name in self._names_of_states()]

    def _names_of_states(self) -> list[tuple[Value, str]]:
        return [(state, self._tensors[node][0]) for node, (state, _) in self._states.items()]

    def _note_write(self, output: Any, nodes: dict[str, Node]) -> None:
        if output.kind in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT):
            return
        node = nodes[output.arg.name]
        where = origin_of(node).place or None
        if output.kind is OutputKind.USER_INPUT_MUTATION:
            raise UnsupportedError(
                f"the model writes into its input {output.target!r}",
                where=where,
                hint="write into a copy, x = x.clone(), or return the new value",
            )
        if output.kind is not OutputKind.BUFFER_MUTATION:
            kind = output.kind.name.lower().replace("_", " ")
            raise UnsupportedError(f"the model has a side effect: {kind} of {output.target!r}", where=where)
        if self._module.opset < 18:
            raise UnsupportedError(
                f"the model writes the buffer {output.target!r}, and {self._module.target} has no states",
                where=where,
                hint="compile for iOS18, or pass the buffer in and return its new value",
            )
        self._writes[str(output.target)] = node

    def _note(self, node: Node, name: str, kind: InputKind) -> None:
        source = self._program.constants if name in self._program.constants else self._program.state_dict
        self._tensors[node] = (name, source.get(name))
        if kind is InputKind.BUFFER and name in self._writes:
            val = node.meta["val"]
            type_ = StateType(TensorType(dtype_of(val.dtype), tuple(int(size) for size in val.shape)))
            graph = self._builder.graph
            head, _, last = name.rpartition(".")
            # torch numbers what has no name of its own.
            known = f"{head}.buffer" if _TORCH_CONSTANT.fullmatch(last) else name
            state = graph.add_input(legal_name(known.lstrip(".")), type_)
            graph.signature.inputs.append(Port(state.name, type_, name, kind=PortKind.STATE))
            self._states[node] = (state, source.get(name))

    def _read(self, node: Node) -> Value:
        state, start = self._states[node]
        user = next(iter(node.users), node)
        if isinstance(start, torch.Tensor) and bool(torch.count_nonzero(start)) and not _is_overwritten(node):
            raise UnsupportedError(
                f"the buffer {self._tensors[node][0]!r} does not start at zeros, as states of Core ML do",
                where=origin_of(user).place or None,
                hint="fill it with zeros before compiling, or add its first value in forward",
            )
        return self._builder.create(
            nn.read_state,
            {"state": state},
            types=(state.tensor,),
            names=(f"{state.name}_value",),
            origin=origin_of(user),
        ).result

    def _weight(self, node: Node) -> Value:
        """The weight of a placeholder; two names of the same memory are one weight."""
        name, tensor = self._tensors[node]
        head, _, last = name.rpartition(".")
        if _TORCH_CONSTANT.fullmatch(last):
            head = next((origin_of(user).path for user in node.users), head)
            name = f"{head}.constant" if head else "constant"
        if tensor is None:
            raise AnecError(f"the program holds no tensor for {name!r}")
        weight = make_weight(name, tensor, check_nan=self._check_nan)
        key = (*weight.identity, weight.type)
        if key not in self._twins or not weight.type.size:
            self._twins[key] = self._builder.graph.add_weight(self._module.add_weight(weight))
        return self._twins[key]


def _is_overwritten(node: Node) -> bool:
    """True when no user looks at the numbers: ``copy`` takes the shape and dtype of what it overwrites."""
    copy = torch.ops.aten.copy.default
    return all(user.target is copy and user.args[0] is node and user.args[1] is not node for user in node.users)

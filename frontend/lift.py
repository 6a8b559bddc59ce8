"""Lifting: an exported program becomes a module of `aten` ops, one op for each fx call.

Nothing is inferred and no weight is copied: types come from the traced metadata, weights refer to
the program's own tensors. Whatever only computes sizes becomes a dimension expression.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from anec.dialects import nn, registry
from anec.errors import AnecError, UnsupportedError
from anec.frontend import boundary
from anec.frontend.boundary import Leaf
from anec.frontend.calls import Call
from anec.frontend.dims import Symbols, named_dims
from anec.frontend.names import NewNames, renamed, value_stem
from anec.frontend.origins import origin_of
from anec.frontend.weights import dtype_of, make_weight
from anec.ir.attrs import Attr, Literal
from anec.ir.build import Builder
from anec.ir.dims import Dim, Expr
from anec.ir.graph import Graph, Module, Value, legal_name
from anec.ir.opdef import Kind
from anec.ir.signature import Port, PortKind
from anec.ir.types import StateType, TensorType


@dataclass(frozen=True, slots=True)
class Lifted:
    """A lifted function and how the torch model's calls map to it.

    Args:
        module: the module, with one function.
        call: the call convention.
        inputs: example tensors by public name; empty when the program carries none.
    """

    module: Module
    call: Call
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def bind_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of a call ``model(*args, **kwargs)`` by public name; see :meth:`Call.bind_inputs`."""
        return self.call.bind_inputs(args, kwargs)

    def name_outputs(self, result: object) -> dict[str, torch.Tensor]:
        """The tensors the torch model returned by public name; see :meth:`Call.name_outputs`."""
        return self.call.name_outputs(result)


def lift(
    program: ExportedProgram,
    *,
    function: str = "main",
    target: str = "iOS18",
    input_names: NewNames = None,
    output_names: NewNames = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    check_nan: bool = True,
) -> Lifted:
    """Lift a functional exported program (see :func:`anec.frontend.decompose`) into the IR.

    Args:
        program: the program; its ops must not write in place.
        function: the name of the IR function.
        target: the Core ML target the module is for.
        input_names: public input names in order, or new names by default name.
        output_names: the same for outputs.
        args: example inputs, when the program carries none.
        kwargs: example inputs by name.
        dynamic_shapes: what the program was exported with, for the names of its `Dim` objects.
        check_nan: refuse weights that hold NaN.

    Raises:
        UnsupportedError: an op, type, size or side effect the IR does not have; with the user's line.
        UsageError: names that do not fit.
        AnecError: a weight without data or with NaN.
    """
    lifter = _Lifter(program, Module(target=target), Graph(function), check_nan)
    return lifter.run(input_names, output_names, dynamic_shapes, boundary.example_inputs(program, args, kwargs))


# Checks that torch traces along; what they state holds for the shapes the program was traced with.
_CHECKS = re.compile(r"_assert\w*|_functional_assert\w*|sym_constrain_range\w*|_make_dep_token|_functional_sym_constrain\w*")
_LIBRARY_CONSTANT = re.compile(r"_?lifted_tensor\w*|_tensor_constant\d+")


class _Lifter:
    def __init__(self, program: ExportedProgram, module: Module, graph: Graph, check_nan: bool) -> None:
        self.program, self.module, self.graph, self.check_nan = program, module, graph, check_nan
        self.builder = Builder(graph)
        self.symbols = Symbols(program.range_constraints)
        self.values: dict[Node, Value | list[Value]] = {}
        self.tensors: dict[Node, tuple[str, object]] = {}
        self.states: dict[Node, Value] = {}
        self.read_values: dict[tuple[object, ...], Node] = {}

    def run(
        self,
        input_names: NewNames,
        output_names: NewNames,
        dynamic_shapes: Any,
        example: tuple[Sequence[Any], Mapping[str, Any]] | None,
    ) -> Lifted:
        program = self.program
        nodes = {node.name: node for node in program.graph.nodes}
        arguments = boundary.argument_names(program)
        leaves = boundary.input_leaves(program, arguments)
        written = boundary.mutated_buffers(program, self.module.target)
        public = self._inputs(leaves, nodes, input_names, named_dims(program.call_spec.in_spec, arguments, dynamic_shapes))
        self._stored(nodes, written)
        for node in program.graph.nodes:
            if node.op == "call_function":
                self._call(node)
        results = boundary.output_leaves(program, [name for name in public if name])
        outputs = self._outputs(results, nodes, output_names)
        for name, node_name in written.items():
            self._write(name, nodes[node_name])
        self._drop_unused(leaves)
        used = {symbol for value in self.graph.values.values() for symbol in _symbols(value)}
        self.module.dims = self.symbols.bounds(used)
        self.module.functions[self.graph.name] = self.graph
        kept = {value.name for value in self.graph.inputs}
        call = Call(
            program.call_spec.in_spec,
            program.call_spec.out_spec,
            arguments,
            tuple(name if name in kept else None for name in public),
            {i: leaf.constant for i, leaf in enumerate(leaves) if not leaf.is_tensor},
            tuple(outputs),
        )
        return Lifted(self.module, call, call.bind_inputs(*example) if example is not None else {})

    # -- boundary ----------------------------------------------------------------------------------

    def _inputs(
        self, leaves: list[Leaf], nodes: dict[str, Node], names: NewNames, dims: dict[int, dict[int, str]]
    ) -> list[str | None]:
        """Add the tensor inputs; return the public name of each leaf."""
        tensors = [leaf for leaf in leaves if leaf.is_tensor]
        used = [leaf.default for leaf in tensors if nodes[leaf.node].users]
        public = iter(renamed([leaf.default for leaf in tensors], names, "input", used))
        given: list[str | None] = []
        for number, leaf in enumerate(leaves):
            if not leaf.is_tensor:
                self._constant(leaf, nodes)
                given.append(None)
                continue
            name = next(public)
            node = nodes[leaf.node]
            for axis, size in enumerate(node.meta["val"].shape):
                self.symbols.declare(size, dims.get(number, {}).get(axis) or f"{name}_dim{axis}")
            type_ = self._type(node.meta["val"], f"the input {name}")
            self.values[node] = self.graph.add_input(name, type_)
            self.graph.signature.inputs.append(Port(name, type_, leaf.path))
            given.append(name)
        return given

    def _constant(self, leaf: Leaf, nodes: dict[str, Node]) -> None:
        if leaf.node and nodes[leaf.node].users:
            raise UnsupportedError(
                f"the input {leaf.default} is a dynamic number", hint="pass it as a plain number to fix it, or as a tensor"
            )
        if isinstance(leaf.constant, (int, float, str)) and not leaf.node:
            self.graph.signature.notes.append(f"{leaf.default}={leaf.constant!r} is fixed")

    def _stored(self, nodes: dict[str, Node], written: dict[str, str]) -> None:
        """Note parameters, buffers and constants; make states of the buffers that are written."""
        for spec in self.program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT or not hasattr(spec.arg, "name"):
                continue
            node, name = nodes[spec.arg.name], str(spec.target)
            if spec.kind is InputKind.BUFFER and name in written:
                type_ = StateType(self._type(node.meta["val"], f"the buffer {name}"))
                state = self.graph.add_input(legal_name(name), type_)
                self.graph.signature.inputs.append(Port(state.name, type_, name, kind=PortKind.STATE))
                self.states[node] = state
                continue
            source = self.program.constants if name in self.program.constants else self.program.state_dict
            self.tensors[node] = (name, source.get(name))

    def _outputs(self, leaves: list[Leaf], nodes: dict[str, Node], names: NewNames) -> list[str | None]:
        tensors = [leaf for leaf in leaves if leaf.is_tensor]
        public = renamed([leaf.default for leaf in tensors], names, "output")
        for leaf, name in zip(tensors, public, strict=True):
            value = self._value(nodes[leaf.node])
            self.graph.outputs.append(value)
            self.graph.signature.outputs.append(Port(name, value.tensor, leaf.path))
        given = iter(public)
        return [next(given) if leaf.is_tensor else None for leaf in leaves]

    def _write(self, name: str, new: Node) -> None:
        target = next(node for node, state in self.states.items() if self._buffer_of(node) == name)
        self.builder.create(
            nn.write_state, {"state": self.states[target], "value": self._value(new)}, types=(), origin=origin_of(new)
        )

    def _buffer_of(self, node: Node) -> str:
        specs = self.program.graph_signature.input_specs
        return next(str(spec.target) for spec in specs if getattr(spec.arg, "name", "") == node.name)

    def _drop_unused(self, leaves: list[Leaf]) -> None:
        """Drop inputs that nothing uses, unless only they tell a symbol."""
        graph = self.graph
        paths = {leaf.path for leaf in leaves}
        for value in list(graph.inputs):
            port = graph.signature.input(value.name)
            if value.uses or value.is_output or port is None or port.path not in paths:
                continue
            others = {s for other in graph.inputs if other is not value for s in _symbols(other)}
            if _symbols(value) - others:
                continue
            graph.remove_input(value)
            graph.signature.inputs.remove(port)
            graph.signature.notes.append(f"the input {value.name} is not used and was dropped")

    # -- nodes -------------------------------------------------------------------------------------

    def _call(self, node: Node) -> None:
        if node.target is operator.getitem:
            self._pick(node)
        elif isinstance(node.target, torch._ops.HigherOrderOperator):
            inner = [str(arg.target) for arg in node.args if isinstance(arg, Node) and arg.op == "get_attr"]
            raise UnsupportedError(
                f"torch.{node.target.name()} has no place in the IR" + (f" (branches {', '.join(inner)})" if inner else ""),
                where=origin_of(node).place or None,
                hint="regions are not supported yet; use torch.where, or unroll the loop",
            )
        elif isinstance(node.target, torch._ops.OpOverload):
            self._op(node, node.target)
        elif not isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)):
            raise UnsupportedError(f"{node.target} is no torch op", where=origin_of(node).place or None)

    def _pick(self, node: Node) -> None:
        source, index = node.args
        found = self.values.get(source) if isinstance(source, Node) else None
        if isinstance(found, list) and isinstance(index, int):
            self.values[node] = found[index]
        elif isinstance(node.meta.get("val"), torch.Tensor):
            raise UnsupportedError(f"{node.format_node()} picks from no op", where=origin_of(node).place or None)

    def _op(self, node: Node, target: torch._ops.OpOverload) -> None:
        library, _, packet = target._schema.name.partition("::")
        val = node.meta.get("val")
        results = [val] if isinstance(val, torch.Tensor) else list(val) if isinstance(val, (tuple, list)) else []
        if _CHECKS.fullmatch(packet) or (val is not None and not isinstance(val, (torch.Tensor, tuple, list))):
            return
        origin = origin_of(node)
        try:
            if target._schema.is_mutable:
                raise AnecError(f"{target} writes in place", hint="pass the program through decompose() first")
            defn = registry.resolve(f"{library}.{packet}.{target._overloadname}")
            bound = self._arguments(node, target, {param.name: param.kind for param in defn.params})
            stem = value_stem(origin.path, packet)
            types = tuple(self._type(result, f"a result of {target}", stem) for result in results)
        except AnecError as error:
            error.where = error.where or origin.place or None
            raise
        except ValueError as error:
            raise UnsupportedError(f"{target}: {error}", where=origin.place or None) from error
        op = self.builder.create(defn, bound, types=types, names=(stem,) * len(types), origin=origin)
        self.values[node] = op.results if isinstance(val, (tuple, list)) else op.results[0] if op.results else []

    def _arguments(self, node: Node, target: torch._ops.OpOverload, kinds: Mapping[str, Kind]) -> dict[str, object]:
        """Arguments by parameter name; those that equal their default, and memory settings, are left out."""
        schema = target._schema.arguments
        given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
        given.update(node.kwargs)
        defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        bound: dict[str, object] = {}
        for name, value in given.items():
            if name not in kinds:
                continue
            if kinds[name] is not Kind.ATTR:
                bound[name] = self._operand(value)
            elif not (name in defaults and type(value) is type(defaults[name]) and value == defaults[name]):
                bound[name] = self._attr(value)
        return bound

    def _operand(self, value: Any) -> object:
        if isinstance(value, (tuple, list)):
            return [self._operand(item) for item in value]
        if isinstance(value, Node) and isinstance(value.meta.get("val"), torch.Tensor):
            return self._value(value)
        attr = self._attr(value)
        return None if attr is None else Literal(attr)

    def _attr(self, value: Any) -> Attr:
        if isinstance(value, Node):
            return self._number(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._attr(item) for item in value)
        if isinstance(value, torch.dtype):
            return dtype_of(value)
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return self.symbols.number(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        raise UnsupportedError(f"an argument is the {type(value).__name__} {value!r}")

    def _number(self, node: Node) -> Attr:
        """The value of a node that computes a size."""
        val = node.meta.get("val")
        if isinstance(val, (torch.SymInt, torch.SymFloat)):
            self._refuse_data(node)
            return self.symbols.number(val)
        if isinstance(val, (bool, int, float)):
            return val
        raise UnsupportedError(f"{node.format_node()} is no number", where=origin_of(node).place or None)

    def _refuse_data(self, node: Node) -> None:
        """Refuse a number that was read out of a tensor."""
        waiting, seen = [node], {node}
        while waiting:
            at = waiting.pop()
            target = at.target
            if isinstance(target, torch._ops.OpOverload) and target._schema.name in ("aten::_local_scalar_dense", "aten::item"):
                raise UnsupportedError(
                    "a number is read out of a tensor and used as a size or setting",
                    where=origin_of(at).place or None,
                    hint="bind the input that decides it to a constant (--bind NAME=VALUE)",
                )
            fresh = [n for n in at.all_input_nodes if n not in seen and not isinstance(n.meta.get("val"), torch.Tensor)]
            seen.update(fresh)
            waiting += fresh

    # -- values ------------------------------------------------------------------------------------

    def _value(self, node: Node) -> Value:
        found = self.values.get(node)
        if isinstance(found, Value):
            return found
        if node in self.states:
            self.values[node] = value = self._read(node)
            return value
        if node in self.tensors:
            self.values[node] = value = self._weight(node)
            return value
        if node.op == "get_attr":
            self.tensors[node] = (str(node.target), _get(self.program.graph_module, str(node.target)))
            return self._value(node)
        raise UnsupportedError(f"{node.format_node()} is no tensor", where=origin_of(node).place or None)

    def _read(self, node: Node) -> Value:
        state = self.states[node]
        user = next(iter(node.users), node)
        types, names = (state.tensor,), (f"{state.name}_value",)
        return self.builder.create(nn.read_state, {"state": state}, types=types, names=names, origin=origin_of(user)).result

    def _weight(self, node: Node) -> Value:
        """The weight behind a placeholder; two names of the same memory are one weight."""
        name, tensor = self.tensors[node]
        if _LIBRARY_CONSTANT.fullmatch(name):
            path = next((origin_of(user).path for user in node.users), "")
            name = f"{path}.constant" if path else "constant"
        if tensor is None:
            raise AnecError(f"the program holds no tensor for {name!r}")
        weight = make_weight(name, tensor, check_nan=self.check_nan)
        twin = self.read_values.setdefault((*weight.identity, weight.type), node)
        if twin is not node and weight.type.size:
            return self._value(twin)
        return self.graph.add_weight(self.module.add_weight(weight))

    def _type(self, val: Any, what: str, stem: str = "") -> TensorType:
        """The type of a traced tensor."""
        if not isinstance(val, torch.Tensor):
            raise UnsupportedError(f"{what} is a {type(val).__name__}, not a tensor")
        for size in val.shape:
            if stem:
                self.symbols.declare(size, f"{stem}_size", from_data=True)
        shape: tuple[Dim, ...] = tuple(self.symbols.dim(size) for size in val.shape)
        try:
            return TensorType(dtype_of(val.dtype), shape)
        except UnsupportedError as error:
            raise UnsupportedError(f"{what}: {error.message}", hint=error.hint) from None


def _symbols(value: Value) -> set[str]:
    return {name for dim in value.tensor.shape if isinstance(dim, Expr) for name in dim.symbols()}


def _get(module: object, path: str) -> object:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module

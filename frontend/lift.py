"""Lifting: an exported program becomes a function of `aten` ops, one op for each fx call.

Nothing is inferred and no weight is copied: types come from the traced metadata, weights refer to
the program's own tensors. Whatever only computes sizes becomes a dimension expression.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from anec.dialects import nn, registry
from anec.errors import AnecError, UnsupportedError
from anec.frontend import boundary
from anec.frontend.arguments import Arguments
from anec.frontend.boundary import Leaf
from anec.frontend.calls import Call, Lifted
from anec.frontend.decided import decided_sizes
from anec.frontend.dims import Symbols, named_dims, with_defaults
from anec.frontend.names import NewNames, renamed, value_stem
from anec.frontend.origins import origin_of
from anec.frontend.reads import Reads
from anec.frontend.stored import Stored
from anec.frontend.strided import VIEWS, in_memory_order
from anec.frontend.weights import dtype_of, make_weight
from anec.frontend.writes import harmless_writes
from anec.ir.build import Builder
from anec.ir.dims import Expr
from anec.ir.graph import Graph, Module, Value
from anec.ir.signature import Port
from anec.ir.types import TensorType


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
    module: Module | None = None,
    multiples: Mapping[str, Mapping[int, int]] | None = None,
) -> Lifted:
    """Lift a functional exported program (see :func:`anec.frontend.decompose`) into the IR.

    Args:
        program: the program; its ops must not write in place.
        function: the name of the IR function.
        target: the Core ML target of a new module.
        input_names: public input names in order, or new names by default name.
        output_names: the same for outputs.
        args: example inputs, when the program carries none.
        kwargs: example inputs by name.
        dynamic_shapes: what the program was exported with, for the names of its `Dim` objects.
        check_nan: refuse weights that hold NaN.
        module: add the function to this module; weights that are the same memory are shared.
        multiples: by the default name of an input and its axis, what all sizes it may have are multiples of.

    Raises:
        UnsupportedError: an op, type, size or side effect the IR does not have; with the user's line.
        UsageError: names that do not fit.
        AnecError: a weight without data or with NaN, or a program that writes in place.
    """
    module = Module(target=target) if module is None else module
    if function in module.functions:
        raise AnecError(f"the module has a function {function!r} already")
    lifter = _Lifter(program, module, Graph(function), check_nan, multiples or {})
    example = boundary.example_call(program, args, kwargs)
    return lifter.run(input_names, output_names, dynamic_shapes, example)


# Checks that torch traces along; what they state holds for the sizes the program was traced with.
_CHECKS = re.compile(
    r"_assert\w*|_functional_assert\w*|sym_constrain_range\w*|_functional_sym_constrain\w*|_make_dep_token"
)
_DROPOUTS = frozenset("dropout alpha_dropout feature_dropout feature_alpha_dropout".split())
# What to write in the place of torch's higher-order ops.
_BRANCHES = "write a branch with torch.where; unroll a loop; fix what decides it with --bind"
_INSTEAD = {"flex_attention": "call F.scaled_dot_product_attention, with what score_mod adds as its attn_mask"}
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, bool, int, float)


class _Lifter:
    def __init__(
        self,
        program: ExportedProgram,
        module: Module,
        graph: Graph,
        check_nan: bool,
        multiples: Mapping[str, Mapping[int, int]],
    ) -> None:
        self.multiples = multiples
        self.program, self.module, self.graph = program, module, graph
        self.builder = Builder(graph)
        self.symbols = Symbols(program.range_constraints, module.dims, decided_sizes(program))
        self.values: dict[Node, Value | list[Value]] = {}
        self.nodes: dict[str, Node] = {node.name: node for node in program.graph.nodes}
        self.arguments = Arguments(self.symbols, self.value, self.complex_number)
        self.complex_numbers: dict[complex, Value] = {}
        self.reads = Reads(program, self.builder, self.value)
        self.check_nan = check_nan
        self.defaults: dict[str, str] = {}

    def run(
        self,
        input_names: NewNames,
        output_names: NewNames,
        dynamic_shapes: Any,
        example: tuple[Sequence[Any], Mapping[str, Any]] | None,
    ) -> Lifted:
        """Lift everything, in the order inputs, ops, outputs, writes."""
        self.writes = harmless_writes(self.program.graph) or {}
        spec = self.program.call_spec
        arguments = boundary.argument_names(self.program)
        leaves = boundary.input_leaves(self.program, arguments)
        inputs = self.add_inputs(leaves, input_names, named_dims(spec.in_spec, arguments, dynamic_shapes))
        self.stored = Stored(self.program, self.module, self.builder, self.check_nan)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.call(node)
        taken = [port.name for port in self.graph.signature.inputs]
        outputs = self.add_outputs(boundary.output_leaves(self.program, taken), output_names)
        for state, node in self.stored.writes():
            new = {"state": state, "value": self.value(node)}
            self.builder.create(nn.write_state, new, types=(), origin=origin_of(node))
        self.drop_unused(leaves)
        self.module.dims |= self.symbols.bounds(_all_symbols(self.graph))
        self.module.functions[self.graph.name] = self.graph
        kept = {port.name for port in self.graph.signature.inputs}
        call = Call(
            spec.in_spec,
            spec.out_spec,
            arguments,
            tuple(name if name in kept else None for name in inputs),
            {number: leaf.constant for number, leaf in enumerate(leaves) if not leaf.is_tensor},
            tuple(outputs),
        )
        examples = call.bind_inputs(*example) if example is not None else {}
        self.module.dims |= with_defaults(self.graph, self.module.dims, examples)
        return Lifted(self.module, call, examples, self.graph.name, defaults=self.defaults)

    # -- boundary ----------------------------------------------------------------------------------

    def add_inputs(self, leaves: list[Leaf], names: NewNames, dims: dict[int, dict[int, str]]) -> list[str | None]:
        """Add the tensor inputs; return the public name of each leaf."""
        tensors = [leaf for leaf in leaves if leaf.is_tensor]
        used = [leaf.default for leaf in tensors if self.nodes[leaf.node].users]
        public = iter(renamed([leaf.default for leaf in tensors], names, "input", used))
        given: list[str | None] = []
        for number, leaf in enumerate(leaves):
            if not leaf.is_tensor:
                self.note_constant(leaf)
                given.append(None)
                continue
            name = next(public)
            node = self.nodes[leaf.node]
            for axis, size in enumerate(node.meta["val"].shape):
                self.symbols.declare(size, dims.get(number, {}).get(axis) or f"{name}_dim{axis}")
                if axis in self.multiples.get(leaf.default, {}):
                    self.symbols.count_by(size, self.multiples[leaf.default][axis])
            type_ = self.type(node.meta["val"], f"the input {name}")
            self.values[node] = self.graph.add_input(name, type_)
            self.graph.signature.inputs.append(Port(name, type_, leaf.path))
            self.defaults[name] = leaf.default
            given.append(name)
        return given

    def note_constant(self, leaf: Leaf) -> None:
        """Note a number that became part of the program; None needs no note."""
        if leaf.node and self.nodes[leaf.node].users:
            raise UnsupportedError(
                f"the input {leaf.default} is a dynamic number",
                hint="pass it as a plain number to fix it, or as a tensor",
            )
        if not leaf.node and isinstance(leaf.constant, (int, float, str)):
            self.graph.signature.notes.append(f"{leaf.default}={leaf.constant!r} is fixed")

    def add_outputs(self, leaves: list[Leaf], names: NewNames) -> list[str | None]:
        """Set the graph's outputs; return the public name of each leaf."""
        tensors = [leaf for leaf in leaves if leaf.is_tensor]
        public = renamed([leaf.default for leaf in tensors], names, "output")
        for leaf, name in zip(tensors, public, strict=True):
            value = self.value(self.nodes[leaf.node])
            self.graph.outputs.append(value)
            self.graph.signature.outputs.append(Port(name, value.tensor, leaf.path))
        for leaf in leaves:
            if not leaf.is_tensor and leaf.constant is not None:
                place = f"output {leaf.path}".strip()
                self.graph.signature.notes.append(f"the {place} is {leaf.constant!r} at every call: it is left out")
        given = iter(public)
        return [next(given) if leaf.is_tensor else None for leaf in leaves]

    def drop_unused(self, leaves: list[Leaf]) -> None:
        """Drop inputs that nothing uses, unless only they tell a symbol; one stays, as Core ML wants an input."""
        signature = self.graph.signature
        paths = {leaf.path for leaf in leaves}
        for value, port in list(zip(self.graph.inputs, signature.inputs, strict=True)):
            if value.uses or value.is_output or port.path not in paths:
                continue
            if sum(other.path in paths for other in signature.inputs) == 1:
                break
            others = {s for other in self.graph.inputs if other is not value for s in _symbols(other)}
            if not _symbols(value) <= others:
                continue
            self.graph.remove_input(value)
            signature.inputs.remove(port)
            signature.notes.append(f"the input {port.name} is not used and was dropped")

    # -- ops ---------------------------------------------------------------------------------------

    def call(self, node: Node) -> None:
        """Lift one call; calls that only compute or check sizes leave nothing."""
        target, val = node.target, node.meta.get("val")
        if target is operator.getitem and isinstance(node.args[0], Node):
            found = self.values.get(node.args[0])
            if isinstance(found, list) and isinstance(node.args[1], int):
                self.values[node] = found[node.args[1]]
        elif isinstance(target, torch._ops.HigherOrderOperator):
            raise UnsupportedError(
                f"torch's higher-order op {target.__name__!r} has no place in the IR",
                where=origin_of(node).place or None,
                hint=_INSTEAD.get(target.__name__, _BRANCHES),
            )
        elif isinstance(target, torch._ops.OpOverload):
            if not isinstance(val, _NUMBERS) and not _CHECKS.fullmatch(target._schema.name.partition("::")[2]):
                self.op(node, target)
        elif not isinstance(val, _NUMBERS):
            raise UnsupportedError(f"{target} is no torch op", where=origin_of(node).place or None)

    def op(self, node: Node, target: torch._ops.OpOverload) -> None:
        """Lift one op."""
        target = self.functional(node, target)
        library, _, packet = target._schema.name.partition("::")
        val, origin = node.meta.get("val"), origin_of(node)
        found = self.reads.lift(node, target)
        if found is not None:
            self.keep(node, found)
            return
        results = [val] if isinstance(val, torch.Tensor) else list(val or ())
        stem = value_stem(origin.path, packet)
        try:
            _refuse_training(node, target)
            defn = registry.resolve(f"{library}.{packet}.{target._overloadname}")
            bound = self.arguments.bind(node, target, defn)
            if packet == "rms_norm" and bound.get("eps") is None:
                # torch's default is the dtype's own epsilon: write it down, or a wider judge takes another.
                bound["eps"] = torch.finfo(results[0].dtype).eps
            types = tuple(self.type(result, f"a result of {target}", stem) for result in results)
            if f"{packet}.{target._overloadname}" == "lstm.input":
                # Torch 2.7 traces the last states with an axis too many; they have the type of the first ones.
                states: Any = node.args[1]
                types = (types[0], *(self.type(state.meta["val"], "a state") for state in states))
            if target._schema.name in VIEWS:
                in_memory_order(node, bound, self.builder)
        except AnecError as error:
            error.where = error.where or origin.place or None
            raise
        except ValueError as error:
            raise UnsupportedError(f"{target}: {error}", where=origin.place or None) from error
        op = self.builder.create(defn, bound, types=types, names=(stem,) * len(types), origin=origin)
        self.keep(node, op.result if isinstance(val, torch.Tensor) else op.results)

    def keep(self, node: Node, found: Value | list[Value]) -> None:
        """Note what a call gives."""
        self.values[node] = found
        if node in self.writes:
            # Who reads the overwritten tensor from here on reads the new one.
            written = node.args[0]
            assert isinstance(written, Node)
            self.values[written] = found

    def functional(self, node: Node, target: torch._ops.OpOverload) -> torch._ops.OpOverload:
        """The op itself, or the functional form of an in-place op that nobody else can see."""
        if target._schema.is_mutable and node not in self.writes:
            raise AnecError(
                f"{target} writes in place",
                where=origin_of(node).place or None,
                hint="pass the program through decompose() first",
            )
        return self.writes.get(node, target)

    def value(self, node: Node) -> Value:
        """The value of a node that holds a tensor."""
        found = self.values.get(node)
        if found is None and node in self.stored:
            found = self.values[node] = self.stored.value(node)
        if not isinstance(found, Value):
            raise UnsupportedError(f"{node.name} ({node.op}) holds no tensor", where=origin_of(node).place or None)
        return found

    def complex_number(self, number: complex) -> Value:
        """A constant of rank 0; like a Python number it does not widen what it meets."""
        if number not in self.complex_numbers:
            weight = make_weight("complex_number", torch.tensor(number, dtype=torch.complex64))
            self.complex_numbers[number] = self.graph.add_weight(self.module.add_weight(weight))
        return self.complex_numbers[number]

    def type(self, val: Any, what: str, stem: str = "") -> TensorType:
        """The type of a traced tensor; sizes that depend on data are called after ``stem``."""
        if not isinstance(val, torch.Tensor):
            raise UnsupportedError(f"{what} is a {type(val).__name__}, not a tensor")
        for size in val.shape if stem else ():
            self.symbols.declare(size, f"{stem}_size", from_data=True)
        try:
            return TensorType(dtype_of(val.dtype), tuple(self.symbols.dim(size) for size in val.shape))
        except UnsupportedError as error:
            raise UnsupportedError(f"{what}: {error.message}", hint=error.hint) from None


def _refuse_training(node: Node, target: torch._ops.OpOverload) -> None:
    """Refuse an op that drops values at random or updates running statistics."""
    packet = target._schema.name.partition("::")[2]
    bound = dict(zip((argument.name for argument in target._schema.arguments), node.args, strict=False)) | node.kwargs
    dropout = packet == "native_dropout" or (packet in _DROPOUTS and bool(bound.get("train")) and bound.get("p") != 0)
    norm = packet == "_native_batch_norm_legit_functional"
    norm |= packet == "batch_norm" and bool(bound.get("training")) and bound.get("running_mean") is not None
    if dropout or norm:
        what = "dropout is active" if dropout else "batch normalization updates its statistics"
        hint = "export the model in evaluation mode; F.dropout takes training=self.training"
        raise UnsupportedError(f"the model is in training mode: {what}", hint=hint)


def _symbols(value: Value) -> set[str]:
    return {name for dim in value.tensor.shape if isinstance(dim, Expr) for name in dim.symbols()}


def _all_symbols(graph: Graph) -> set[str]:
    return {name for value in graph.values.values() for name in _symbols(value)}

"""Reading one function of a saved program: every op of the protobuf becomes one op of the IR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anec.backend.describe import read_port, read_types
from anec.backend.features import listed_shapes, port_kind, ranges
from anec.backend.target import dtype_of_proto
from anec.backend.values import Constant, read_value
from anec.dialects import mil
from anec.errors import AnecError, UnsupportedError
from anec.ir.attr_types import attr_dtype, domain_dtypes
from anec.ir.attrs import Literal, same_attr
from anec.ir.build import infer_types
from anec.ir.dims import Bounds, Dim, Expr, symbol
from anec.ir.graph import Graph, Module, Op, Origin, Value, legal_name
from anec.ir.opdef import Kind, OpDef, Param
from anec.ir.signature import Port
from anec.ir.types import DType, StateType, TensorType, Type
from anec.ir.weights import Weight, WeightData

_WRITTEN = "_write_state"
_SHORT = 10
_BLOCKS = frozenset({"cond", "while_loop"})


@dataclass(slots=True)
class Package:
    """What the functions of a package share.

    Args:
        module: gets their weights and dimension symbols.
        folder: where the weights files lie.
        own: anec wrote the package, so names of constants tell literals from weights.
        known: the signature that anec left in the metadata.
    """

    module: Module
    folder: Path
    own: bool
    known: Mapping[str, Any]
    small: dict[tuple[str, bytes], WeightData] = field(default_factory=dict)

    def data(self, constant: Constant) -> WeightData:
        """The data of a weight; what the program itself holds is one memory for all functions, like a file's."""
        if constant.array is None:
            return constant.weight_data()
        key = (str(constant.type), constant.array.tobytes())
        if key not in self.small:
            self.small[key] = constant.weight_data()
        return self.small[key]


class FunctionReader:
    """Builds the graph of one function.

    Args:
        package: what all functions share.
        name: the function's name.
        function: its ``Function`` of MIL's protobuf.
        description: its inputs, outputs and states, as Core ML describes them.

    Raises:
        UnsupportedError: control flow, lists, or an op or parameter that the IR has not.
        AnecError: the program is damaged.
    """

    def __init__(self, package: Package, name: str, function: Any, description: Any) -> None:
        self.package, self.module = package, package.module
        self.graph = Graph(name)
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Constant] = {}
        self.known = dict(package.known.get("functions", {}).get(name, {}))
        if function.opset not in function.block_specializations:
            raise AnecError(f"the function {name} has no program for its opset {function.opset}")
        block = function.block_specializations[function.opset]
        self._inputs(function, description)
        operations = list(block.operations)
        for i, operation in enumerate(operations):
            previous = operations[i - 1] if i else None
            following = operations[i + 1] if i + 1 < len(operations) else None
            self._operation(operation, previous, following)
        self._outputs(block, description)
        self.graph.signature.notes = list(self.known.get("notes", ()))

    # -- boundary ----------------------------------------------------------------------------------

    def _inputs(self, function: Any, description: Any) -> None:
        features = {feature.name: feature.type for feature in (*description.input, *description.state)}
        entries = self._entries("inputs", [named.name for named in function.inputs])
        flexible = read_types(entries)
        for i, named in enumerate(function.inputs):
            feature = features.get(named.name)
            if feature is None:
                raise AnecError(f"the input {named.name!r} is not described")
            type_ = (flexible[i] if flexible else None) or self._input_type(named, feature)
            value = self.graph.add_input(named.name, type_)
            self.values[named.name] = value
            port = Port(named.name, type_, kind=port_kind(feature), shapes=listed_shapes(feature))
            self.graph.signature.inputs.append(self._port(port, entries, i))

    def _entries(self, key: str, names: list[str]) -> list[Mapping[str, Any]]:
        """What the package's own signature says of the ports, if it still fits."""
        entries = list(self.known.get(key, ()))
        return entries if [entry.get("name") for entry in entries] == names else []

    def _port(self, port: Port, entries: list[Mapping[str, Any]], index: int) -> Port:
        """The port with what the package's own signature adds; else a caller passes what the program takes."""
        if entries:
            return read_port(entries[index], port)
        if not self.package.own and isinstance(port.type, TensorType) and port.type.dtype is DType.F16:
            return replace(port, boundary=DType.F16)
        return port

    def _input_type(self, named: Any, feature: Any) -> Type:
        kind = named.type.WhichOneof("type")
        if kind == "stateType":
            return StateType(self._tensor(named.type.stateType.wrappedType, named.name, ()))
        return self._tensor(named.type, named.name, ranges(feature))

    def _tensor(self, type_: Any, name: str, ranges: tuple[Bounds, ...]) -> TensorType:
        """The type of a tensor; an open dimension gets a symbol of its own, unless its range is one size."""
        if type_.WhichOneof("type") != "tensorType":
            raise UnsupportedError(f"{name!r} is a {type_.WhichOneof('type')}, not a tensor")
        tensor = type_.tensorType
        dims: list[Dim] = []
        for axis, dim in enumerate(tensor.dimensions):
            if dim.WhichOneof("dimension") == "constant":
                dims.append(int(dim.constant.size))
                continue
            if dim.unknown.variadic:
                raise UnsupportedError(f"{name!r} has a variable number of dimensions")
            bounds = ranges[axis] if axis < len(ranges) else Bounds(0)
            if bounds.lower == bounds.upper:
                dims.append(bounds.lower)
                continue
            text = self._symbol(f"{legal_name(name)}_{axis}")
            self.module.dims[text] = bounds
            dims.append(symbol(text))
        return TensorType(dtype_of_proto(tensor.dataType), tuple(dims))

    def _symbol(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self.module.dims:
            number += 1
            name = f"{wanted}_{number}"
        return name

    def _outputs(self, block: Any, description: Any) -> None:
        features = {feature.name: feature.type for feature in description.output}
        names = list(block.outputs)
        entries = self._entries("outputs", names)
        for i, name in enumerate(names):
            if name not in self.values and name in self.constants:
                self.values[name] = self._weight(self.constants[name], name)
            value = self._value(name)
            self.graph.outputs.append(value)
            port = Port(name, value.type, kind=port_kind(features.get(name)))
            self.graph.signature.outputs.append(self._port(port, entries, i))

    # -- ops ---------------------------------------------------------------------------------------

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise AnecError(f"{name!r} is used before it is defined")
        return self.values[name]

    def _operation(self, operation: Any, previous: Any, following: Any) -> None:
        name = _op_name(operation)
        try:
            if operation.type == "const":
                constant = read_value(operation.attributes["val"], operation.outputs[0].name, self.package.folder)
                self.constants[constant.name] = constant
            elif operation.type == "write_state":
                self._update_state(operation, name, following)
            elif operation.type == "read_state" and _belongs(previous, operation):
                return
            else:
                self._op(operation, name)
        except AnecError as error:
            error.where = error.where or f"{operation.type} {name!r}"
            raise

    def _update_state(self, operation: Any, name: str, following: Any) -> None:
        """``write_state``, and the ``read_state`` behind it that belongs to it, are one op of the IR."""
        state = self._value(operation.inputs["input"].arguments[0].name)
        outputs = [] if following is None or not _belongs(operation, following) else list(following.outputs)
        result = outputs[0].name if outputs else name.removesuffix(_WRITTEN)
        defn = mil.coreml_update_state
        bound: dict[str, object] = {
            "state": state,
            "value": self._operand(operation.inputs["data"].arguments[0], "value", result),
        }
        self._append(defn, bound, {}, [(result, state.tensor)])

    def _op(self, operation: Any, name: str) -> None:
        if operation.blocks or operation.type in _BLOCKS:
            raise UnsupportedError("control flow is not supported")
        if operation.type not in mil:
            raise UnsupportedError(f"there is no op mil.{operation.type}")
        defn = mil.resolve(operation.type)
        first = operation.outputs[0].name if operation.outputs else name
        operands: dict[str, object] = {}
        settings: dict[str, Constant] = {}
        for param in defn.params:
            bindings = self._bindings(operation, param)
            if not bindings:
                continue
            if param.kind is Kind.ATTR:
                settings[param.name] = self._setting(bindings[0], param)
            else:
                found = [self._operand(binding, param.name, first) for binding in bindings]
                operands[param.name] = found if param.kind is Kind.VARIADIC else found[0]
        unknown = {*operation.inputs, *operation.attributes} - set(defn.by_name) - {"name"}
        if unknown:
            raise UnsupportedError(f"{defn.name} has no parameter {sorted(unknown)[0]!r}")
        types = [(result.name, self._tensor(result.type, result.name, ())) for result in operation.outputs]
        self._append(defn, operands, settings, types)

    def _bindings(self, operation: Any, param: Param) -> list[Any]:
        """What a parameter is bound to: names and values (a map's subscript would insert the key)."""
        if param.name in operation.inputs:
            return list(operation.inputs[param.name].arguments)
        # Up to iOS17 the parameters of constexpr ops are attributes, which hold the value itself.
        if operation.type.startswith("constexpr_") and param.name in operation.attributes:
            return [operation.attributes[param.name]]
        return []

    def _constant(self, binding: Any) -> Constant | None:
        """The constant a parameter is bound to; None for a value of the program."""
        if binding.DESCRIPTOR.name == "Value":
            return read_value(binding, "", self.package.folder)
        if binding.WhichOneof("binding") == "value":
            return read_value(binding.value, "", self.package.folder)
        return None if binding.name in self.values else self.constants.get(binding.name)

    def _setting(self, binding: Any, param: Param) -> Constant:
        constant = self._constant(binding)
        if constant is None:
            self._value(binding.name)
            raise UnsupportedError(f"{param.name!r} is computed by the program; anec wants a constant there")
        return constant

    def _operand(self, binding: Any, param: str, result: str) -> Value | Literal:
        constant = self._constant(binding)
        if constant is None:
            return self._value(binding.name)
        if constant.text is not None:
            raise UnsupportedError(f"{param!r} is a string; anec wants a tensor there")
        base = f"{result}__{param}"
        if _is_inline(constant, base, self.package.own):
            assert constant.type is not None
            return Literal(constant.attr(), constant.type.dtype)
        return self._weight(constant, base)

    def _weight(self, constant: Constant, base: str) -> Value:
        """The value of a weight, made when it is first used."""
        found = self.values.get(constant.name) if constant.name else None
        if found is not None:
            return found
        assert constant.type is not None
        name = constant.name or base
        weight = self.module.add_weight(Weight(name, constant.type, self.package.data(constant)))
        value = self.graph.add_weight(weight, name)
        if constant.name:
            self.values[constant.name] = value
        return value

    def _append(
        self,
        defn: OpDef,
        operands: dict[str, object],
        settings: dict[str, Constant],
        types: list[tuple[str, TensorType]],
    ) -> None:
        op = Op(defn, operands, {name: constant.attr() for name, constant in settings.items()}, Origin())
        _untype_literals(op)
        _keep_numbers(op, settings, self.module.opset)
        op.results = [Value(name, type_, op=op, index=i) for i, (name, type_) in enumerate(types)]
        if any(not type_.is_static for _, type_ in types):
            self._infer(op)
        self.graph.insert(op)
        self.values.update((name, value) for (name, _), value in zip(types, op.results, strict=True))

    def _infer(self, op: Op) -> None:
        """Give open dimensions their expressions; where the kernel cannot say, they keep their own symbols."""
        try:
            inferred = infer_types(op)
        except AnecError:
            return
        for value, type_ in zip(op.results, inferred, strict=True):
            read = value.tensor
            if not isinstance(type_, TensorType) or type_.rank != read.rank or type_.dtype is not read.dtype:
                continue
            for dim in read.shape:
                if isinstance(dim, Expr):
                    self.module.dims.pop(str(dim), None)
            value.type = type_


def _op_name(operation: Any) -> str:
    if "name" in operation.attributes:
        return "".join(operation.attributes["name"].immediateValue.tensor.strings.values)
    return str(operation.outputs[0].name) if operation.outputs else str(operation.type)


def _belongs(written: Any, read: Any) -> bool:
    """True when ``read`` is the ``read_state`` of the update that ``written`` is the first half of."""
    if written is None or written.type != "write_state" or read.type != "read_state":
        return False
    return _op_name(written) == _op_name(read) + _WRITTEN


def _is_inline(constant: Constant, base: str, own: bool) -> bool:
    """Whether a constant operand is a literal rather than a weight.

    In a package of anec's the constant's name says so. In others, and where it has no name, it is a
    scalar, or a short list of whole numbers or flags.
    """
    if own and constant.name:
        return re.fullmatch(re.escape(base) + r"(_\d+)?", constant.name) is not None
    if constant.array is None or constant.type is None:
        return False
    if constant.type.rank == 0:
        return True
    return constant.type.rank == 1 and constant.type.size <= _SHORT and constant.type.dtype in (DType.I32, DType.BOOL)


def _untype_literals(op: Op) -> None:
    """Leave a literal's dtype out where the op's other operands give the same."""
    from anec.reference.call import literal_dtype

    for param in op.defn.operand_params:
        for index in op.slot(param.name):
            operand = op.operands[index]
            if not isinstance(operand, Literal) or operand.dtype is None:
                continue
            bare = Literal(operand.value)
            if literal_dtype(op, param.name, bare) is operand.dtype and same_attr(bare.value, operand.value):
                op.set_operand(index, bare)


def _keep_numbers(op: Op, settings: Mapping[str, Constant], opset: int) -> None:
    """Spell a float setting out in full where it is narrower than the dtype it would be written in."""
    floats = {name: c for name, c in settings.items() if c.type is not None and c.type.dtype is DType.F16}
    if not floats:
        return
    params = op.defn.version(opset).params
    domains = domain_dtypes(op, params)
    for param in params:
        constant = floats.get(param.name)
        if constant is not None and attr_dtype(op, param, op.attrs[param.name], domains) is not DType.F16:
            op.attrs[param.name] = constant.attr(exact=True)

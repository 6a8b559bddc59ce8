"""Emission: `mil` IR into a coremltools Program, op by op, with no pass run on it.

Ops are made from coremltools' own op classes, which check operands against the opset and infer
types; what they infer must agree with the IR. Only the order of constants is ours: the builder's
would depend on which defaults were spelled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from anec.backend.constants import Constants, MemoryStore, Store, constant_values
from anec.backend.legal import check_boundary, check_dialect, check_op, refuse
from anec.backend.literals import attr_value, literal_value
from anec.backend.quiet import Builder, Function, Program, quiet, types
from anec.backend.shapes import mil_shape
from anec.backend.target import available_target, builtin, dtype_of_builtin, numpy_dtype, opset
from anec.errors import AnecError, UnsupportedError
from anec.ir.attr_types import domain_dtypes
from anec.ir.attrs import Literal
from anec.ir.graph import Graph, Module, Op, Value, legal_name
from anec.ir.opdef import Kind, Param, Version
from anec.ir.types import DType, StateType

with quiet():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    from coremltools.converters.mil.mil.scope import SCOPE_STACK
    from coremltools.converters.mil.mil.types.symbolic import any_symbolic


def emit(module: Module, store: Store | None = None) -> Any:
    """Emit a module that holds ``mil`` ops only.

    Args:
        module: emitted for its own target; every function shares its weights.
        store: where the bytes of constants go; None keeps them in the program.

    Returns:
        A coremltools ``Program`` that coremltools runs no pass on.

    Raises:
        UnsupportedError: something the target does not have; names op, source line and a hint.
        AnecError: coremltools infers other types than the IR has.
    """
    number = opset(module.target)
    check_dialect(module)
    if not module.functions:
        raise AnecError("the module has no function")
    names = list(module.functions)
    single = names == ["main"]
    if not single and number < 18:
        raise UnsupportedError(
            f"the functions {', '.join(names)} need iOS18",
            hint="before it a model has one function, called main; compile with --target iOS18",
        )
    program = Program()
    program.skip_all_passes = True
    program.export_as_multifunction = not single
    program.default_function_name = default_function(module)
    constants = Constants(module, store or MemoryStore())
    with quiet():
        for name, graph in module.functions.items():
            function = _FunctionEmitter(module, graph, constants, number).run()
            program.add_function(name, function)
    return program


def default_function(module: Module) -> str:
    """The function that runs when none is named: ``main``, else the first."""
    wanted = module.meta.get("default_function", "main")
    return wanted if wanted in module.functions else next(iter(module.functions))


def port_names(graph: Graph) -> tuple[list[str], list[str]]:
    """The public names of inputs and outputs: the signature's, else the values'."""
    signature = graph.signature
    inputs = [port.name for port in signature.inputs] or [value.name for value in graph.inputs]
    outputs = [port.name for port in signature.outputs] or [value.name for value in graph.outputs]
    return inputs, outputs


@contextmanager
def _coremltools_errors(op: Op) -> Iterator[None]:
    """Tell what coremltools' op classes raise, which is of many kinds, as a refusal of ``op``."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise refuse(op, f"coremltools refuses {op.name}: {reason}") from error


class _FunctionEmitter:
    """Emits one function."""

    def __init__(self, module: Module, graph: Graph, constants: Constants, number: int) -> None:
        self.module, self.graph, self.constants, self.opset = module, graph, constants, number
        self.constant = constant_values(graph)
        self.vars: dict[Value, Any] = {}
        self.symbols: dict[str, Any] = {}
        self.names = self._value_names()
        self.taken = set(self.names.values())
        self.function: Any = None
        self.scopes: Any = None

    def _value_names(self) -> dict[Value, str]:
        """The name of each value in the program: its own, but the public name at the boundary."""
        inputs, outputs = port_names(self.graph)
        names = {value: value.name for value in self.graph.values.values()}
        names.update(zip(self.graph.inputs, inputs, strict=True))
        names.update(zip(self.graph.outputs, outputs, strict=True))
        holders: dict[str, Value] = {}
        for value, name in names.items():
            if legal_name(name) != name:
                hint = "name an input or output otherwise; the pass legalize-io renames the rest"
                raise UnsupportedError(f"{name!r} is no legal name in Core ML", hint=hint)
            if holders.setdefault(name, value) is not value:
                raise UnsupportedError(
                    f"%{holders[name].name} and %{value.name} of {self.graph.name} would both be called {name!r}",
                    where=value.origin.place or None,
                    hint="run the pass legalize-io",
                )
        return names

    def run(self) -> Any:
        check_boundary(self.graph, self.opset, self.constant)
        placeholders = {self.names[value]: self._placeholder(value) for value in self.graph.inputs}
        self.function = Function(placeholders, opset_version=available_target(self.opset))
        for value in self.graph.inputs:
            self.vars[value] = self.function.inputs[self.names[value]]
        self.scopes = SCOPE_STACK.get_curr_scopes()
        with self.function:
            for op in self.graph.ops():
                if not op.results or op.results[0] not in self.constant:
                    self._emit_op(op)
            self.function.set_outputs([self.vars[value] for value in self.graph.outputs])
        return self.function

    def _placeholder(self, value: Value) -> Any:
        shape = mil_shape(value.tensor.shape, self.symbols)
        kind = builtin(value.tensor.dtype)
        if isinstance(value.type, StateType):
            return Builder.state_tensor_placeholder(shape, dtype=kind)
        return Builder.placeholder(shape, dtype=kind)

    # -- ops ---------------------------------------------------------------------------------------

    def _emit_op(self, op: Op) -> None:
        version = check_op(op, self.opset)
        name = self.names[op.results[0]] if op.results else self._fresh(op.defn.root)
        made: dict[str, list[Any]] = {}
        domains = domain_dtypes(op, version.params)
        try:
            given = {
                param.name: var
                for param in version.params
                if (var := self._argument(op, param, name, domains, made)) is not None
            }
        except AnecError as error:
            refusal = refuse(op, error.message, error.hint)
            refusal.where = error.where or refusal.where
            raise refusal from error
        with _coremltools_errors(op):
            operation = self._class(op)(name=name, enclosing_block=self.function, scopes=self.scopes, **given)
            defaults = dict(operation.default_inputs().items())
        filled = self._defaults(defaults, version, name, domains, made, given)
        with _coremltools_errors(op):
            if filled:
                operation.set_inputs(type_inference=False, **filled)
            for param in version.params:
                for const in made.get(param.name, ()):
                    self._insert(const)
            self._insert(operation)
            operation.type_value_inference()
        self._take_results(op, operation)

    def _class(self, op: Op) -> Any:
        """The op class of the function's opset."""
        found = SSAOpRegistry.dialect_ops.get(op.defn.root)
        return found if found is not None else SSAOpRegistry._get_core_op_cls(op.defn.root)

    def _argument(
        self, op: Op, param: Param, name: str, domains: Mapping[str, DType], made: dict[str, list[Any]]
    ) -> Any:
        """What the parameter is given: a Var, a list of them, or None."""
        consts = made.setdefault(param.name, [])
        base = f"{name}__{param.name}"
        if param.kind is Kind.ATTR:
            value = op.attrs.get(param.name)
            if value is None:
                return None
            return self._const(attr_value(op, param, value, domains), base, consts)
        operands = [op.operands[index] for index in op.slot(param.name)]
        found: list[Any] = []
        for operand in operands:
            if isinstance(operand, Value):
                found.append(self._var(operand, consts))
            elif isinstance(operand, Literal):
                found.append(self._const(literal_value(op, param.name, operand), base, consts))
        if param.kind is Kind.VARIADIC:
            return found or None
        return found[0] if found else None

    def _var(self, value: Value, consts: list[Any]) -> Any:
        """The Var of a value; a constant is made when it is first used."""
        var = self.vars.get(value)
        if var is None:
            if value not in self.constant:
                raise AnecError(f"%{value.name} is used before it is defined")
            array, ident = self.constants.get(value)
            if array.shape != value.shape:
                raise AnecError(f"%{value.name} is {value.type}, its numbers have the shape {array.shape}")
            var = self._const(array if array.ndim else array[()], self.names[value], consts, exact=True)
            var.op.weight_id = ident
            self.vars[value] = var
        return var

    def _const(self, number: Any, name: str, consts: list[Any], *, exact: bool = False) -> Any:
        """A const op that is not in the program yet, and its Var."""
        cls = SSAOpRegistry._get_core_op_cls("const")
        unique = name if exact else self._fresh(name)
        internal = Builder._create_vars(cls.input_spec, unique, None, {"val": number})
        const = cls(name=unique, enclosing_block=self.function, scopes=self.scopes, **internal)
        const.type_value_inference()
        consts.append(const)
        return const.outputs[0]

    def _defaults(
        self,
        defaults: Mapping[str, Any],
        version: Version,
        name: str,
        domains: Mapping[str, DType],
        made: dict[str, list[Any]],
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Spell out the defaults of absent parameters, as coremltools' builder does.

        A default takes part in its type domain: batch_norm's epsilon is f16 beside an f16 mean, where
        coremltools 9.0 puts an f32.
        """
        filled: dict[str, Any] = {}
        params = {param.name: param for param in version.params}
        for key, default in defaults.items():
            if key in given or default is None:
                continue
            number = np.asarray(default, np.int32) if isinstance(default, (list, tuple)) else default
            dtype = domains.get(params[key].domain or "") if key in params else None
            if dtype is not None:
                number = np.asarray(number).astype(numpy_dtype(dtype))[()]
            filled[key] = self._const(number, f"{name}__{key}", made.setdefault(key, []))
        return filled

    def _fresh(self, name: str) -> str:
        unique, number = name, 0
        while unique in self.taken:
            number += 1
            unique = f"{name}_{number}"
        self.taken.add(unique)
        return unique

    def _insert(self, operation: Any) -> None:
        self.function._insert_op_before(operation, before_op=None)

    # -- results -----------------------------------------------------------------------------------

    def _take_results(self, op: Op, operation: Any) -> None:
        if len(operation.outputs) != len(op.results):
            raise refuse(op, f"coremltools gives {op.name} {len(operation.outputs)} results, the IR {len(op.results)}")
        for value, var in zip(op.results, operation.outputs, strict=True):
            var.name = self.names[value]
            self._agree(op, value, var)
            self.vars[value] = var

    def _agree(self, op: Op, value: Value, var: Any) -> None:
        """Compare types; where coremltools knows less than the IR, the program gets the IR's dimension."""
        wanted = value.tensor
        shape = tuple(var.shape)
        dtype = dtype_of_builtin(var.dtype)
        clash = len(shape) != wanted.rank or any(
            isinstance(a, int) and isinstance(b, (int, np.integer)) and a != b >= 0
            for a, b in zip(wanted.shape, shape, strict=False)
        )
        if dtype is not wanted.dtype or clash:
            found = f"{dtype or var.dtype}[{','.join(map(str, shape))}]"
            raise refuse(op, f"%{value.name} is {wanted} here, but coremltools infers {found}")
        # Of topk with k = -1, which takes all, coremltools says -1 where the size is free.
        if any_symbolic(shape) or -1 in shape:
            var._sym_type = types.tensor(builtin(wanted.dtype), mil_shape(wanted.shape, self.symbols))

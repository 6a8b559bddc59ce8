"""Run a pymil program, as coremltools' builder makes it, on the reference kernels.

A direct interpreter: the operations of one function in order, each by the kernel
``anec.reference.lookup("mil." + op_type)``. It shares nothing with anec's own IR and evaluator, so
what it finds concerns the kernels alone. A float16 operand is widened to float32 and the result
rounded back, as the evaluator does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.types.symbolic import is_symbolic

from anec import reference
from anec.reference import Kernel

WITHOUT_MEANING = ("cond", "while_loop", "make_list", "list_", "random_", "classify", "_const_symbolic")
"""Ops no kernel is wanted for: control flow, lists, random numbers, the classifier's output."""

_PLAIN_DTYPES = {"int1": "int8", "int3": "int8", "int4": "int8", "int6": "int8"}
_PLAIN_DTYPES |= {"uint1": "uint8", "uint2": "uint8", "uint3": "uint8", "uint4": "uint8", "uint6": "uint8"}
_NUMPY = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
_TORCH = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
    "bool": torch.bool,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
}


class NotApplicable(Exception):
    """The program cannot be judged here: the reason says why."""


class NoKernel(Exception):
    """An op of the program has no kernel; the message is its name."""


class WrongInference(AssertionError):
    """A kernel's result has another shape or dtype than coremltools declares."""


def dtype_name(builtin: Any) -> str:
    """Name a pymil dtype, a sub-byte one by the byte that holds it."""
    name = str(types.builtin_to_string(builtin))
    return _PLAIN_DTYPES.get(name, name)


def to_tensor(value: Any, builtin: Any) -> torch.Tensor:
    """Make a tensor of the pymil dtype from a numpy value."""
    name = dtype_name(builtin)
    array = np.array(value).astype(_NUMPY.get(name, name))  # a fresh array: a kernel may not write into a const
    return torch.from_numpy(array)


def to_plain(value: Any) -> Any:
    """Make plain Python of a const: numbers, strings, bools, tuples of them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else tuple(value.reshape(-1).tolist())
    return value


def _parameter_forms(kernel: Kernel) -> dict[str, str]:
    """Say for each parameter how the contract hands it over: plain, tensor or either."""
    forms = {}
    for name, parameter in inspect.signature(kernel.function).parameters.items():
        annotation = str(parameter.annotation)
        takes_tensor = "Tensor" in annotation or "IntsLike" in annotation
        takes_plain = re.search(r"\b(int|float|bool|str|Ints|IntsLike)\b", annotation) is not None
        forms[name] = "either" if takes_tensor and takes_plain else "tensor" if takes_tensor else "plain"
    return forms


def _argument(form: str, var: Any, values: Mapping[Any, Any]) -> Any:
    if isinstance(var, (list, tuple)):
        return [_argument("tensor", entry, values) for entry in var]
    is_const = var.op is not None and var.op.op_type == "const"
    if form == "plain" or (form == "either" and is_const):
        if var.val is None:
            raise AssertionError(f"setting {var.name} is computed, its kernel takes plain Python only")
        return to_plain(var.val)
    if var in values:
        return values[var]
    if var.val is None:
        raise NotApplicable(f"{var.name} has no value")
    return to_tensor(var.val, var.dtype)


def _widened(value: Any) -> Any:
    if isinstance(value, list):
        return [_widened(entry) for entry in value]
    if isinstance(value, torch.Tensor) and value.dtype == torch.float16:
        return value.to(torch.float32)
    return value


def opset_number(opset: Any) -> int:
    """Turn a coremltools target into the number kernels take: iOS17 into 17."""
    return int(re.sub(r"\D", "", opset.name))


def _must_have_meaning(op: Any) -> None:
    if op.op_type.startswith(WITHOUT_MEANING):
        raise NotApplicable(f"{op.op_type} has no kernel by design")


def run_op(op: Any, values: Mapping[Any, Any], output_types: Sequence[Any], opset: int) -> tuple[torch.Tensor, ...]:
    """Run one pymil operation and hold its results against the declared types.

    Raises:
        NoKernel: the op has none.
        NotApplicable: the op has no meaning as a kernel, or an operand has no value.
        WrongInference: shape or dtype are not what coremltools declares.
    """
    _must_have_meaning(op)
    found = reference.lookup(f"mil.{op.op_type}")
    if found is None:
        raise NoKernel(op.op_type)
    forms = _parameter_forms(found)
    arguments = {
        name: _widened(_argument(forms.get(name, "plain"), var, values))
        for name, var in op.inputs.items()
        if var is not None
    }
    if found.takes_opset:
        arguments["opset"] = opset
    with torch.no_grad():
        results = found.function(**arguments)
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(output_types):
        raise WrongInference(f"{op.op_type} gives {len(results)} results, {len(output_types)} are declared")
    return tuple(
        _declared(op.op_type, result, declared) for result, declared in zip(results, output_types, strict=True)
    )


def _declared(op_type: str, result: torch.Tensor, declared: Any) -> torch.Tensor:
    is_tensor = types.is_tensor(declared)
    builtin = declared.get_primitive() if is_tensor else declared
    shape = tuple(declared.get_shape()) if is_tensor else ()
    dtype = _TORCH[dtype_name(builtin)]
    # What was widened is rounded. Of mixed operands of matmul the one that is not const gives the
    # dtype of the result (iOS17); a kernel is not told which that is.
    if (result.dtype == torch.float32 and dtype == torch.float16) or op_type == "matmul":
        result = result.to(dtype)
    if result.dtype != dtype:
        raise WrongInference(f"{op_type} gives {result.dtype}, coremltools declares {dtype}")
    if any(str(size).startswith("*") for size in shape):
        return result  # a shape of unknown rank
    same_rank = len(shape) == result.dim()
    if not same_rank or any(
        not is_symbolic(want) and int(want) != have for want, have in zip(shape, result.shape, strict=True)
    ):
        raise WrongInference(f"{op_type} gives {tuple(result.shape)}, coremltools declares {shape}")
    return result


class Interpreter:
    """Runs ``main`` of a pymil program; states live from one run to the next."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.function = program.functions["main"]
        self.opset = opset_number(self.function.opset_version)
        for op in self.function.operations:
            _must_have_meaning(op)
        self.uses_float16 = any(
            dtype_name(var.dtype) == "fp16"
            for var in [
                *self.function.inputs.values(),
                *(v for op in self.function.operations for v in op.outputs),
            ]
        )
        self.states = {
            name: torch.zeros(tuple(var.shape), dtype=_TORCH[dtype_name(var.dtype)])
            for name, var in self.function.inputs.items()
            if types.is_state(var.sym_type)
        }

    def run(self, inputs: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
        """Run once on numpy inputs; return the outputs by name."""
        values: dict[Any, Any] = {}
        state_names = {}
        for name, var in self.function.inputs.items():
            if name in self.states:
                values[var] = self.states[name]
                state_names[var] = name
            elif inputs is None or name not in inputs:
                raise NotApplicable(f"input {name} has no value")
            else:
                values[var] = to_tensor(inputs[name], var.dtype)
        for op in self.function.operations:
            if op.op_type == "const":
                continue
            results = run_op(op, values, [var.sym_type for var in op.outputs], self.opset)
            values.update(zip(op.outputs, results, strict=True))
            if op.op_type == "coreml_update_state":
                values[op.state] = results[0]
                self.states[state_names[op.state]] = results[0]
        return {
            var.name: values[var] if var in values else to_tensor(var.val, var.dtype) for var in self.function.outputs
        }

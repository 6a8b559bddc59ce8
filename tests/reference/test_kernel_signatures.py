"""Every MIL op has a kernel with MIL's parameters and defaults, which runs in every float dtype.

pymil writes defaults out as consts, so no value of Apple's tells a wrong default of a kernel.
"""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from anec import reference

WITHOUT_KERNEL = re.compile(r"const|_const_symbolic|cond|while_loop|make_list|list_\w+|random_\w+|classify")
OPS = sorted(name for name in SSAOpRegistry.core_ops if not WITHOUT_KERNEL.fullmatch(name))
OPS += [f"{name}" for name in sorted(SSAOpRegistry.dialect_ops) if name.startswith("coreml_")]


def versions(op: str) -> list[Any]:
    """Every version of an op, oldest first."""
    found = SSAOpRegistry.core_ops.get(op) or SSAOpRegistry.dialect_ops[op]
    if inspect.isclass(found):
        return [found]
    return [found[target] for target in sorted(found, key=lambda target: target.value)]


def defaults(op: str, rank: int) -> dict[str, Any]:
    """Ask the newest version of an op for its defaults, given operands of that rank."""
    newest = versions(op)[-1]
    instance = newest.__new__(newest)
    var = SimpleNamespace(rank=rank, shape=tuple(range(rank, 2 * rank)), dtype=types.fp32, val=None)
    for name in newest.input_spec.input_types:
        setattr(instance, name, var)
    return dict(instance.default_inputs().items())


def plain(value: Any) -> Any:
    """Write a default as the contract hands it over."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple, range, np.ndarray)):
        return tuple(np.asarray(value).tolist())
    return value


@pytest.mark.parametrize("op", OPS)
def test_parameters_are_those_of_mil(op: str) -> None:
    found = reference.lookup(f"mil.{op}")
    assert found is not None, f"{op} has no kernel"
    parameters = dict(inspect.signature(found.function).parameters)
    if parameters.pop("opset", None) is not None:
        assert found.takes_opset
    inputs = [version.input_spec.input_types for version in versions(op)]
    assert set(parameters) == set().union(*inputs)
    for name, parameter in parameters.items():
        is_required = parameter.default is inspect.Parameter.empty
        # An input that came or went with an opset is optional: the kernel takes both forms.
        assert is_required == all(name in spec and not spec[name].optional for spec in inputs), name


@pytest.mark.parametrize("op", OPS)
def test_defaults_are_those_of_mil(op: str) -> None:
    found = reference.lookup(f"mil.{op}")
    assert found is not None
    parameters = inspect.signature(found.function).parameters
    other = defaults(op, rank=5)
    for name, value in defaults(op, rank=4).items():
        # What depends on the operands' shapes is None for the kernel to fill in.
        wanted = plain(value) if plain(value) == plain(other[name]) else None
        have = parameters[name].default
        if isinstance(wanted, float):
            assert have == pytest.approx(wanted, rel=1e-6), name
        else:
            assert have == wanted, name

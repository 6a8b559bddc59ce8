"""What tests of rules share: modules from a function, running rules, reading the result."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from anec import mil, rewrite, var
from anec.ir.build import Builder
from anec.ir.graph import Graph, Module, Origin, Value
from anec.ir.parser import parse_type
from anec.ir.signature import Port
from anec.ir.types import TensorType
from anec.ir.verify import verify
from anec.rewrite import Rewriter, RewriteRecord, Rule
from anec.rewrite.records import Statistics


def module_of(function: Callable[..., Any], *types: str, line: str = "model.py:1") -> Module:
    """A module of the ops ``function`` calls on inputs x0, x1... of these types."""
    module = Module()
    graph = module.functions["main"] = Graph("main")
    inputs = []
    for index, text in enumerate(types or ("f32[2,4]",)):
        type_ = parse_type(text)
        assert isinstance(type_, TensorType)
        inputs.append(graph.add_input(f"x{index}", type_))
    with Builder(graph, origin=Origin("net", line)).active():
        made = function(*inputs)
    graph.outputs = [made] if isinstance(made, Value) else list(made)
    graph.signature.inputs = [Port(value.name, value.type) for value in graph.inputs]
    graph.signature.outputs = [Port(f"y{i}", value.type) for i, value in enumerate(graph.outputs)]
    verify(module)
    return module


def lines(module: Module) -> list[str]:
    """The ops as text without types and origins."""
    return [re.sub(r" : [^:]*$", "", line.split("  ; ")[0].rstrip()) for line in _body(module)]


def _body(module: Module) -> list[str]:
    return [str(op) for op in map(repr, module.main.ops())]


def run(module: Module, *rules: Rule, records: list[RewriteRecord] | None = None, **settings: Any) -> Statistics:
    """Apply rules until none fires; the laws hold afterwards."""
    record = records.append if records is not None else None
    statistics = Rewriter(module, rules, record=record, **settings).run(module.main)
    verify(module)
    return statistics


def fires(rule: Rule, function: Callable[..., Any], *types: str) -> bool:
    """True when the rule fires on the module of ``function``; it must fire at most once."""
    fired = run(module_of(function, *types), rule).fired
    assert fired.get(rule.name, 0) <= 1
    return rule.name in fired


def roots(module: Module) -> list[str]:
    """The ops' names without the dialect."""
    return [op.defn.root for op in module.main.ops()]


__all__: Sequence[str] = ["fires", "lines", "module_of", "roots", "run"]


def rule(*patterns: Any, name: str | None = None) -> Any:
    """``rewrite`` for functions of any type."""
    return rewrite(*patterns, name=name)


@rule(mil.softplus(var("x")))
def soft(x: Value) -> Value:
    return mil.log(mil.add(mil.exp(x), 1.0))

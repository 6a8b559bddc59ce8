"""The boundary of a program: the leaves of its call and of its result, and their default names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from anec.errors import UnsupportedError
from anec.frontend.names import Key, children, is_leaf, join, leaf_paths, output_defaults, path_text, unique


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of the torch call or result.

    Args:
        node: the fx node's name behind it; empty for a constant.
        default: the default public name.
        path: where it sits, ``args[0]['mask']``.
        constant: the value of a leaf that is no tensor.
        is_tensor: true for a tensor.
    """

    node: str
    default: str
    path: str
    constant: object = None
    is_tensor: bool = True


def argument_names(program: ExportedProgram) -> tuple[str, ...]:
    """Forward's parameter names, one for each top-level argument.

    A program that does not carry them gives keywords by name, and positional arguments after its
    placeholders, which torch names after the parameters.
    """
    positional, named = children(program.call_spec.in_spec)
    keywords = [str(key) for key in named.context or ()]
    signature = program.module_call_graph[0].signature if program.module_call_graph else None
    known = list(getattr(signature, "forward_arg_names", None) or ())
    if len(known) == len(children(positional)) + len(keywords):
        return tuple(known)
    placeholders = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    names: list[str] = []
    for number, spec in enumerate(children(positional)):
        paths = leaf_paths(spec)
        name = placeholders[0] if paths else f"input_{number}"
        if paths and not is_leaf(spec):
            name = name.removesuffix("_" + "_".join(str(key) for key in paths[0]))
        names.append(name)
        placeholders = placeholders[len(paths) :]
    return (*unique(names, keywords), *keywords)


def input_leaves(program: ExportedProgram, arguments: tuple[str, ...]) -> list[Leaf]:
    """The leaves of the torch call, in the order of the program's user inputs."""
    positional, named = children(program.call_spec.in_spec)
    count = len(children(positional))
    tops: list[tuple[str, str, Any]] = []
    for number, (name, spec) in enumerate(zip(arguments, (*children(positional), *children(named)), strict=True)):
        tops.append((name, f"args[{number}]" if number < count else f"kwargs[{name!r}]", spec))
    places = [(name, root, keys) for name, root, spec in tops for keys in leaf_paths(spec)]
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    defaults = unique([join([name, *keys]) for name, _, keys in places])
    return [
        _leaf(spec.arg, default, path_text(root, keys))
        for spec, default, (_, root, keys) in zip(specs, defaults, places, strict=True)
    ]


def output_leaves(program: ExportedProgram, taken: Sequence[str]) -> list[Leaf]:
    """The leaves of the torch result; ``taken`` are names that outputs avoid.

    Raises:
        UnsupportedError: an output is a number that sizes decide.
    """
    out_spec = program.call_spec.out_spec
    paths: list[tuple[Key, ...]] = leaf_paths(out_spec) if out_spec is not None else []
    kinds = (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind in kinds]
    leaves = [_leaf(spec.arg, "", path_text("", path)) for spec, path in zip(specs, paths, strict=True)]
    for leaf in leaves:
        if not leaf.is_tensor and leaf.node:
            place = f"output {leaf.path}".strip()
            raise UnsupportedError(
                f"the {place} is a number computed from sizes, not a tensor", hint="return tensors, or fix the sizes"
            )
    defaults = output_defaults([path for leaf, path in zip(leaves, paths, strict=True) if leaf.is_tensor])
    names = iter(unique([f"{name}_out" if name in taken else name for name in defaults], taken))
    return [replace(leaf, default=next(names)) if leaf.is_tensor else leaf for leaf in leaves]


def _leaf(argument: Any, default: str, path: str) -> Leaf:
    if isinstance(argument, TensorArgument):
        return Leaf(argument.name, default, path)
    if isinstance(argument, ConstantArgument):
        return Leaf("", default, path, argument.value, is_tensor=False)
    return Leaf(str(getattr(argument, "name", "")), default, path, is_tensor=False)


def example_call(
    program: ExportedProgram, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any], Mapping[str, Any]] | None:
    """The call to take example inputs from: the caller's, else the one stored in the program, else None."""
    call = (args or (), kwargs or {}) if args or kwargs else program.example_inputs
    if not call or any(isinstance(leaf, torch._subclasses.FakeTensor) for leaf in pytree.tree_leaves(call)):
        return None
    return call[0], call[1]

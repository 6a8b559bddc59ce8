"""The boundary of a lifted function: its inputs, states and outputs, named and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument

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

    They are in the program from torch 2.7 on; else keywords are known, and positional arguments
    are called after the placeholders, which torch names after the parameters.
    """
    positional, named = children(program.call_spec.in_spec)
    keywords = [str(key) for key in named.context or ()]
    signature = program.module_call_graph[0].signature if program.module_call_graph else None
    known = list(getattr(signature, "forward_arg_names", None) or ())
    if len(known) == len(children(positional)) + len(keywords):
        return tuple(known)
    placeholders = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    names, leaf = [], 0
    for number, spec in enumerate(children(positional)):
        paths = leaf_paths(spec)
        named_after = placeholders[leaf] if paths else f"input_{number}"
        suffix = "_".join(str(key) for key in paths[0]) if paths and not is_leaf(spec) else ""
        names.append(named_after.removesuffix(f"_{suffix}") if suffix else named_after)
        leaf += len(paths)
    return (*unique(names, keywords), *keywords)


def input_leaves(program: ExportedProgram, arguments: tuple[str, ...]) -> list[Leaf]:
    """The leaves of the torch call, in the order of the program's user inputs."""
    positional, named = children(program.call_spec.in_spec)
    tops: list[tuple[str, str, Any]] = [
        (name, f"args[{i}]", spec)
        for i, (name, spec) in enumerate(zip(arguments, children(positional), strict=False))
    ]
    rest = arguments[len(tops) :]
    tops += [(name, f"kwargs[{name!r}]", spec) for name, spec in zip(rest, children(named), strict=True)]
    places = [(name, root, keys) for name, root, spec in tops for keys in leaf_paths(spec)]
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    defaults = unique([join([name, *keys]) for name, _, keys in places])
    return [
        _leaf(spec.arg, default, path_text(root, keys))
        for spec, default, (_, root, keys) in zip(specs, defaults, places, strict=True)
    ]


def output_leaves(program: ExportedProgram, taken: Sequence[str]) -> list[Leaf]:
    """The leaves of the torch result; `taken` are the public names of inputs, which outputs avoid.

    Raises:
        UnsupportedError: an output is a number.
    """
    out_spec = program.call_spec.out_spec
    paths: list[tuple[Key, ...]] = leaf_paths(out_spec) if out_spec is not None else []
    specs = [s for s in program.graph_signature.output_specs if s.kind in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)]
    leaves = [_leaf(spec.arg, "", path_text("", path)) for spec, path in zip(specs, paths, strict=True)]
    tensors = [path for leaf, path in zip(leaves, paths, strict=True) if leaf.is_tensor]
    defaults = iter(unique([f"{n}_out" if n in taken else n for n in output_defaults(tensors)], taken))
    named = []
    for leaf in leaves:
        if leaf.is_tensor:
            named.append(Leaf(leaf.node, next(defaults), leaf.path))
            continue
        if leaf.constant is not None or leaf.node:
            shown = leaf.path or "the output"
            what = f"the number {leaf.constant!r}" if not leaf.node else "a number computed from sizes"
            raise UnsupportedError(f"the output {shown} is {what}, not a tensor", hint="return tensors or None")
        named.append(leaf)
    return named


def _leaf(argument: Any, default: str, path: str) -> Leaf:
    if isinstance(argument, TensorArgument):
        return Leaf(argument.name, default, path)
    if isinstance(argument, ConstantArgument):
        return Leaf("", default, path, argument.value, is_tensor=False)
    if isinstance(argument, SymIntArgument):
        return Leaf(argument.name, default, path, is_tensor=False)
    return Leaf(getattr(argument, "name", ""), default, path, is_tensor=False)


def mutated_buffers(program: ExportedProgram, target: str) -> dict[str, str]:
    """The buffers a program writes, each with the fx node of its new value.

    Raises:
        UnsupportedError: the program writes into an input or a parameter, or the target has no states.
    """
    found = {}
    for spec in program.graph_signature.output_specs:
        if spec.kind is OutputKind.BUFFER_MUTATION:
            found[str(spec.target)] = spec.arg.name
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            raise UnsupportedError(
                f"the model writes into its input {spec.target!r}",
                where=_line_of(program, spec.arg.name),
                hint="write into a copy: x = x.clone(), or return the new value",
            )
        elif "MUTATION" in spec.kind.name or "TOKEN" in spec.kind.name:
            raise UnsupportedError(
                f"the model has the side effect {spec.kind.name.lower()} on {spec.target!r}",
                where=_line_of(program, spec.arg.name),
            )
    if found and int(target.removeprefix("iOS")) < 18:
        name, node = next(iter(found.items()))
        raise UnsupportedError(
            f"the model writes the buffer {name!r}, and {target} has no states",
            where=_line_of(program, node),
            hint="compile for iOS18, or return the new value and pass it back in",
        )
    return found


def _line_of(program: ExportedProgram, node_name: str) -> str | None:
    from anec.frontend.origins import origin_of

    node = next((node for node in program.graph.nodes if node.name == node_name), None)
    return origin_of(node).place or None if node is not None else None


def example_inputs(
    program: ExportedProgram, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any], Mapping[str, Any]] | None:
    """The call to take example inputs from: the caller's, else the one stored in the program."""
    if args or kwargs:
        return args or (), kwargs or {}
    stored = program.example_inputs
    if not stored:
        return None
    return stored[0], stored[1]


__all__ = ["Leaf", "argument_names", "example_inputs", "input_leaves", "mutated_buffers", "output_leaves"]

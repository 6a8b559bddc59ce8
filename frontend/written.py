"""Tensors that a model holds and writes into without having registered them: they are buffers too.

    self.cache = StaticCache(...)                        # no buffer: an object that holds tensors
    self.cache.keys.index_copy_(2, position, new)

torch.export takes such a tensor for a constant, even where it is a registered buffer by another
name, and torch's functionalisation fails on the write. Here it becomes what it is: the registered
buffer of the same memory, or a buffer of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from anec.errors import UnsupportedError
from anec.frontend.origins import origin_of
from anec.frontend.writes import gives_new_tensor

Memory = tuple[int, torch.dtype, tuple[int, ...], tuple[int, ...]]


def with_written_buffers(program: ExportedProgram) -> ExportedProgram:
    """The program with its written constants as buffers; the one that was passed stays as it is.

    Raises:
        UnsupportedError: a constant shares part of its memory with what is written.
    """
    specs = {getattr(spec.arg, "name", ""): spec for spec in program.graph_signature.input_specs}
    constants = {name for name, spec in specs.items() if spec.kind is InputKind.CONSTANT_TENSOR}
    if not constants:
        return program
    held = {
        name: found
        for name, spec in specs.items()
        if spec.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR) and (found := _tensor(program, spec)) is not None
    }
    written = dict(_written(program.graph_module))
    changed = {_memory(held[node.name]): writer for node, writer in written.items() if node.name in held}
    touched = [name for name in held if name in constants and _is_changed(held[name], changed, str(specs[name].target))]
    if not touched:
        return program
    buffers = {_memory(held[name]): name for name in held if name not in constants}
    module = copy.deepcopy(program.graph_module)
    nodes = {node.name: node for node in module.graph.nodes if node.op == "placeholder"}
    for name in touched:
        twin = buffers.setdefault(_memory(held[name]), name)
        if twin == name:
            specs[name] = replace(specs[name], kind=InputKind.BUFFER, persistent=False)
        else:
            nodes[name].replace_all_uses_with(nodes[twin])
            module.graph.erase_node(nodes[name])
            del specs[name]
    ordered = _buffers_first(specs.values())
    _arrange(module, [nodes[spec.arg.name] for spec in ordered])
    signature = ExportGraphSignature(ordered, list(program.graph_signature.output_specs))
    return program._update(module, signature)


def _written(module: GraphModule) -> Iterator[tuple[Node, Node]]:
    """The placeholders that something is written into, each with a node that does; also inside of regions."""
    for node in module.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            for number, argument in enumerate(node.args):
                region = getattr(module, str(argument.target), None) if _is_region(argument) else None
                if not isinstance(region, GraphModule):
                    continue
                inner = [other for other in region.graph.nodes if other.op == "placeholder"]
                given = [leaf for leaf in pytree.tree_leaves(node.args[number + 1 :]) if not _is_region(leaf)]
                outer = dict(zip(inner, given, strict=False))
                for placeholder, writer in _written(region):
                    for root in _roots(outer.get(placeholder)):
                        yield root, writer
        elif isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            for number, argument in enumerate(node.target._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    given = node.args[number] if number < len(node.args) else node.kwargs.get(argument.name)
                    for leaf in pytree.tree_leaves(given):
                        for root in _roots(leaf):
                            yield root, node


def _is_region(argument: Any) -> bool:
    return isinstance(argument, Node) and argument.op == "get_attr"


def _roots(node: Any) -> Iterator[Node]:
    """The placeholder whose memory a node may be: views and in-place ops pass on what they are given."""
    while isinstance(node, Node) and node.op != "placeholder":
        if isinstance(node.target, torch._ops.OpOverload) and gives_new_tensor(node.target):
            return
        node = node.args[0] if node.args else None
    if isinstance(node, Node):
        yield node


def _tensor(program: ExportedProgram, spec: InputSpec) -> torch.Tensor | None:
    name = spec.target or ""
    found = program.constants[name] if name in program.constants else program.state_dict.get(name)
    return found if isinstance(found, torch.Tensor) else None


def _memory(tensor: torch.Tensor) -> Memory:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _is_changed(tensor: torch.Tensor, changed: Mapping[Memory, Node], name: str) -> bool:
    """True for a tensor that is one of those that are written; one that overlaps with one is refused."""
    if _memory(tensor) in changed:
        return True
    start, stop = _extent(_memory(tensor))
    for memory, writer in changed.items():
        first, last = _extent(memory)
        if start < last and first < stop:
            raise UnsupportedError(
                f"the tensor {name!r} shares a part of its memory with one that the model writes",
                where=origin_of(writer).place or None,
                hint="take the view of the written tensor in forward",
            )
    return False


def _extent(memory: Memory) -> tuple[int, int]:
    """First byte, and the one behind the last."""
    pointer, dtype, shape, stride = memory
    if 0 in shape:
        return pointer, pointer
    last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return pointer, pointer + (last + 1) * dtype.itemsize


def _buffers_first(specs: Iterable[InputSpec]) -> list[InputSpec]:
    """Buffers in front of constants, as torch wants them."""
    return sorted(specs, key=lambda spec: spec.kind not in (InputKind.TOKEN, InputKind.PARAMETER, InputKind.BUFFER))


def _arrange(module: GraphModule, placeholders: list[Node]) -> None:
    """Bring the placeholders into this order."""
    for node in reversed(placeholders):
        first = next(iter(module.graph.nodes))
        if first is not node:
            first.prepend(node)
    module.recompile()

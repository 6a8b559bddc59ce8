"""Constants that torch.export keeps of a vmap inside another.

    torch.vmap(torch.vmap(lambda row: self.w @ row))(x)

torch 2.14 takes a wrapper of the outer level for a constant of the program. It has no memory, only
unused ops read it, and torch's own decompositions fail on it.
"""

from __future__ import annotations

import copy

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec

from anec.errors import UnsupportedError
from anec.frontend.concrete import is_mapped
from anec.frontend.origins import origin_of


def without_vmap_levels(program: ExportedProgram) -> ExportedProgram:
    """The program without the constants that belong to a level of vmap; the one that was passed stays as it is.

    Raises:
        UnsupportedError: such a constant is used.
    """
    signature = program.graph_signature
    left = [spec for spec in signature.input_specs if not _is_level(program, spec)]
    if len(left) == len(signature.input_specs):
        return program
    module = copy.deepcopy(program.graph_module)
    for node in reversed(module.graph.nodes):
        if isinstance(node.target, torch._ops.OpOverload) and not node.users and not node.target._schema.is_mutable:
            module.graph.erase_node(node)
    kept = {getattr(spec.arg, "name", "") for spec in left}
    for node in module.graph.find_nodes(op="placeholder"):
        if node.name in kept:
            continue
        if node.users:
            raise UnsupportedError(
                "a tensor of one vmap is used in another as if it were constant",
                where=origin_of(next(iter(node.users))).place or None,
                hint="write the inner torch.vmap as one op on all rows",
            )
        module.graph.erase_node(node)
    module.recompile()
    return program._update(module, ExportGraphSignature(left, list(signature.output_specs)))


def _is_level(program: ExportedProgram, spec: InputSpec) -> bool:
    held = program.constants.get(spec.target or "") if spec.kind is InputKind.CONSTANT_TENSOR else None
    return isinstance(held, torch.Tensor) and is_mapped(held)


__all__ = ["without_vmap_levels"]

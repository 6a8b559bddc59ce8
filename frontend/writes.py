"""In-place ops that are as good as functional ones: nobody else looks at what they overwrite.

``relu_(conv(x))`` writes into a tensor that was made a moment ago and that has no other name. Read
as ``relu(conv(x))``, with later uses of the old value using the new one, it says the same; torch's
own functionalisation, which traces the whole program again, is only needed for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import Graph, Node

# Composites without their own kernel that always return a new tensor.
_FRESH = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d batch_norm layer_norm group_norm linear "
    "matmul scaled_dot_product_attention".split()
)


def functional_twin(op: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """The functional form of an in-place op of the same arguments: ``relu`` of ``relu_``."""
    library, _, packet = op._schema.name.partition("::")
    if library != "aten" or not packet.endswith("_") or packet.startswith("__"):
        return None
    twin = getattr(getattr(torch.ops.aten, packet[:-1], None), op._overloadname, None)
    if not isinstance(twin, torch._ops.OpOverload):
        return None
    mine, others = op._schema.arguments, twin._schema.arguments
    same = [a.name for a in mine] == [a.name for a in others]
    written = [a for a in mine if a.alias_info is not None and a.alias_info.is_write]
    return twin if same and len(written) == 1 and written[0] is not None and mine[0].name == written[0].name else None


def harmless_writes(graph: Graph) -> Mapping[Node, torch._ops.OpOverload] | None:
    """Every in-place op of a graph with its functional form, or None when one of them is not harmless."""
    found: dict[Node, torch._ops.OpOverload] = {}
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            continue
        twin = functional_twin(node.target)
        written = node.args[0] if node.args else None
        if twin is None or not isinstance(written, Node) or not _is_private(written, node, order, found):
            return None
        # The type must stay: in-place arithmetic keeps the dtype of what it writes into.
        if not _same_type(node, written):
            return None
        found[node] = twin
    return found


def _is_private(
    written: Node, writer: Node, order: Mapping[Node, int], found: Mapping[Node, torch._ops.OpOverload]
) -> bool:
    """True when ``written`` is a new tensor that has no alias: its storage is seen through its own name only."""
    if not isinstance(written.target, torch._ops.OpOverload):
        return False
    if written not in found and not gives_new_tensor(written.target):
        return False
    earlier = [user for user in written.users if user is not writer and order[user] < order[writer]]
    return all(_only_reads(user) for user in earlier)


def gives_new_tensor(op: torch._ops.OpOverload) -> bool:
    """True for an op whose one result never shares memory with an operand."""
    returns = op._schema.returns
    if len(returns) != 1 or returns[0].alias_info is not None or op._schema.is_mutable:
        return False
    name = str(op._schema).partition("(")[0]
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")
    return not composite or op._schema.name.partition("::")[2] in _FRESH


def _only_reads(user: Node) -> bool:
    """True when no result of ``user`` may share memory with its operands."""
    return isinstance(user.target, torch._ops.OpOverload) and gives_new_tensor(user.target)


def _same_type(node: Node, written: Node) -> bool:
    a, b = node.meta.get("val"), written.meta.get("val")
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape

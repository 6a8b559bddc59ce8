"""The branches of ``torch.cond``: both are computed, and the condition chooses.

    y = torch.cond(p, f, g, (x,))     ->     y = torch.where(p, f(x), g(x))

A branch may not change what it is given (torch refuses that), so computing the other one too has no effect but
its time; the Neural Engine has no control flow at all.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Sequence

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, TensorArgument
from torch.fx import GraphModule, Node
from torch.fx.node import Argument, map_arg

from anec.errors import UnsupportedError
from anec.frontend.origins import origin_of

# What says where a node comes from; those of a branch name a file that torch made up.
_PLACE = ("stack_trace", "nn_module_stack", "source_fn_stack")


def with_both_branches(program: ExportedProgram) -> ExportedProgram:
    """The program with the ops of all branches in a row; the one that was passed stays as it is.

    Raises:
        UnsupportedError: a branch gives a number.
    """
    if next(_conditions(program.graph_module), None) is None:
        return program
    module = copy.deepcopy(program.graph_module)
    # A branch may have branches.
    while (node := next(_conditions(module), None)) is not None:
        _compute_both(module, node)
    signature, constants = _with_constants(module, program)
    module.recompile()
    return program._update(module, signature, constants=constants)


def _conditions(module: GraphModule) -> Iterator[Node]:
    """Calls of cond that a tensor decides; sizes decide otherwise."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.higher_order.cond):
        given = node.args[0]
        if isinstance(given, Node) and isinstance(given.meta.get("val"), torch.Tensor):
            yield node


def _compute_both(module: GraphModule, node: Node) -> None:
    condition, yes, no, operands = node.args
    assert isinstance(yes, Node)
    assert isinstance(no, Node)
    assert isinstance(operands, (tuple, list))
    assert isinstance(condition, Node)
    with module.graph.inserting_before(node):
        if condition.meta["val"].dim():
            # One element of any rank, which the results need not have.
            seen = condition.meta["val"].view(())
            condition = module.graph.call_function(torch.ops.aten.view.default, (condition, []))
            condition.meta["val"] = seen
        chosen, other = (_inlined(module, branch, operands, node) for branch in (yes, no))
    for user in list(node.users):
        # It keeps its name, which the signature may know it by.
        assert user.target is operator.getitem
        index = user.args[1]
        assert isinstance(index, int)
        if not isinstance(user.meta.get("val"), torch.Tensor):
            raise UnsupportedError(
                "a branch of torch.cond gives a number, not a tensor",
                where=origin_of(node).place or None,
                hint="give a tensor of rank 0",
            )
        user.target, user.args = torch.ops.aten.where.self, (condition, chosen[index], other[index])
    module.graph.erase_node(node)
    for branch in (yes, no):
        if not branch.users:
            module.graph.erase_node(branch)


def _inlined(module: GraphModule, branch: Node, operands: Sequence[Argument], call: Node) -> Sequence[Argument]:
    """The ops of a branch in front of its call; returns its results."""
    inner = getattr(module, str(branch.target))
    values = dict(zip(inner.graph.find_nodes(op="placeholder"), operands, strict=True))
    for node in inner.graph.nodes:
        if node.op == "output":
            found = map_arg(node.args[0], values.__getitem__)
            assert isinstance(found, (tuple, list))
            return found
        if node.op == "placeholder":
            continue
        made = module.graph.node_copy(node, values.__getitem__)
        if node.op == "get_attr":
            made.target = f"{branch.target}_{node.target}"
            setattr(module, str(made.target), getattr(inner, str(node.target)))
        made.meta |= {key: call.meta[key] for key in _PLACE if key in call.meta}
        values[node] = made
    raise AssertionError("a graph without output")


def _with_constants(
    module: GraphModule, program: ExportedProgram
) -> tuple[ExportGraphSignature, dict[str, torch.Tensor]]:
    """The signature and the constants with the tensors that branches hold, as those of a program have to be."""
    specs, constants = list(program.graph_signature.input_specs), dict(program.constants)
    stored = (InputKind.PARAMETER, InputKind.BUFFER)
    place = next((number for number, spec in enumerate(specs) if spec.kind not in stored), len(specs))
    first = list(module.graph.nodes)[place]
    lifted = dict[str, Node]()
    for node in module.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if not isinstance(tensor := getattr(module, name), torch.Tensor):
            continue
        if name not in lifted:
            with module.graph.inserting_before(first):
                lifted[name] = module.graph.placeholder(f"c_{name}")
            lifted[name].meta = dict(node.meta)
            argument = TensorArgument(name=lifted[name].name)
            specs.insert(place + len(lifted) - 1, InputSpec(InputKind.CONSTANT_TENSOR, argument, name))
            constants[name] = tensor
        node.replace_all_uses_with(lifted[name])
        module.graph.erase_node(node)
    return ExportGraphSignature(specs, list(program.graph_signature.output_specs)), constants


__all__ = ["with_both_branches"]

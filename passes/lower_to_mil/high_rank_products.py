"""Products over tensors of rank 6 and more: Einstein sums and linear layers on fewer axes.

    %x: f32[24,30,7], %w: f32[30,8,7]
    %1 = aten.view.default(%x) {size=[2, 3, 4, 5, 6, 7]}
    %2 = aten.view.default(%w) {size=[5, 6, 8, 7]}
    %3 = aten.einsum.default([%1, %2]) {equation="bythwc,hwkc->bythwk"}
    %y = aten.view.default(%3) {size=[24, 30, 8]}
        ->
    %1 = mil.reshape(%w, [5, 6, 8, 7])
    %2 = mil.reshape(%1, [30, 8, 7])
    %3 = mil.transpose(%x) {perm=[1, 2, 0]}
    %4 = mil.matmul(%2, %3)
    %y = mil.transpose(%4) {perm=[2, 0, 1]}

Labels that stay neighbours become one, axes of size 1 go first. What remains is the same sum on fewer
axes, between views.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

from anec.dialects import aten
from anec.ir.dims import Dim
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.einsum import Labels, parse
from anec.passes.lower_to_mil.movement import unsupported_rank
from anec.passes.lower_to_mil.permutation import MAX_RANK, volume
from anec.rewrite import Rule, reject, rewrite

_LETTERS = ascii_lowercase + ascii_uppercase


@rewrite(aten.einsum.default)
def einsum(op: Op) -> Value:
    """The sum of fewer, longer axes."""
    tensors = op.variadic("tensors")
    if not any(isinstance(x, Value) and x.rank > MAX_RANK for x in (*tensors, op.result)):
        reject(f"the tensors have {MAX_RANK} axes or fewer")
    values = [x for x in tensors if isinstance(x, Value)]
    operands, output = parse(str(op.attr("equation")), [x.rank for x in values])
    if any(len(set(labels)) != len(labels) for labels in operands):
        reject("a label that occurs twice takes a diagonal")
    sizes: dict[str, Dim] = {}
    for x, labels in zip(values, operands, strict=True):
        for label, size in zip(labels, x.tensor.shape, strict=True):
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    long = [
        tuple(label for label, size in zip(labels, x.tensor.shape, strict=True) if size != 1)
        for x, labels in zip(values, operands, strict=True)
    ]
    groups = _neighbours([*long, tuple(label for label in output if sizes[label] != 1)])
    if any(len(term) > MAX_RANK for term in groups):
        raise unsupported_rank(op, "no axes of it stay neighbours")
    names: dict[Labels, str] = {}
    for term in groups:
        for group in term:
            names.setdefault(group, _LETTERS[len(names)])
    spelt = ["".join(names[group] for group in term) for term in groups]
    views = [
        aten.view.default(x, tuple(volume([sizes[label] for label in group]) for group in term))
        for x, term in zip(values, groups[:-1], strict=True)
    ]
    made = aten.einsum.default(f"{','.join(spelt[:-1])}->{spelt[-1]}", views)
    return aten.view.default(made, op.result.tensor.shape)


def _neighbours(terms: Sequence[Labels]) -> list[list[Labels]]:
    """Each term as groups of labels that every term has as a whole, in one order, or not at all."""
    follower: dict[str, str | None] = {}
    leader: dict[str, str | None] = {}
    for term in terms:
        padded = (None, *term, None)
        for before, label, after in zip(padded, term, padded[2:], strict=False):
            for table, beside in ((leader, before), (follower, after)):
                table[label] = beside if table.get(label, beside) == beside else None
    found: list[list[Labels]] = []
    for term in terms:
        groups: list[Labels] = []
        for label in term:
            before = leader[label]
            if groups and before is not None and groups[-1][-1] == before and follower[before] == label:
                groups[-1] = (*groups[-1], label)
            else:
                groups.append((label,))
        found.append(groups)
    return found


@rewrite(aten.linear.default)
def linear(op: Op) -> Value:
    """All axes but the last are rows."""
    x = op.value("input")
    if x.rank <= MAX_RANK:
        reject(f"the operand has {MAX_RANK} axes or fewer")
    *rows, width = x.tensor.shape
    flat = aten.view.default(x, (volume(rows), width))
    return aten.view.default(aten.linear.default(flat, *op.operands[1:]), op.result.tensor.shape)


RULES: list[Rule] = [einsum, linear]

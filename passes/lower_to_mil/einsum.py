"""Einstein sums: any equation as matrix products, reshapes and few transposes.

    %y = aten.einsum.default([%q, %k]) {equation="bqhd,bkhd->bhqk"}     %q: f32[1,4,2,8], %k: f32[1,6,2,8]
        ->
    %1 = mil.transpose(%q) {perm=[0, 2, 1, 3]}
    %2 = mil.transpose(%k) {perm=[0, 2, 3, 1]}
    %y = mil.matmul(%1, %2)

The two equations that Core ML's einsum takes (``bchq,bkhc->bkhq`` of ANE attention among them) stay
one op. Of all ways to lay the operands out, the one with the fewest transposes is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as combinations

from anec.dialects import aten, mil
from anec.errors import AnecError, UnsupportedError
from anec.ir.dims import Dim
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.passes.lower_to_mil.matmul import product
from anec.passes.lower_to_mil.movement import moved, reshaped
from anec.passes.lower_to_mil.permutation import MAX_RANK, Movement, volume
from anec.passes.lower_to_mil.slicing import diagonal_of
from anec.passes.lower_to_mil.typing import axis, cast, result_type, value
from anec.rewrite import Rule, rewrite

Labels = tuple[str, ...]
Sizes = Mapping[str, Dim]
# What Core ML's einsum computes, by the canonical form of the equation (coremltools, einsum).
_NATIVE = {"abcd,adce->abce": "nchw,nwhu->nchu", "abc,cbd->abd": "chw,whr->chr"}


@dataclass(frozen=True, slots=True)
class Term:
    """A tensor and a label for each of its axes."""

    tensor: Value
    labels: Labels


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result; the axes of ``...`` are labelled from the right.

    Raises:
        AnecError: the equation does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise AnecError(f"einsum {equation!r} has {len(terms)} operands, {len(ranks)} are given")
    operands = [_labels(term, rank, equation) for term, rank in zip(terms, ranks, strict=True)]
    widest = max((label for labels in operands for label in labels if label.startswith("...")), default="", key=_place)
    ellipsis = tuple(f"...{place}" for place in range(_place(widest), -1, -1)) if widest else ()
    if arrow:
        before, dots, after = right.partition("...")
        return operands, (*before, *(ellipsis if dots else ()), *after)
    letters = [letter for letter in left if letter.isalpha()]
    return operands, (*ellipsis, *sorted(letter for letter in letters if letters.count(letter) == 1))


def _place(label: str) -> int:
    return int(label[3:])


def _labels(term: str, rank: int, equation: str) -> Labels:
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise AnecError(f"einsum {equation!r}: {term!r} does not fit a tensor of rank {rank}")
    return (*before, *(f"...{place}" for place in range(hidden - 1, -1, -1)), *after)


# -- terms ---------------------------------------------------------------------------------------


def _sizes(terms: Sequence[Term]) -> dict[str, Dim]:
    sizes: dict[str, Dim] = {}
    for term in terms:
        for label, size in zip(term.labels, term.tensor.tensor.shape, strict=True):
            if sizes.get(label, 1) == 1:
                sizes[label] = size
    return sizes


def _unrepeated(term: Term) -> Term:
    """A label that occurs twice takes the diagonal."""
    while repeated := [label for label in term.labels if term.labels.count(label) > 1]:
        label = repeated[0]
        first, second = [at for at, name in enumerate(term.labels) if name == label][:2]
        x = diagonal_of(term.tensor, first, second, 0, term.tensor.tensor.shape[first])
        term = Term(x, (*(name for at, name in enumerate(term.labels) if at not in (first, second)), label))
    return term


def _unstretched(term: Term, sizes: Sizes) -> Term:
    """An axis of size 1 that broadcasts against a larger one is dropped."""
    shape = term.tensor.tensor.shape
    keep = [at for at, label in enumerate(term.labels) if shape[at] != 1 or sizes[label] == 1]
    if len(keep) == len(shape):
        return term
    return Term(reshaped(term.tensor, [shape[at] for at in keep]), tuple(term.labels[at] for at in keep))


def _summed(term: Term, kept: Sequence[str]) -> Term:
    """Labels that nobody else wants are summed over."""
    gone = tuple(at for at, label in enumerate(term.labels) if label not in kept)
    if not gone:
        return term
    x = mil.reduce_sum(term.tensor, axes=gone, keep_dims=False)
    return Term(x, tuple(label for label in term.labels if label in kept))


def _arranged(term: Term, labels: Sequence[str], shape: Sequence[Dim]) -> Value:
    """The tensor with its axes in the order of ``labels``, as ``shape``."""
    perm = [term.labels.index(label) for label in labels]
    return moved(term.tensor, Movement.of(term.tensor.tensor.shape).permuted(perm), shape)


# -- products of two -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """How two terms are laid out for ``left @ right``; labels in order."""

    swapped: bool
    batch: Labels
    rows: Labels
    columns: Labels
    inner: Labels
    left_transposed: bool
    right_transposed: bool

    @property
    def left(self) -> Labels:
        tail = (*self.inner, *self.rows) if self.left_transposed else (*self.rows, *self.inner)
        return (*self.batch, *tail)

    @property
    def right(self) -> Labels:
        tail = (*self.columns, *self.inner) if self.right_transposed else (*self.inner, *self.columns)
        return (*self.batch, *tail)

    @property
    def result(self) -> Labels:
        return (*self.batch, *self.rows, *self.columns)


def _plans(left: Term, right: Term, wanted: Labels) -> Iterator[Plan]:
    for swapped in (False, True):
        a, b = (right.labels, left.labels) if swapped else (left.labels, right.labels)
        orders = list(dict.fromkeys((a, b, wanted)))
        shared = [label for label in a if label in b]
        batch_set, inner_set = (set(shared) & set(wanted), set(shared) - set(wanted))
        rows, columns = ({x for x in a if x not in b}, {x for x in b if x not in a})
        for by_batch, by_rows, by_columns, by_inner in combinations(orders, (a, wanted), (b, wanted), (a, b)):
            for flips in combinations((False, True), (False, True)):
                yield Plan(
                    swapped,
                    tuple(x for x in by_batch if x in batch_set),
                    tuple(x for x in by_rows if x in rows),
                    tuple(x for x in by_columns if x in columns),
                    tuple(x for x in by_inner if x in inner_set),
                    *flips,
                )


def _best(left: Term, right: Term, wanted: Labels, *, final: bool) -> Plan:
    """The plan with the fewest transposes; then one with a constant on the right, for a linear layer."""
    constants = (is_constant(left.tensor), is_constant(right.tensor))

    def cost(plan: Plan) -> tuple[int, ...]:
        first, second = (right, left) if plan.swapped else (left, right)
        first_constant, second_constant = reversed(constants) if plan.swapped else constants
        # A constant is transposed before emission.
        moves = (first.labels != plan.left and not first_constant) + (
            second.labels != plan.right and not second_constant
        )
        moves += final and plan.result != wanted
        flips = plan.left_transposed + (plan.right_transposed and not second_constant)
        return moves, first_constant, flips, plan.swapped

    return min(_plans(left, right, wanted), key=cost)


def _contracted(left: Term, right: Term, wanted: Labels, sizes: Sizes, *, final: bool) -> Term:
    """The product of two terms, summed over the labels that are not ``wanted``."""
    left, right = (_summed(term, (*wanted, *other.labels)) for term, other in ((left, right), (right, left)))
    inner = [label for label in left.labels if label in right.labels and label not in wanted]
    alone = [label for label in (*left.labels, *right.labels) if (label in left.labels) != (label in right.labels)]
    if not inner or not alone:
        return _multiplied(left, right, wanted, inner, sizes)
    plan = _best(left, right, wanted, final=final)
    first, second = (right, left) if plan.swapped else (left, right)

    def size(labels: Sequence[str]) -> Dim:
        return volume([sizes[label] for label in labels])

    batch: tuple[Dim, ...] = tuple(sizes[label] for label in plan.batch)
    if len(batch) > MAX_RANK - 2:
        batch = (size(plan.batch),)
    rows: tuple[Dim, ...] = (size(plan.rows),)
    free = not batch and not plan.left_transposed and len(plan.rows) + 1 <= MAX_RANK and len(plan.rows) > 1
    if free:
        # A matrix on the right meets every row of a tensor of any rank.
        rows = tuple(sizes[label] for label in plan.rows)
    deep, wide = size(plan.inner), size(plan.columns)
    a = _arranged(first, plan.left, (*batch, deep, *rows) if plan.left_transposed else (*batch, *rows, deep))
    b = _arranged(second, plan.right, (*batch, wide, deep) if plan.right_transposed else (*batch, deep, wide))
    if plan.left_transposed:
        result = mil.matmul(a, b, transpose_x=True, transpose_y=plan.right_transposed)
    else:
        result = product(a, b, transpose_y=plan.right_transposed)
    labels = plan.result
    order = tuple(label for label in wanted if label in labels) if final else labels
    _fits(order)
    movement = Movement.of([sizes[label] for label in labels]).permuted([labels.index(label) for label in order])
    return Term(moved(result, movement, [sizes[label] for label in order]), order)


def _multiplied(left: Term, right: Term, wanted: Labels, inner: Sequence[str], sizes: Sizes) -> Term:
    """No matrix product: entry by entry, then a sum."""
    order = (*(label for label in wanted if label in left.labels or label in right.labels), *inner)
    _fits(order)
    parts = []
    for term in (left, right):
        labels = [label for label in order if label in term.labels]
        # Axes in front may be missing: they broadcast.
        tail = order[order.index(labels[0]) :] if labels else ()
        shape = [sizes[label] if label in term.labels else 1 for label in tail]
        parts.append(_arranged(term, labels, shape))
    result = mil.mul(parts[0], parts[1])
    if inner:
        result = mil.reduce_sum(result, axes=tuple(range(len(order) - len(inner), len(order))), keep_dims=False)
    return Term(result, order[: len(order) - len(inner)])


def _fits(labels: Sequence[str]) -> None:
    if len(labels) > MAX_RANK:
        raise UnsupportedError(
            f"the sum of products needs a tensor of rank {len(labels)}; Core ML's have at most {MAX_RANK} axes",
            hint="write it as matrix products and reshapes in the model",
        )


# -- the ops -------------------------------------------------------------------------------------


def contract(tensors: Sequence[Value], operands: Sequence[Labels], output: Labels) -> Value:
    """The Einstein sum of tensors, from left to right."""
    terms = [_unrepeated(Term(x, labels)) for x, labels in zip(tensors, operands, strict=True)]
    sizes = _sizes(terms)
    terms = [_unstretched(term, sizes) for term in terms]
    at = terms[0]
    for index, term in enumerate(terms[1:], 1):
        later = [label for other in terms[index + 1 :] for label in other.labels]
        wanted = tuple(dict.fromkeys((*output, *later)))
        at = _contracted(at, term, wanted, sizes, final=index == len(terms) - 1)
    at = _summed(at, output)
    missing = [label for label in output if label not in at.labels]
    shape = [1 if label in missing else sizes[label] for label in output]
    return _arranged(at, [label for label in output if label in at.labels], shape)


def _canonical(operands: Sequence[Labels], output: Labels) -> str:
    names: dict[str, str] = {}
    for label in (*operands[0], *operands[1], *output):
        names.setdefault(label, "abcdefghijklmnopqrstuvwxyz"[len(names) % 26])
    return ",".join("".join(names[x] for x in labels) for labels in operands) + "->" + "".join(names[x] for x in output)


def _native(tensors: Sequence[Value], operands: Sequence[Labels], output: Labels) -> Value | None:
    """Core ML's own einsum, where it has the equation in one order of the operands."""
    if len(tensors) != 2 or not tensors[0].tensor.dtype.is_float:
        return None
    for order in ((0, 1), (1, 0)):
        a, b = (tensors[i] for i in order)
        equation = _NATIVE.get(_canonical([operands[i] for i in order], output))
        if equation is not None and a.tensor.shape[-1] == b.tensor.shape[-3]:
            return mil.einsum([a, b], equation=equation)
    return None


@rewrite(aten.einsum.default)
def einsum(op: Op) -> Value:
    """Core ML's own op where it has the equation, else products of two from left to right."""
    dtype = result_type(op).dtype
    tensors = [value(operand, dtype) for operand in op.variadic("tensors")]
    operands, output = parse(str(op.attr("equation")), [x.rank for x in tensors])
    found = _native(tensors, operands, output)
    return found if found is not None else contract(tensors, operands, output)


@rewrite(aten.tensordot.default)
def tensordot(op: Op) -> Value:
    """The einsum that gives both operands of a summed axis one label."""
    dtype = result_type(op).dtype
    x, y = value(op.operand("self"), dtype), value(op.operand("other"), dtype)
    left = [f"a{at}" for at in range(x.rank)]
    right = [f"b{at}" for at in range(y.rank)]
    dims = [op.attr(name) for name in ("dims_self", "dims_other")]
    summed = [given if isinstance(given, tuple) else (given,) for given in dims]
    for first, second in zip(*summed, strict=True):
        right[axis(second, y.rank)] = left[axis(first, x.rank)]
    output = [label for label in (*left, *right) if (label in left) != (label in right)]
    return contract([x, y], [tuple(left), tuple(right)], tuple(output))


@rewrite(aten.bilinear.default)
def bilinear(op: Op) -> Value:
    """``y[o] = x1 A[o] x2 + b[o]`` over the last axes."""
    dtype = result_type(op).dtype
    first, second, weight = (value(op.operand(name), dtype) for name in ("input1", "input2", "weight"))
    lead = tuple(f"l{at}" for at in range(first.rank - 1))
    found = contract([first, weight, second], [(*lead, "i"), ("o", "i", "j"), (*lead, "j")], (*lead, "o"))
    bias = cast(op.operand("bias"), dtype)
    return found if bias is None else mil.add(found, bias)


@rewrite(aten._trilinear.default)
def trilinear(op: Op) -> Value:
    """The product of three tensors with axes inserted, summed over some: what bilinear becomes."""
    dtype = result_type(op).dtype
    tensors, operands = [], []
    total = 0
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        x, inserted = value(op.operand(name), dtype), op.attr(expand)
        assert isinstance(inserted, tuple)
        total = x.rank + len(inserted)
        gone = {axis(at, total) for at in inserted}
        tensors.append(x)
        operands.append(tuple(f"t{at}" for at in range(total) if at not in gone))
    summed = op.attr("sumdim")
    assert isinstance(summed, tuple)
    gone = {axis(at, total) for at in summed}
    return contract(tensors, operands, tuple(f"t{at}" for at in range(total) if at not in gone))


RULES: list[Rule] = [einsum, tensordot, bilinear, trilinear]

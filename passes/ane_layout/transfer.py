"""Ops in another form: what each is built as, from the layout slot of its definition.

%y = mil.linear(%x, %w, %b)                          %x: f32[B,S,C]
->
%w4 = mil.expand_dims(%w) {axes=[2, 3]}              a constant, computed once
%y = mil.conv(%x, %w4, %b)                           %x: f32[B,C,1,S]

%y = mil.layer_norm(%x, %g, %b) {axes=[-1]}    ->    %y = mil.layer_norm(%x, %g, %b) {axes=[1]}
%y = mil.matmul(%p, %q)                        ->    %y = mil.matmul(%q, %p)        each with its last axes swapped
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anec.dialects import mil
from anec.ir.attrs import Attr, Literal
from anec.ir.graph import Op, Value
from anec.ir.opdef import LayoutKind
from anec.passes.ane_layout.forms import Form, forms_of, places
from anec.passes.common import dims, ints

# An operand in the op's form, at the rank of the op's own tensors.
Fetch = Callable[[Value], Value]
# The rank of heads of attention before they are merged: batch, heads, places, channels.
_HEADS = 4
# What a list of one entry an axis says of an axis that is there for its place only.
_NEUTRAL: dict[str, int | bool] = {
    "begin": 0, "end": 1, "stride": 1, "begin_mask": True, "end_mask": True, "squeeze_mask": False,
    "size": 1, "reps": 1,
}  # fmt: skip
_AXES = frozenset(
    f"mil.{name}"
    for name in "reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min "
    "reduce_prod reduce_sum reduce_sum_square reverse concat split softmax cumsum reduce_argmax reduce_argmin topk "
    "argsort slice_by_index slice_by_size tile".split()
)


@dataclass(frozen=True, slots=True)
class Moving:
    """An op that can work in other forms.

    Args:
        rank: the rank of its tensors as written.
        keeps_rank: its results have that rank too; otherwise axes of size 1 are still to be dropped.
        forms: the forms.
    """

    rank: int
    keeps_rank: bool
    forms: tuple[Form, ...]


def moving(op: Op) -> Moving | None:
    """How ``op`` is built in other forms; None when it cannot be."""
    found = judged(op)
    return found if isinstance(found, Moving) else None


def judged(op: Op) -> Moving | str:
    """How ``op`` is built in other forms, or why it cannot be."""
    given = [operand for operand in op.inputs if not operand.is_constant]
    if not given or not op.results:
        return "nothing it uses is computed"
    rank = max(operand.rank for operand in (*op.inputs, *op.results))
    forms = tuple(form for form in forms_of(rank) if all(form in forms_of(result.rank) for result in op.results))
    keeps = all(result.rank == rank for result in op.results)
    if is_projection(op):
        forms = tuple(form for form in forms if places(form, rank)[-1] == 1)
    elif op.defn is mil.linear or op.defn is mil.matmul:
        # The last two axes of heads are swapped in their form, and nothing else: (X Y)^T is Y^T X^T.
        swaps = op.defn is mil.matmul and all(operand.rank == _HEADS for operand in op.inputs)
        forms = (Form.SEQUENCE_LAST,) if swaps else ()
    if op.defn is mil.linear or op.defn is mil.matmul:
        hindrance = "" if forms else "it has no constant matrix over its last axis"
    elif not forms:
        hindrance = f"tensors of rank {rank} have one form"
    elif op.defn is mil.layer_norm:
        axes = op.attr("axes")
        # Scale and shift of several axes would have to be permuted with them.
        movable = isinstance(axes, tuple) and (len(axes) == 1 or op.operand("gamma") is None)
        hindrance = "" if movable else "it has a scale along several axes"
    elif op.defn is mil.pad:
        movable = op.attr("mode") == "constant" and ints(op.operand("pad")) is not None
        hindrance = "" if movable else "it repeats what is there, or by how much is computed"
    elif op.defn.layout.kind is LayoutKind.ELEMENTWISE:
        # A literal list lies along the last axis, which is another one in channels first.
        movable = keeps and not any(isinstance(item, Literal) and dims(item) for item in op.operands)
        hindrance = "" if movable else "numbers of a list lie along its last axis"
    elif op.name not in _AXES:
        hindrance = f"{op.defn.root} has one form"
    elif any(operand.rank != rank for operand in given):
        hindrance = "what it uses differs in rank"
    else:
        hindrance = "" if _is_plain(op) else "where it begins or ends is computed"
    return hindrance or Moving(rank, keeps, forms)


def is_projection(op: Op) -> bool:
    """Whether ``op`` is a product with a constant matrix, over the last axis."""
    if op.defn is mil.linear:
        return op.value("weight").is_constant
    if op.defn is not mil.matmul or not isinstance(op.operand("x"), Value) or op.value("x").is_constant:
        return False
    y = op.operand("y")
    matrix = isinstance(y, Value) and y.is_constant and y.rank == 2
    return matrix and not op.attr("transpose_x") and op.value("x").rank > 1


def _is_plain(op: Op) -> bool:
    """Whether all lists of one entry an axis are numbers known here."""
    return all(given is None or isinstance(given, tuple) for given in _by_axis(op).values())


def _by_axis(op: Op) -> dict[str, object]:
    found: dict[str, object] = {}
    operands = op.arguments()
    for name in op.defn.layout.by_axis:
        given = operands.get(name, op.attrs.get(name))
        found[name] = ints(given) or given if isinstance(given, (Literal, Value)) else given
    return found


def build(op: Op, form: Form, rank: int, fetch: Fetch) -> tuple[Value, ...]:
    """The results of ``op`` in ``form``, of the rank it works on."""
    if op.defn is mil.linear:
        weight = mil.expand_dims(op.value("weight"), axes=(2, 3))
        return (mil.conv(fetch(op.value("x")), weight, op.operand("bias")),)
    if op.defn is mil.matmul and not is_projection(op):
        flags = (("transpose_x", "transpose_y"), ("transpose_y", "transpose_x"))
        swapped = {name: True for name, other in flags if op.attr(other)}
        return (mil.matmul(fetch(op.value("y")), fetch(op.value("x")), **swapped),)
    if op.defn is mil.matmul:
        matrix = op.value("y") if op.attr("transpose_y") else mil.transpose(op.value("y"), perm=(1, 0))
        return (mil.conv(fetch(op.value("x")), mil.expand_dims(matrix, axes=(2, 3))),)
    stand = places(form, rank)
    changes = {"pad": _padding(op, stand)} if op.defn is mil.pad else _remapped(op, stand)
    # Scale and shift of a norm lie along its axis, wherever that stands.
    own = {"gamma", "beta"} if op.defn is mil.layer_norm else set()
    arguments: dict[str, object] = dict(op.attrs)
    for name, given in op.arguments().items():
        if isinstance(given, Value) and name not in own:
            arguments[name] = fetch(given)
        elif isinstance(given, (tuple, list)):
            arguments[name] = [fetch(item) if isinstance(item, Value) else item for item in given]
        else:
            arguments[name] = given
    arguments |= changes
    return op.defn.many(**{name: given for name, given in arguments.items() if given is not None})


def _padding(op: Op, stand: Sequence[int]) -> tuple[Attr, ...]:
    given = ints(op.operand("pad")) or ()
    pairs = [(0, 0)] * (len(stand) - len(given) // 2) + list(zip(given[::2], given[1::2], strict=True))
    return tuple(side for pair in spread(pairs, (0, 0), stand) if isinstance(pair, tuple) for side in pair)


def _remapped(op: Op, stand: Sequence[int]) -> dict[str, object]:
    """The arguments that speak of axes, where those now stand."""
    changes: dict[str, object] = {}
    for name in op.defn.layout.axes:
        changes[name] = tuple(sorted(stand)) if op.attr(name) is None else place(op.attr(name), stand)
    for name, given in _by_axis(op).items():
        if isinstance(given, tuple):
            changes[name] = spread(given, _NEUTRAL[name], stand)
    if "keep_dims" in op.defn.by_name:
        changes["keep_dims"] = True
    if "squeeze_mask" in changes:
        changes |= _unsqueezed(changes)
    return changes


def place(given: Attr, stand: Sequence[int]) -> Attr:
    """Axis numbers, where those axes now stand.

    >>> place((-1, 1), (0, 3, 1))
    (1, 3)
    """
    if isinstance(given, tuple):
        return tuple(sorted(stand[axis] for axis in given if isinstance(axis, int)))
    assert isinstance(given, int)
    return stand[given]


def spread(given: Sequence[Attr], neutral: Attr, stand: Sequence[int]) -> tuple[Attr, ...]:
    """One entry an axis, where those axes now stand.

    >>> spread((1, 2, 3), 0, (0, 3, 1))
    (1, 3, 0, 2)
    """
    entries: list[Attr] = [neutral] * 4
    for entry, at in zip(given, stand, strict=True):
        entries[at] = entry
    return tuple(entries)


def _unsqueezed(changes: dict[str, object]) -> dict[str, object]:
    """A slice that keeps the axes it squeezes: x[begin] is x[begin:begin + 1], to the end for -1."""
    begin, end, squeeze = changes["begin"], changes["end"], changes.pop("squeeze_mask")
    assert isinstance(begin, tuple)
    assert isinstance(end, tuple)
    assert isinstance(squeeze, tuple)
    opened = changes.get("begin_mask")
    if isinstance(opened, tuple):
        begin = tuple(0 if drop and flag else first for first, drop, flag in zip(begin, squeeze, opened, strict=True))
    stop = tuple(first + 1 if drop else last for first, last, drop in zip(begin, end, squeeze, strict=True))
    masks: dict[str, tuple[bool, ...]] = {}
    for name, opens in (("begin_mask", False), ("end_mask", True)):
        given = changes.get(name)
        flags = given if isinstance(given, tuple) else (False,) * 4
        masks[name] = tuple(
            (opens and first == -1) if drop else bool(flag)
            for first, drop, flag in zip(begin, squeeze, flags, strict=True)
        )
    strides = changes.get("stride")
    stride = strides if isinstance(strides, tuple) else (1,) * 4
    return {
        "squeeze_mask": None,
        "begin": begin,
        "end": stop,
        "stride": tuple(1 if drop else step for step, drop in zip(stride, squeeze, strict=True)),
        **masks,
    }

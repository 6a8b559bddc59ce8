"""Products of tensors: the parts of a product are products of the parts.

(a + ib)(c + id) = (ac - bd) + i (ad + bc), whatever the product: of matrices, an einsum, a
convolution. An operand that is real has no second part, so nothing is computed twice.
"""

from __future__ import annotations

from itertools import product

from anec.dialects import aten
from anec.ir.attrs import Literal
from anec.ir.build import Builder
from anec.ir.graph import Op, Value
from anec.ir.opdef import Operand
from anec.passes.split_complex.arithmetic import added, scaled
from anec.passes.split_complex.parts import Parts, Splitter, conjugate, handles, minus, multiplied, part_type, plus
from anec.rewrite import reject

# An einsum of more complex operands would be a sum of more terms than this.
_MOST_TERMS = 8


@handles("mm", "bmm", "mv", "matmul", "linalg_matmul", "dot", "inner", "outer", "ger", "tensordot", "einsum")
def multilinear(op: Op, splitter: Splitter) -> Parts:
    """Every operand is a factor."""
    return _expanded(op, splitter, {name: _factors(op, splitter, name) for name in op.arguments()})


@handles("vdot", "linalg_vecdot")
def dot_of_conjugate(op: Op, splitter: Splitter) -> Parts:
    """The first operand counts conjugated."""
    first, second = op.arguments()
    a, b = (splitter.operand(op, name) for name in (first, second))
    return _expanded(op, splitter, {first: [conjugate(a)], second: [b]})


@handles("linear", "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
def layer(op: Op, splitter: Splitter) -> Parts:
    """A product of input and weight; each part of the bias is added to that part."""
    factors = {name: _factors(op, splitter, name) for name in ("input", "weight")}
    found = _expanded(op, splitter, factors)
    if op.operand("bias") is None:
        return found
    bias = splitter.operand(op, "bias")
    if op.defn.root != "linear":
        space = len(found.type.shape) - 2
        bias = bias.mapped(lambda part: aten.reshape.default(part, (-1, *(1,) * space)))
    return added(found, bias, found.type)


_ADDED = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"), "addmv": ("mat", "vec")}


@handles(*_ADDED)
def added_product(op: Op, splitter: Splitter) -> Parts:
    """The sum of beta * self and alpha * (x @ y)."""
    x, y = (splitter.operand(op, name) for name in _ADDED[op.defn.root])
    type_ = part_type(op.results[0])
    found = multiplied(x, y, type_, _matmul)
    alpha, beta = op.attr("alpha"), op.attr("beta")
    return added(scaled(found, alpha), scaled(splitter.operand(op), beta), type_)


def _matmul(a: Operand, b: Operand) -> Operand:
    return aten.matmul.default(a, b) if isinstance(a, Value) and isinstance(b, Value) else None


def _factors(op: Op, splitter: Splitter, name: str) -> list[Parts]:
    slot = op.arguments()[name]
    dtype = part_type(op.results[0]).dtype
    return [splitter.parts(item, dtype) for item in (slot if isinstance(slot, list) else [slot])]


def _expanded(op: Op, splitter: Splitter, factors: dict[str, list[Parts]]) -> Parts:
    """The sum over all ways to take one part of each factor; i to how many imaginary ones gives the place."""
    flat = [factor for found in factors.values() for factor in found]
    choices = [[(which, part) for which, part in enumerate((z.real, z.imag)) if part is not None] for z in flat]
    terms = list(product(*choices))
    if len(terms) > _MOST_TERMS:
        reject(f"a product of {len(flat)} complex tensors is a sum of {len(terms)} products")
    sums: list[Operand] = [None, None]
    for term in terms:
        if any(isinstance(part, Literal) for _, part in term):
            reject("a factor is a number")
        turns = sum(which for which, _ in term) % 4
        value = _product(op, factors, [part for _, part in term])
        combine = minus if turns >= 2 else plus
        sums[turns % 2] = combine(sums[turns % 2], value)
    return Parts(sums[0], sums[1], part_type(op.results[0]))


def _product(op: Op, factors: dict[str, list[Parts]], parts: list[Operand]) -> Value:
    bound: dict[str, object] = {}
    rest = iter(parts)
    for name, slot in op.arguments().items():
        if name in factors:
            taken = [next(rest) for _ in factors[name]]
            bound[name] = taken if isinstance(slot, list) else taken[0]
    bound |= op.attrs
    return Builder.current(op.name).create(op.defn, bound, types=(part_type(op.results[0]),)).result

"""Matrix products and Einstein sums."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anec.dialects import aten
from anec.errors import AnecError
from anec.ir.facts import is_constant
from anec.ir.graph import Module
from anec.passes.lower_to_mil.einsum import parse
from anec.testing import check_lowering, check_module_lowering, module_of
from lowering import TARGETS, Case, bools, case, floats, integers, op_names

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (1, 3, 4)),
    ((6, 5, 2, 3), (3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((2, 6, 5, 2, 3), (5, 3, 4)),
    ((3,), (2, 6, 5, 3, 4)),
]
CASES = [
    *(
        case("matmul", floats(*left), floats(*right, seed=1), weights=weights)
        for left, right in SHAPES
        for weights in ((), ("other",), ("self",))
    ),
    case("matmul", integers(2, 3), integers(3, 4, seed=1)),
    case("matmul", integers(2, 3), integers(3, seed=1), weights=("other",)),
    case("mm", floats(2, 3), floats(3, 4)),
    case("mm", integers(2, 3), integers(3, 4, seed=1), weights=("mat2",)),
    case("mm", floats(2, 3).half(), floats(3, 4).half(), weights=("mat2",)),
    case("bmm", floats(5, 2, 3), floats(5, 3, 4)),
    case("mv", floats(2, 3), floats(3)),
    case("dot", floats(3), floats(3, seed=1)),
    case("dot", integers(3), integers(3, seed=1)),
    case("vdot", floats(3), floats(3, seed=1)),
    case("linalg_vecdot", floats(2, 3), floats(2, 3, seed=1)),
    case("linalg_vecdot", floats(2, 3), floats(2, 1, seed=1), dim=0),
    case("outer", floats(3), floats(4)),
    case("ger", integers(3), integers(4)),
    case("inner", floats(2, 3), floats(4, 3)),
    case("inner", floats(2, 3), floats(5, 4, 3)),
    case("inner", floats(3), floats(3)),
    case("inner", floats(3), floats(4, 3)),
    case("inner", floats(), floats(4, 3)),
    case("linear", floats(3), floats(4, 3), floats(4), weights=("weight", "bias")),
    case("linear", floats(2, 3), floats(4, 3), floats(4), weights=("weight", "bias")),
    case("linear", floats(5, 2, 3), floats(4, 3), weights=("weight",)),
    case("linear", floats(6, 5, 2, 3), floats(4, 3), floats(4), weights=("weight", "bias")),
    case("linear", floats(5, 2, 3), floats(4, 3), floats(4)),
    case("linear", floats(5, 2, 3), floats(4, 3), floats(4), weights=("weight",)),
    case("linear", floats(2, 3), floats(3)),
    case("linear", integers(2, 3), integers(4, 3), integers(4), weights=("weight", "bias")),
    *(
        case("addmm", floats(*bias), floats(2, 3), floats(3, 4, seed=1), beta=beta, alpha=alpha, weights=weights)
        for bias in ((4,), (2, 4), (2, 1), (1, 4), (1,), ())
        for beta, alpha in ((1, 1), (0.5, 2), (0, 1), (1, -1.5))
        for weights in ((), ("self", "mat2"), ("mat2",))
    ),
    case("addmm", integers(4), integers(2, 3), integers(3, 4), beta=2, alpha=3),
    case("addmm", floats(4) * float("nan"), floats(2, 3), floats(3, 4), beta=0),
    case("baddbmm", floats(2, 4), floats(5, 2, 3), floats(5, 3, 4), beta=2, alpha=0.5),
    case("addbmm", floats(2, 4), floats(5, 2, 3), floats(5, 3, 4), beta=2, alpha=0.5),
    case("addmv", floats(2), floats(2, 3), floats(3), beta=2, alpha=0.5),
    case("addr", floats(3, 4), floats(3), floats(4), beta=2, alpha=0.5),
    case("addr", integers(3, 4), integers(3), integers(4)),
    case("addr", bools(3, 4), bools(3), bools(4, seed=1)),
    case("addr", bools(3, 4), bools(3), bools(4, seed=1), beta=0),
    case("outer", bools(3), bools(4, seed=1)),
    case("_int_mm", integers(32, 16, dtype=torch.int8), integers(16, 8, dtype=torch.int8)),
    case("chain_matmul", [floats(2, 3), floats(3, 4), floats(4, 5)]),
    case("linalg_multi_dot", [floats(3), floats(3, 4), floats(4)]),
    case("bilinear", floats(2, 3), floats(2, 4), floats(5, 3, 4), floats(5), weights=("weight", "bias")),
    case("bilinear", floats(2, 6, 3), floats(2, 6, 4), floats(5, 3, 4), weights=("weight",)),
    case("_trilinear", floats(2, 3), floats(5, 3, 4), floats(2, 4), [1, 3], [0], [1, 2], [2, 3]),
    case("tensordot", floats(2, 3, 4), floats(4, 3, 5), [1, 2], [1, 0]),
    case("tensordot", floats(2, 3, 4), floats(4, 3), [], []),
    case("tensordot", floats(2, 3), floats(2, 3), [0, 1], [0, 1]),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("made", CASES, ids=str)
def test_equals_torch(made: Case, target: str) -> None:
    made.check(target)


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,kj->ki", (2, 3), (4, 3)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("i,j->ji", (3,), (4,)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bij,bij->b", (5, 2, 3), (5, 2, 3)),
    ("bij,bij->ib", (5, 2, 3), (5, 2, 3)),
    ("bqhd,bkhd->bhqk", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bhqk,bkhd->bqhd", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("bchq,bkhc->bkhq", (2, 3, 4, 5), (2, 6, 4, 3)),
    ("bkhq,bchk->bchq", (2, 6, 4, 5), (2, 3, 4, 6)),
    ("nchw,nwhu->nchu", (2, 3, 4, 5), (1, 5, 4, 6)),
    ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
    ("bsd,de->bse", (2, 3, 4), (4, 5)),
    ("bsd,dhe->bshe", (2, 3, 4), (4, 2, 5)),
    ("bshe,hed->bsd", (2, 3, 2, 5), (2, 5, 4)),
    ("abcd,cd->ab", (2, 3, 4, 5), (4, 5)),
    ("abcde,cf->abfde", (2, 3, 4, 2, 3), (4, 5)),
    ("...ij,...jk->...ik", (5, 2, 3), (6, 5, 3, 4)),
    ("...ij,jk", (6, 5, 2, 3), (3, 4)),
    ("i...,j...->...ij", (2, 5), (3, 5)),
    ("...i->...", (2, 3, 4)),
    ("...i->i", (2, 3, 4)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->j", (3, 2, 3)),
    ("ijk->kji", (2, 3, 4)),
    ("ij->", (2, 3)),
    ("ij,ij->ij", (2, 3), (1, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,ik,il->ijkl", (2, 3), (2, 4), (2, 5)),
    ("bn,anm,bm->ba", (2, 3), (5, 3, 4), (2, 4)),
    ("abcdx,abcxe->abcde", (2, 3, 2, 4, 5), (2, 3, 2, 5, 3)),
    ("dcbax,abcxe->abcde", (4, 2, 3, 2, 5), (2, 3, 2, 5, 3)),
    ("zXi,zYi->zYX", (2, 3, 4), (2, 5, 4)),
    ("ij,kj", (2, 3), (4, 3)),
    ("bA,ab", (2, 3), (4, 2)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "equation", EQUATIONS, ids=lambda entry: entry[0] + "".join(map(str, entry[1:])).replace(" ", "")
)
def test_einsum(equation: tuple[str, tuple[int, ...]], target: str) -> None:
    tensors = [floats(*shape, seed=seed) for seed, shape in enumerate(equation[1:])]
    check_lowering("aten.einsum.default", equation[0], tensors, target=target)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_einsum_of_any_equation(data: st.DataObject) -> None:
    sizes = {"a": 2, "b": 3, "c": 4, "d": 1, "e": 5}
    terms = [
        "".join(data.draw(st.lists(st.sampled_from("abcde"), max_size=3, unique=index > 0)))
        for index in range(data.draw(st.integers(1, 3)))
    ]
    used = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(used)))[: data.draw(st.integers(0, 5))]
    tensors = [floats(*(sizes[label] for label in term), seed=seed) for seed, term in enumerate(terms)]
    check_lowering("aten.einsum.default", f"{','.join(terms)}->{output}", tensors)


def test_einsum_of_integers() -> None:
    check_lowering("aten.einsum.default", "bij,bjk->bik", [integers(2, 3, 4), integers(2, 4, 5)])
    check_lowering("aten.einsum.default", "ij,ij->j", [integers(3, 4), integers(3, 4)])


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ijk->i"])
def test_einsum_that_does_not_fit(equation: str) -> None:
    with pytest.raises(AnecError, match="einsum"):
        parse(equation, [2])


def _einsum_ops(equation: str, *shapes: tuple[int, ...]) -> list[str]:
    tensors = [floats(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return op_names(check_lowering("aten.einsum.default", equation, tensors))


def test_einsum_takes_few_transposes() -> None:
    assert _einsum_ops("bchq,bkhc->bkhq", (2, 3, 4, 5), (2, 6, 4, 3)) == ["einsum"]
    assert _einsum_ops("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)) == ["matmul"]
    assert _einsum_ops("bhdq,bhdk->bhqk", (2, 3, 4, 5), (2, 3, 4, 6)) == ["matmul"]
    assert _einsum_ops("bqhd,bkhd->bhqk", (2, 3, 4, 5), (2, 6, 4, 5)) == ["transpose", "transpose", "matmul"]
    assert _einsum_ops("bsd,de->bse", (2, 3, 4), (4, 5)) == ["matmul"]
    assert _einsum_ops("ijk->kji", (2, 3, 4)) == ["transpose"]


def _computed(module: Module) -> list[str]:
    """The ops that are left once constants are computed."""
    return [op.defn.root for op in module.main.ops() if not is_constant(op.results[0])]


def test_a_constant_on_the_right_makes_a_linear_layer() -> None:
    x, w, b = floats(2, 3), floats(3, 4), floats(4)
    module = check_lowering("aten.addmm.default", b, x, w, weights=("self", "mat2"))
    assert _computed(module) == ["linear"]
    module = check_lowering("aten.matmul.default", floats(5, 2, 3), w, weights=("other",))
    assert _computed(module) == ["linear"]
    module = check_lowering("aten.linear.default", x, floats(4, 3), b, weights=("weight", "bias"))
    assert op_names(module) == ["linear"]
    # mil.linear takes rank 3 at most.
    module = check_lowering("aten.linear.default", floats(6, 5, 2, 3), floats(4, 3), b, weights=("weight", "bias"))
    assert op_names(module) == ["matmul", "add"]


def test_the_transpose_of_a_weight_is_undone() -> None:
    module, inputs = module_of(
        lambda x, w, b: aten.addmm.default(b, x, aten.t.default(w)),
        floats(2, 3), floats(4, 3), floats(4), weights=(1, 2),
    )  # fmt: skip
    lowered = check_module_lowering(module, inputs)
    assert _computed(lowered) == ["linear"]
    assert [op.operand("weight") for op in lowered.main.ops()] == [lowered.main.weights["w1"]]


def test_transposes_become_flags() -> None:
    module, inputs = module_of(
        lambda q, k: aten.matmul.default(q, aten.transpose.int(k, -1, -2)), floats(2, 4, 3, 5), floats(2, 4, 6, 5)
    )
    (op,) = check_module_lowering(module, inputs).main.ops()
    assert op.attrs == {"transpose_y": True}
    module, inputs = module_of(
        lambda q, k: aten.bmm.default(aten.permute.default(q, (0, 2, 1)), k), floats(4, 3, 5), floats(4, 3, 6)
    )
    (op,) = check_module_lowering(module, inputs).main.ops()
    assert op.attrs == {"transpose_x": True}

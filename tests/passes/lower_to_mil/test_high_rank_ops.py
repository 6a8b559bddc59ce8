"""Ops on tensors of rank 6 and 7, between views: the same on fewer axes."""

from __future__ import annotations

import pytest
import torch

import anec
from anec.errors import UnsupportedError
from lowering import TARGETS, Case, case, floats, integers

FIVE, SIX, SEVEN = (2, 1, 3, 2, 3), (2, 3, 2, 4, 2, 5), (2, 3, 2, 2, 2, 3, 2)
F = torch.nn.functional
CASES = {
    "operands broadcast along every other axis": (torch.mul, SIX, (3, 1, 4, 1, 5)),
    "both operands broadcast": (torch.sub, (2, 1, 2, 1, 2, 1, 2), (1, 3, 1, 2, 1, 3, 1)),
    "leaky_relu": (lambda a: torch.where(a > 0, a, 2 * a), SIX),
    "silu": (F.silu, SEVEN),
    "atan2": (torch.atan2, SIX, (4, 1, 5)),
    "a reduction of every other axis": (lambda a: a.amax((1, 3, 5)), SEVEN),
    "a variance of every other axis": (lambda a: a.var((1, 3, 5)), SEVEN),
    "norm": (lambda a: torch.linalg.vector_norm(a, dim=(2, 4)), SIX),
    "any": (lambda a: (a > 1).any(3), SIX),
    "argmax": (lambda a: a.argmax(3), SIX),
    "argmax of all": (lambda a: a.argmax().expand(2, 1), SIX),
    "max": (lambda a: a.max(2, keepdim=True)[0], SIX),
    "topk": (lambda a: a.topk(2, 3)[0], SIX),
    "sort": (lambda a: a.sort(2)[0], SIX),
    "indices of a sort": (lambda a: a.sort(2)[1], SIX),
    "cumprod": (lambda a: a.cumprod(3), SIX),
    "the sum of all": (lambda a: a.sum().expand(2, 1), SIX),
    "the variance of all": (lambda a: a.var().expand(2, 1), SIX),
    "the mean of all": (lambda a: (a * 2 + a.flip(1)).mean().expand(2, 1), SIX),
    "the largest of all": (lambda a: a.max().expand(2, 1), SIX),
    "any of all": (lambda a: (a > 1).any().expand(2, 1), SIX),
    "the product of all": (lambda a: (1 + a / 99).prod().expand(2, 1), SIX),
    "rows of a table": (lambda a: F.embedding((a > 0).long(), torch.arange(6.0).reshape(2, 3)), SIX),
    "index_copy": (lambda a: a.index_copy(-1, torch.tensor([2]), a[..., :1] * 2), SIX),
    "integers of 8 bits": (lambda a: (a * 99).abs().to(torch.uint8) + (a * 9).abs().to(torch.uint8)[:, :, :1], SIX),
    "bits": (lambda a: (a * 99).int() & 12, SIX),
    "any of bytes": (lambda a: (a.abs() * 2).to(torch.uint8).any(3), SIX),
    "looked up": (lambda a: torch.bucketize(a, torch.tensor([-1.0, 0.5])), SIX),
    "prod": (lambda a: a.prod(3), SIX),
    "glu": (lambda a: F.glu(a, 3), SIX),
    "log_softmax": (lambda a: F.log_softmax(a, -1), SEVEN),
    "one matrix on the right": (torch.matmul, SIX, (5, 3)),
    "batches of matrices": (torch.matmul, SIX, (2, 3, 2, 4, 5, 3)),
    "batches that broadcast": (torch.matmul, SIX, (2, 1, 5, 3)),
    "a vector on the left": (torch.matmul, (4,), (2, 3, 2, 1, 4, 5)),
    "distances": (lambda a: torch.cdist(a, a), (2, 2, 1, 2, 3, 4)),
    "select_scatter": (lambda a: torch.select_scatter(a, a[:, :, 0] * 2, 2, 1), SIX),
    "slice_scatter": (lambda a: torch.slice_scatter(a, a[:, :, :, :2] * 2, 3, 1, 3), SIX),
    "repeat": (lambda a: a.repeat(1, 2, 1, 2, 1, 1), SIX),
    "repeat into more axes": (lambda a: a.repeat(3, 1, 1, 1, 2, 1, 1), SIX),
    "pad": (lambda a: F.pad(a, (1, 1, 0, 2), value=3.0), SIX),
    "roll": (lambda a: a.roll((1, 2), (1, 3)), SIX),
    "roll of all": (lambda a: a.roll(7), SIX),
    "tril": (torch.tril, SIX),
    "layer_norm": (lambda a: F.layer_norm(a, (2, 5), torch.arange(10.0).reshape(2, 5)), SIX),
    "normalize": (lambda a: F.normalize(a, dim=2), SIX),
    "rms_norm": (lambda a: F.rms_norm(a, (5,)), SIX),
    "an outer product of rank 8": (
        lambda a, b: (a[..., None, None, None, None] * b).sum((0, 3, 6)),
        (2, 2, 3, 2),
        SIX[2:],
    ),
}


class Between(torch.nn.Module):
    """The function on tensors of high rank; those of the boundary are flat."""

    def __init__(self, function, shapes) -> None:  # type: ignore[no-untyped-def]  # any function of tensors
        super().__init__()
        self.function, self.shapes = function, shapes

    def forward(self, *flat: torch.Tensor) -> torch.Tensor:
        tensors = (x.reshape(shape) for x, shape in zip(flat, self.shapes, strict=True))
        found: torch.Tensor = self.function(*tensors).flatten(1)
        return found


def run(function, shapes, flat, target: str) -> None:  # type: ignore[no-untyped-def]
    model = Between(function, shapes)
    compiled = anec.compile(model, flat, precision="fp32", target=target)
    found = torch.as_tensor(next(iter(compiled.run(dict(zip(compiled.input_names, flat, strict=True))).values())))
    # Sums of float32 in another order.
    torch.testing.assert_close(found.to(torch.float64), model(*flat).to(torch.float64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_between_views(name: str) -> None:
    function, *shapes = CASES[name]
    flat = tuple(
        floats(*shape, seed=seed).flatten(1) if len(shape) > 1 else floats(*shape) for seed, shape in enumerate(shapes)
    )
    run(function, shapes, flat, TARGETS[sum(map(ord, name)) % 3])


X, N, J = floats(*FIVE), integers(*FIVE, low=-9, high=9), integers(3, 1, 2, 3, low=-9, high=9, seed=1)
ROW, ROWS = floats(4).sort()[0], floats(*FIVE[:-1], 4, seed=1).sort()[0]
ONE_MORE = [
    *(case(name, X, dim) for name in ("cumprod", "cummax", "cummin", "logcumsumexp", "mode") for dim in (0, -2)),
    *(case(f"bitwise_{name}.Tensor", N, other) for name in ("and", "or", "xor") for other in (J, torch.tensor(6))),
    case("bitwise_and.Tensor", N > 2, J > 2),
    case("isin.Tensor_Tensor", N, J),
    case("isin.Tensor_Tensor", J[0, 0, 0], N, invert=True),
    case("bucketize.Tensor", X, ROW, right=True),
    case("searchsorted.Tensor", ROW, X),
    case("searchsorted.Tensor", ROWS, X),
    case("searchsorted.Tensor", ROWS.flip(-1), X, sorter=torch.arange(3, -1, -1).expand(ROWS.shape).contiguous()),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("call", ONE_MORE, ids=str)
def test_five_axes_of_what_needs_one_more(call: Case, target: str) -> None:
    call.check(target)


def test_gather() -> None:
    shapes = (SIX, (2, 3, 2, 2, 2, 5))
    flat = (floats(*SIX).flatten(1), integers(*shapes[1], low=0, high=4).flatten(1))
    run(lambda x, index: x.gather(3, index), shapes, flat, "iOS18")


def test_what_does_not_fold() -> None:
    with pytest.raises(UnsupportedError, match="aten.roll"):
        run(lambda x: x.roll((1, 1, 1), (0, 2, 4)), (SIX,), (floats(*SIX).flatten(1),), "iOS18")

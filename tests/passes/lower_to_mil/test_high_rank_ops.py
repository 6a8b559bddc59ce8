"""Ops on tensors of rank 6 and 7, between views: the same on fewer axes."""

from __future__ import annotations

import pytest
import torch

import anec
from anec.errors import UnsupportedError
from lowering import TARGETS, floats, integers

SIX, SEVEN = (2, 3, 2, 4, 2, 5), (2, 3, 2, 2, 2, 3, 2)
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


def test_gather() -> None:
    shapes = (SIX, (2, 3, 2, 2, 2, 5))
    flat = (floats(*SIX).flatten(1), integers(*shapes[1], low=0, high=4).flatten(1))
    run(lambda x, index: x.gather(3, index), shapes, flat, "iOS18")


def test_what_does_not_fold() -> None:
    with pytest.raises(UnsupportedError, match="aten.roll"):
        run(lambda x: x.roll((1, 1, 1), (0, 2, 4)), (SIX,), (floats(*SIX).flatten(1),), "iOS18")

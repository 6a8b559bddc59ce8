"""Matrix product kernels: linear, matmul, einsum."""

from __future__ import annotations

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel

_EQUATIONS = ("abcd,adce->abce", "abc,cbd->abd")


@kernel("mil.linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias for x ``[*, D_in]``, weight ``[D_out, D_in]``, bias ``[D_out]``.

    Weight and bias may have another dtype than x from iOS17; the result has that of x.
    """
    result = torch.matmul(x, weight.to(x.dtype).transpose(0, 1))
    return result if bias is None else result + bias.to(x.dtype)


@kernel("mil.matmul")
def matmul(x: Tensor, y: Tensor, *, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Multiply matrices as numpy does, transposing the last two axes first where asked.

    Operands of two dtypes are promoted. (From iOS17 one of them may be const and of another dtype;
    Core ML's result has the dtype of the one that is not, which a kernel cannot tell.)

    Raises:
        AnecError: ``transpose_x`` of a vector, which Core ML refuses.
    """
    if (transpose_x and x.dim() < 2) or (transpose_y and y.dim() < 2):
        raise AnecError("matmul cannot transpose a vector", hint="leave transpose_x, transpose_y false")
    x = x.transpose(-1, -2) if transpose_x else x
    y = y.transpose(-1, -2) if transpose_y else y
    dtype = torch.promote_types(x.dtype, y.dtype)
    return torch.matmul(x.to(dtype), y.to(dtype))


def canonical_equation(equation: str) -> str:
    """Rename the letters of an einsum equation in order of appearance.

    >>> canonical_equation("nchw,nwhu->nchu")
    'abcd,adce->abce'
    """
    names: dict[str, str] = {}
    for letter in equation:
        if letter.isalpha():
            names.setdefault(letter, "abcdefghijklmnopqrstuvwxyz"[len(names) % 26])
    return "".join(names.get(letter, letter) for letter in equation if not letter.isspace())


@kernel("mil.einsum")
def einsum(values: list[Tensor], *, equation: str) -> Tensor:
    """Multiply along axes -1 and -3: ``nchw,nwhu->nchu`` or ``chw,whr->chr``; the batch broadcasts.

    Raises:
        AnecError: another equation (Core ML accepts these two only), or not two values.
    """
    if len(values) != 2 or canonical_equation(equation) not in _EQUATIONS:
        raise AnecError(
            f"einsum of {len(values)} values by {equation!r}",
            hint='Core ML accepts two values and "nchw,nwhu->nchu" or "chw,whr->chr"',
        )
    x, y = values
    return torch.einsum("...chw,...whu->...chu", x, y)

"""Scaled dot product attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel


@kernel("mil.scaled_dot_product_attention")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Return softmax(query key^T / sqrt(E) + mask) value.

    query ``[B, *, L, E]``, key ``[B, *, S, E]``, value ``[B, *, S, EV]``, a mask that broadcasts to
    ``[B, *, L, S]``: bool (True takes part) or float (added). There is no scale input. A row with no
    key that takes part is NaN.

    Raises:
        AnecError: ranks differ or are below 3, or leading axes differ; Core ML broadcasts none.
    """
    shapes = (query.shape, key.shape, value.shape)
    if len({len(shape) for shape in shapes}) != 1 or query.dim() < 3:
        raise AnecError(
            f"attention over shapes {', '.join(str(tuple(shape)) for shape in shapes)}",
            hint="query, key and value have one rank, 3 or more",
        )
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise AnecError(
            f"attention over shapes {', '.join(str(tuple(shape)) for shape in shapes)}",
            hint="the axes before the last two are equal: expand key and value first",
        )
    scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask.to(scores.dtype)
    return torch.matmul(torch.softmax(scores, -1), value)

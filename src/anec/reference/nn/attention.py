"""The attention kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anec.errors import AnecError
from anec.reference import kernel


@kernel("nn.attention")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
) -> Tensor:
    """Return softmax(query key^T scale + mask) value over the last two axes.

    query ``[*, L, E]``, key ``[*, S, E]``, value ``[*, S, V]``; leading axes broadcast, save that the
    heads of query (axis -3) may be a multiple of those of key and value. A bool mask keeps where it is
    true; ``causal`` keeps key j for query i where j <= i. A row that keeps nothing gives zeros.

    Raises:
        AnecError: the heads of query are no multiple of those of key.
    """
    if query.dim() >= 3 and key.dim() >= 3 and query.shape[-3] != key.shape[-3] != 1:
        heads, groups = query.shape[-3], key.shape[-3]
        if heads % groups or value.shape[-3] != groups:
            raise AnecError(f"attention of {heads} query heads over {groups} and {value.shape[-3]} key and value heads")
        key = key.repeat_interleave(heads // groups, -3)
        value = value.repeat_interleave(heads // groups, -3)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        hidden = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask.to(scores.dtype)
        scores = hidden
    if causal:
        kept = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~kept, -math.inf)
    weights = torch.softmax(scores, -1)
    if mask is not None:
        weights = weights.masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)
    return torch.matmul(weights, value)

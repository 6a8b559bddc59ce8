"""Attention as models spell it: each function takes queries, keys and values [batch, heads, length, size]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS, LENGTH, KEYS, SIZE = 4, 5, 7, 8
Spelling = Callable[[Tensor, Tensor, Tensor], Tensor]


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(SIZE), -1) @ v


def _scaled_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.dropout(F.softmax((q * SIZE**-0.5).matmul(k.mT), dim=3), 0.1, training=False).matmul(v)


def _scale_shared(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax((q * SIZE**-0.25) @ (k / SIZE**0.25).transpose(2, 3), -1) @ v


def _in_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.reshape(-1, x.shape[2], SIZE) for x in (q, k, v))
    return torch.bmm(F.softmax(torch.bmm(q * 0.5, k.transpose(1, 2)), dim=-1), v).view(-1, HEADS, LENGTH, SIZE)


def _baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    bias = torch.linspace(-1, 1, KEYS).expand(q.shape[0] * HEADS, 1, KEYS)
    q, k, v = (x.reshape(-1, x.shape[2], SIZE) for x in (q, k, v))
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=0.5, alpha=0.3).view(-1, HEADS, LENGTH, KEYS)
    return torch.bmm(scores.softmax(-1).view(-1, LENGTH, KEYS), v).view(-1, HEADS, LENGTH, SIZE)


def _einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.permute(0, 2, 1, 3) for x in (q, k, v))
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k).mul(0.4).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).transpose(1, 2)


def _keys_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores [keys, queries], as in the attention of convolutional autoencoders."""
    weights = torch.softmax(k @ q.transpose(-1, -2), dim=-2)
    return (v.transpose(-1, -2) @ weights).transpose(-1, -2)


def _weights_turned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(q @ k.transpose(-1, -2) * SIZE**-0.5, dim=-1)
    return torch.matmul(v.transpose(2, 3), weights.permute(0, 1, 3, 2)).permute(0, 1, 3, 2)


def _repeated_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def repeated(x: Tensor) -> Tensor:
        x = x[:, :2]
        return x[:, :, None].expand(-1, -1, HEADS // 2, -1, -1).reshape(-1, HEADS, KEYS, SIZE)

    return _plain(q, repeated(k), repeated(v))


def _interleaved_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _plain(q, *(x[:, :2].repeat_interleave(2, dim=1) for x in (k, v)))


def _softcap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.tanh(q @ k.mT * 0.25 / 20.0) * 20.0
    return F.softmax(scores + torch.linspace(-2, 0, KEYS), -1, dtype=torch.float32).to(q.dtype) @ v


def _normalized(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Cosine attention with a learned scale a head, as in Swin v2."""
    scale = torch.linspace(1.0, 3.0, HEADS).view(HEADS, 1, 1).clamp(max=4.0).exp()
    return (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale).softmax(-1) @ v


def _two_biases(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625]).view(1, HEADS, 1, 1)
    alibi = slopes * (torch.arange(KEYS) - KEYS + 1).view(1, 1, 1, KEYS)
    bias = torch.linspace(-1, 1, LENGTH * KEYS).view(LENGTH, KEYS)
    return ((q @ k.mT - alibi) * 0.3 + bias).softmax(-1) @ v


def _by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT / SIZE**0.5
    exponentials = torch.exp(scores - scores.amax(-1, keepdim=True))
    return exponentials / exponentials.sum(-1, keepdim=True) @ v


def _blended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores times 0 or 1, and a low number beside them, as in GPT."""
    kept = torch.ones(LENGTH, KEYS).tril(1)
    scores = q @ k.mT / math.sqrt(SIZE) * kept + -1e4 * (1 - kept)
    return (scores + torch.linspace(-1, 1, KEYS)).softmax(-1) @ v


def _windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Windows in the batch with a mask each, as in Swin: scores are viewed to add it, and back."""
    q, k, v = (x.repeat(3, 1, 1, 1) for x in (q, k, v))
    scores = q @ k.mT * 0.35
    mask = torch.linspace(-1, 1, 3 * LENGTH * KEYS).view(1, 3, 1, LENGTH, KEYS)
    scores = scores.view(-1, 3, HEADS, LENGTH, KEYS) + mask
    return scores.view(-1, HEADS, LENGTH, KEYS).softmax(-1) @ v


def _five_axes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (torch.stack([x, x * 0.5], 1) for x in (q, k, v))
    return torch.softmax(q @ k.mT * 0.3 + torch.linspace(0, 1, KEYS), -1) @ v


def _decomposed_bias(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A bias by rows and columns of the image that the keys are, as in SAM."""
    k, v = (x[:, :, :6] for x in (k, v))
    scores = (q @ k.mT).view(-1, HEADS, LENGTH, 2, 3)
    across, down = torch.linspace(-1, 1, 3), torch.linspace(0, 1, LENGTH * 2).view(LENGTH, 2, 1)
    return (scores + down + across).view(-1, HEADS, LENGTH, 6).softmax(-1) @ v


def _one_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _plain(q[:, :, :1], k, v)


def _learned(*shape: int) -> Tensor:
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32)).view(shape)


def _memory(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Keys and values that are weights."""
    return _plain(q, _learned(1, HEADS, KEYS, SIZE), _learned(1, HEADS, KEYS, SIZE) * 2)


def _constant_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _plain(q, _learned(1, HEADS, KEYS, SIZE), v)


def _learned_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As the latents of a resampler, or the queries of a detector."""
    return _plain(_learned(1, HEADS, LENGTH, SIZE).expand(q.shape[0], -1, -1, -1), k, v)


SPELLINGS: dict[str, Spelling] = {
    "plain": _plain,
    "scaled_first": _scaled_first,
    "scale_shared": _scale_shared,
    "in_batch": _in_batch,
    "baddbmm": _baddbmm,
    "einsum": _einsum,
    "keys_first": _keys_first,
    "weights_turned": _weights_turned,
    "repeated_heads": _repeated_heads,
    "interleaved_heads": _interleaved_heads,
    "softcap": _softcap,
    "normalized": _normalized,
    "two_biases": _two_biases,
    "by_hand": _by_hand,
    "blended": _blended,
    "windows": _windows,
    "five_axes": _five_axes,
    "decomposed_bias": _decomposed_bias,
    "one_query": _one_query,
    "memory": _memory,
    "constant_keys": _constant_keys,
    "learned_queries": _learned_queries,
}


def _linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)) @ v


def _efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.softmax(-1) @ (k.softmax(-2).transpose(-1, -2) @ v)


def _wrong_axis(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2), -2) @ v


def _over_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2), 1) @ v


def _sinks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    sink = torch.ones(q.shape[0], HEADS, LENGTH, 1)
    return torch.softmax(torch.cat([q @ k.mT, sink], -1), -1)[..., :-1] @ v


def _bias_in_softcap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(torch.tanh(q @ k.mT + torch.linspace(0, 1, KEYS)) * 5, -1) @ v


def _little_hidden(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return torch.softmax(scores.masked_fill(torch.arange(KEYS) > 4, -5.0), -1) @ v


def _scaled_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * torch.linspace(0, 1, KEYS), -1) @ v


def _layers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two layers of weights with a softmax between them."""
    return torch.softmax(q @ _learned(SIZE, KEYS), -1) @ _learned(KEYS, SIZE)


# Not attention, and what the near miss says, if it is near.
OTHERS: dict[str, tuple[Spelling, str]] = {
    "linear": (_linear, ""),
    "efficient": (_efficient, "and no product of queries and keys"),
    "wrong_axis": (_wrong_axis, "the softmax is over another axis"),
    "over_heads": (_over_heads, "the softmax is over another axis"),
    "sinks": (_sinks, "as with a sink"),
    "bias_in_softcap": (_bias_in_softcap, "inside of the softcap"),
    "little_hidden": (_little_hidden, "does not hide a score"),
    "layers": (_layers, "a layer of weights"),
    "scaled_keys": (_scaled_keys, "along the keys"),
}


class Spelled(nn.Module):
    """Spellings on queries of x and on keys and values of y, [batch, length, heads * size]; a result each."""

    def __init__(self, spellings: dict[str, Spelling]) -> None:
        super().__init__()
        self.spellings = spellings
        self.query, self.key, self.value = (nn.Linear(HEADS * SIZE, HEADS * SIZE) for _ in range(3))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        query, key, value = (
            layer(z).view(z.shape[0], -1, HEADS, SIZE).transpose(1, 2)
            for layer, z in ((self.query, x), (self.key, y), (self.value, y))
        )
        return {name: spelling(query, key, value) for name, spelling in self.spellings.items()}

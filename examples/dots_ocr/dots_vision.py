"""The vision tower of dots.ocr, as its authors wrote it: control flow over ``grid_thw`` in Python.

    anec compile examples/dots_ocr/dots_vision.py:tiny -o vision.mlpackage --bind grid_thw=[[1,8,8]]
    anec compile examples/dots_ocr/dots_vision.py:full -o vision.mlpackage --bind grid_thw=[[1,28,28]]

Rotary positions come from a loop over the images, and every attention fills a boolean mask of
(1, N, N) in place, in a loop over ``cu_seqlens``. Both depend on the numbers in ``grid_thw``, so
torch.export needs it bound (see docs/binding.md). The dimensions are the published ones, the
weights random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import anec


@dataclass(frozen=True)
class VisionConfig:
    """The dimensions of the tower; the defaults are the published ones, 1,262,091,264 parameters."""

    embed: int = 1536
    hidden: int = 4224
    layers: int = 42
    heads: int = 12
    patch: int = 14
    merge: int = 2
    out: int = 1536
    epsilon: float = 1e-5


TINY = VisionConfig(embed=32, hidden=88, layers=2, heads=2, patch=4, out=24)


class RMSNorm(nn.Module):
    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return normal.type_as(x) * self.weight


class PatchEmbed(nn.Module):
    """Patches that come as rows of channels x patch x patch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.proj = nn.Conv2d(3, config.embed, config.patch, config.patch)
        self.norm = RMSNorm(config.embed, config.epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 3, 1, self.patch, self.patch)[:, :, 0]
        return self.norm(self.proj(x).view(x.shape[0], -1))


class RotaryEmbedding(nn.Module):
    def __init__(self, size: int, theta: float = 10000.0) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / theta ** (torch.arange(0, size, 2) / size), persistent=False)

    def forward(self, length: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(length, dtype=self.inv_freq.dtype, device=self.inv_freq.device)
        return torch.outer(positions, self.inv_freq)


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate the two halves of each head, in float32."""
    wide = x.float()
    cos = angles.cos().unsqueeze(1).repeat(1, 1, 2)
    sin = angles.sin().unsqueeze(1).repeat(1, 1, 2)
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).type_as(x)


class Attention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.embed, 3 * config.embed, bias=False)
        self.proj = nn.Linear(config.embed, config.embed, bias=False)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        length = x.shape[0]
        q, k, v = self.qkv(x).reshape(length, 3, self.heads, -1).permute(1, 0, 2, 3).unbind(0)
        q, k = rotate(q, angles), rotate(k, angles)
        mask = torch.zeros([1, length, length], device=x.device, dtype=torch.bool)
        for i in range(1, len(cu_seqlens)):
            mask[..., cu_seqlens[i - 1] : cu_seqlens[i], cu_seqlens[i - 1] : cu_seqlens[i]] = True
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), mask)
        return self.proj(mixed.squeeze(0).transpose(0, 1).reshape(length, -1))


class SwiGLU(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed, config.hidden, bias=False)
        self.fc2 = nn.Linear(config.hidden, config.embed, bias=False)
        self.fc3 = nn.Linear(config.embed, config.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = (RMSNorm(config.embed, config.epsilon) for _ in range(2))
        self.attn, self.mlp = Attention(config), SwiGLU(config)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), cu_seqlens, angles)
        return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Module):
    """Four neighbouring patches become one token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.size = config.embed * config.merge**2
        self.ln_q = nn.LayerNorm(config.embed, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(self.size, self.size), nn.GELU(), nn.Linear(self.size, config.out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.ln_q(x).view(-1, self.size))


class VisionTower(nn.Module):
    """Patches of one or more images in, tokens for the text model out.

    Shapes: patches (N, 3 * patch * patch), grid_thw (images, 3) with rows time, height, width in
    patches, whose products add up to N; tokens (N / 4, out).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.merge = config.merge
        self.patch_embed = PatchEmbed(config)
        self.rotary = RotaryEmbedding(config.embed // config.heads // 2)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.post_trunk_norm = RMSNorm(config.embed, config.epsilon)
        self.merger = PatchMerger(config)

    def positions(self, grid_thw: torch.Tensor) -> torch.Tensor:
        """Row and column of each patch, in the order of the merger's squares."""
        found = []
        for t, h, w in grid_thw:
            rows = torch.arange(h).unsqueeze(1).expand(-1, w)
            columns = torch.arange(w).unsqueeze(0).expand(h, -1)
            squares = (h // self.merge, self.merge, w // self.merge, self.merge)
            rows, columns = (part.reshape(squares).permute(0, 2, 1, 3).flatten() for part in (rows, columns))
            found.append(torch.stack([rows, columns], dim=-1).repeat(t, 1))
        return torch.cat(found, dim=0)

    def forward(self, patches: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(patches)
        angles = self.rotary(grid_thw[:, 1:].max())[self.positions(grid_thw)].flatten(1)
        lengths = torch.repeat_interleave(grid_thw[:, 1] * grid_thw[:, 2], grid_thw[:, 0])
        cu_seqlens = F.pad(lengths.cumsum(dim=0, dtype=torch.int32), (1, 0))
        for block in self.blocks:
            x = block(x, cu_seqlens, angles)
        return self.merger(self.post_trunk_norm(x))


def source(config: VisionConfig, grid: list[list[int]]) -> anec.Source:
    """The tower with patches that fit a grid. It compiles when grid_thw is bound."""
    torch.manual_seed(0)
    model = VisionTower(config).eval()
    grid_thw = torch.tensor(grid)
    patches = torch.randn(int(grid_thw.prod(-1).sum()), 3 * config.patch**2)
    return anec.Source(model, (patches, grid_thw), output_names=["tokens"])


def tiny() -> anec.Source:
    """Two layers of width 32, for a page of 8 by 8 patches."""
    return source(TINY, [[1, 8, 8]])


def full() -> anec.Source:
    """All 42 layers, 5 GB in float32, for a page of 28 by 28 patches (392 by 392 pixels)."""
    return source(VisionConfig(), [[1, 28, 28]])

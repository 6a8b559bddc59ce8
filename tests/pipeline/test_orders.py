"""Any passes in any order: never other numbers, only a worse program or a clear refusal."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import anec
from anec.check.fidelity import Lossy
from anec.errors import AnecError
from anec.frontend import from_torch
from anec.ir.graph import Module
from anec.pipeline import registry
from anec.reference.call import DOUBLE
from anec.reference.evaluate import evaluate

registry.load_builtins()
# Lossy passes run only by name, with inputs to measure their loss on.
PASSES = [name for name, cls in registry.passes().items() if not isinstance(cls.fidelity, Lossy)]
ROUNDS = {"to-fp16", "precision"}
# Relative to the length of a whole output; 40 dB, and the digits that constants are held with.
FLOAT16, FLOAT32 = 1e-2, 1e-5


class Branches(nn.Module):
    """A block that trains with branches, and a strided one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.down = nn.Conv2d(3, 6, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu6(self.wide(x) + self.narrow(x) + self.norm(x)) * 2.0).flatten(1)


class Attention(nn.Module):
    """Two heads, a causal mask, spelled out."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mask = torch.full((length, length), float("-inf")).triu(1)
        scores = (q @ k.transpose(-1, -2)) / 2.0 + mask
        return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class Spelled(nn.Module):
    """Norms and activations in formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.fc = nn.Parameter(torch.rand(6) + 0.5), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gamma
        x = self.fc(x)
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        return x * torch.sigmoid(1.702 * x) + torch.log(1 + torch.exp(x))


class Resized(nn.Module):
    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0])


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
        self.fc.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[1])
        return self.fc(self.embed(x) + torch.sin(at)[None, :, None]).log_softmax(-1)


class Pieces(nn.Module):
    """Views, slices, concats, pads and pools."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([b, a, x[:, ::2]], 1)
        y = F.max_pool2d(F.pad(y.relu(), (1, 1, 1, 1)), 3, 2)
        return F.avg_pool2d(y, 2, ceil_mode=True).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3)


class Chain(nn.Module):
    """Layers with nothing between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a((x - 0.5) / 0.25)) * torch.tensor([1.0, 2.0, 3.0])
        return (self.c(y) + self.c.weight.sum()).clamp(-3, 3).clamp(min=-2).softmax(-1)


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.rfft(x)
        return torch.fft.irfft(z * z.conj(), n=x.shape[-1]) + z.abs().sum(-1, keepdim=True)


class Masked(nn.Module):
    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        keep = torch.arange(x.shape[1])[None] < length[:, None]
        y = x.masked_fill(~keep[..., None], 0.0)
        return torch.where(keep[..., None], y / y.abs().amax(-1, keepdim=True).clamp(min=1e-3), x * 0 - 1)


def image(batch: int, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, 9, 8)


MODELS: dict[str, tuple[type[nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "branches": (Branches, lambda: (image(2),)),
    "attention": (Attention, lambda: (torch.randn(2, 5, 8),)),
    "spelled": (Spelled, lambda: (torch.randn(3, 6),)),
    "resized": (Resized, lambda: (image(1), torch.rand(1, 5, 4, 2) * 1.8 - 0.9)),
    "recurrent": (Recurrent, lambda: (torch.randn(2, 4, 5),)),
    "tokens": (Tokens, lambda: (torch.randint(0, 11, (2, 5)),)),
    "pieces": (Pieces, lambda: (image(2, 4),)),
    "chain": (Chain, lambda: (torch.randn(5, 4),)),
    "spectrum": (Spectrum, lambda: (torch.randn(2, 12),)),
    "masked": (Masked, lambda: (torch.randn(2, 5, 4), torch.tensor([3, 5]))),
}


@functools.cache
def lifted(name: str) -> tuple[Module, dict[str, Tensor], dict[str, Tensor]]:
    """The program of a model as torch exports it, its inputs and its outputs in float64."""
    torch.manual_seed(0)
    cls, example = MODELS[name]
    model = cls().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    found = from_torch(model, example())
    return found.module, found.inputs, evaluate(found.module, found.inputs, precision=DOUBLE)


def legal(passes: list[str]) -> list[str]:
    """The passes in an order that none of them forbids, as near to theirs as may be."""
    left, ordered = list(dict.fromkeys(passes)), []
    while left:
        free = next(name for name in left if not set(registry.find(name).after) & set(left))
        left.remove(free)
        ordered.append(free)
    return ordered


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor], *, rounded: bool) -> None:
    assert list(found) == list(wanted)
    for name, exact in wanted.items():
        assert found[name].shape == (exact.shape or (1,))
        a, b = found[name].double().reshape(-1), exact.double().reshape(-1)
        # Formulas' constants are folded in float32, and exact only to its digits.
        assert (a - b).norm() <= (FLOAT16 if rounded else FLOAT32) * b.norm(), name


def is_clear(refusal: AnecError) -> bool:
    """True unless a pass failed by mistake, which tells a Python exception instead of what to do."""
    return " failed: " not in refusal.message and bool(refusal.hint or refusal.window)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(MODELS)), st.booleans(), st.lists(st.sampled_from(PASSES), min_size=1, max_size=10))
def test_any_passes_in_any_order(name: str, lowers: bool, drawn: list[str]) -> None:
    module, inputs, wanted = lifted(name)
    passes = legal(["raise-to-nn", "lower-to-mil", *drawn] if lowers else drawn)
    before = str(module)
    try:
        after = anec.opt(module, ",".join(passes), inputs=inputs)
    except AnecError as error:
        if not is_clear(error):
            raise
        return
    assert str(module) == before
    found = evaluate(after, inputs, precision=DOUBLE)
    assert_alike(found, wanted, rounded=bool(ROUNDS & set(passes)))

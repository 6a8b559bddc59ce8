"""Models that float16 breaks: anec beside coremltools, both against float32 eager PyTorch.

    python benchmarks/fp16_failures.py [--json out.json] [MODEL...]

Each model has one formula that leaves float16's range on the way to an ordinary result. Both compilers
get the same exported program and float16 as precision, and both packages run in anec's evaluator in the same
process; the figure is the PSNR of the worst output in dB, -inf where NaN or infinity appears.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """As Llama has it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """Causal, with the mask of the original papers: the upper triangle of a matrix of -inf."""

    def __init__(self, size: int, heads: int, lowest: float = -math.inf) -> None:
        super().__init__()
        self.heads, self.lowest = heads, lowest
        self.inner, self.outer = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, size = x.shape
        parts = self.inner(x).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / math.sqrt(size // self.heads)
        mask = torch.triu(torch.full((length, length), self.lowest), diagonal=1)
        mixed = torch.softmax(scores + mask, -1) @ parts[2]
        return self.outer(mixed.transpose(1, 2).reshape(batch, length, size))


class MassiveActivations(nn.Module):
    """A transformer with RMS norms whose residual stream carries a channel of some 3e4, as in large models."""

    def __init__(self, size: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RMSNorm(size) for _ in range(2 * layers))
        self.last = RMSNorm(size - 4)
        self.attention = nn.ModuleList(Attention(size, 4) for _ in range(layers))
        self.widen = nn.ModuleList(nn.Linear(size, 2 * size) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.ones(x.shape[-1])
        scale[3] = 1e4
        x = x * scale
        for index, attention in enumerate(self.attention):
            x = x + attention(self.norms[2 * index](x))
            x = x + self.narrow[index](functional.silu(self.widen[index](self.norms[2 * index + 1](x))))
        # The other channels decide: beside 3e4 any error of theirs would look small.
        return self.last(x[..., 4:])


class LogSoftmax(nn.Module):
    """A classifier that is sure of itself, and says so in logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(torch.softmax(self.layer(x) * 25, -1) + 1e-9)


class Causal(nn.Module):
    """Attention under `triu(full(-inf))`."""

    def __init__(self, lowest: float = -math.inf) -> None:
        super().__init__()
        self.layer = Attention(32, 4, lowest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class FiniteMask(Causal):
    """The same under -1e9, which is infinite in float16."""

    def __init__(self) -> None:
        super().__init__(-1e9)


class Deviation(nn.Module):
    """Pooled statistics: the standard deviation of features around 1000."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 1000).std(-1)


class VarianceBySquares(nn.Module):
    """A norm with the variance as E[x^2] - E[x]^2."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + 20
        mean = x.mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt((x * x).mean(-1, keepdim=True) - mean**2 + 1e-5)


class SumOfMany(nn.Module):
    """A mean as a sum over a count."""

    def forward(self, x: Tensor) -> Tensor:
        many = (x * 3 + 30).repeat(1, 1, 256)
        return many.sum(-1) / many.shape[-1]


class SoftmaxByHand(nn.Module):
    """Exponentials over their sum."""

    def forward(self, x: Tensor) -> Tensor:
        powers = torch.exp(x * 6)
        return powers / powers.sum(-1, keepdim=True)


class Distance(nn.Module):
    """A Gaussian kernel of distances beyond 65504, which no rewrite repairs: `--precision mixed` does."""

    def forward(self, x: Tensor) -> Tensor:
        squares = ((x[:, :, None] - x[:, None]) * 100).pow(2).sum(-1)
        return torch.exp(-squares / 1e6)


MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "massive-activations": (MassiveActivations, (1, 10, 64)),
    "log-softmax": (LogSoftmax, (4, 32)),
    "causal-triu": (Causal, (2, 9, 32)),
    "finite-mask": (FiniteMask, (2, 9, 32)),
    "deviation": (Deviation, (2, 7, 33)),
    "variance-by-squares": (VarianceBySquares, (2, 7, 33)),
    "sum-of-many": (SumOfMany, (2, 5, 16)),
    "softmax-by-hand": (SoftmaxByHand, (2, 7, 33)),
    "distance": (Distance, (1, 9, 16)),
}
# What needs a bound and example inputs to be told.
MIXED = frozenset({"distance"})


def build(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A model of ``MODELS`` in eval mode with random weights, and its input."""
    torch.manual_seed(seed)
    kind, shape = MODELS[name]
    return kind().eval(), torch.randn(*shape)


def by_anec(name: str, model: nn.Module, x: Tensor) -> float:
    """PSNR of anec's float16 program, which is mixed for those in ``MIXED``."""
    import anec

    compiled = anec.compile(model, (x,), passes="default,ane", precision="mixed" if name in MIXED else "fp16")
    return psnr(compiled.run({compiled.input_names[0]: x}), model, x)


def by_coremltools(model: nn.Module, x: Tensor, folder: Path) -> float:
    """PSNR of coremltools' float16 package, in anec's evaluator."""
    import coremltools as ct

    import anec

    path = folder / "model.mlpackage"
    program = torch.export.export(model, (x,)).run_decompositions({})
    ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    ).save(str(path))
    loaded = anec.load(path)
    return psnr(loaded.run({loaded.input_names[0]: x}), model, x)


def psnr(outputs: dict, model: nn.Module, x: Tensor) -> float:
    """Of the only output, against eager PyTorch in float32."""
    from anec.check.metrics import compare

    with torch.no_grad():
        return compare("y", torch.from_numpy(next(iter(outputs.values()))), model(x)).psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--json", metavar="OUT", help="write the figures as JSON")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: dict[str, dict[str, float | str]] = {}
    print(f"{'model':22}{'anec dB':>10}{'coremltools dB':>17}")
    for name in options.models or MODELS:
        model, x = build(name)
        row: dict[str, float | str] = {"anec": by_anec(name, model, x)}
        with tempfile.TemporaryDirectory() as folder:
            try:
                row["coremltools"] = by_coremltools(model, x, Path(folder))
            except Exception as error:
                row["coremltools"] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
        rows[name] = row
        shown = [f"{figure:.1f}" if isinstance(figure, float) else figure for figure in row.values()]
        print(f"{name:22}{shown[0]:>10}{shown[1]:>17}{'  (mixed)' if name in MIXED else ''}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

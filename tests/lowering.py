"""What tests of lowerings share: inputs, cases, targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from anec.ir.graph import Module
from anec.testing import check_lowering

TARGETS = ("iOS15", "iOS17", "iOS18")


def floats(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers around 0."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def between(low: float, high: float, *shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers spread over an interval."""
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def integers(
    *shape: int, low: int = -5, high: int = 6, seed: int = 0, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """Integers in [low, high)."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bools(*shape: int, seed: int = 0) -> torch.Tensor:
    """True and false, about as many of each."""
    return integers(*shape, low=0, high=2, seed=seed).bool()


SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, float("inf"), float("-inf"), float("nan")])


@dataclass(frozen=True, eq=False)
class Case:
    """A call of one op."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [*map(_show, self.args), *(f"{key}={_show(given)}" for key, given in self.kwargs.items())]
        return f"{self.name}({', '.join(shown)})"

    def check(self, target: str = "iOS18") -> Module:
        """Lower it and compare it with torch, in float64."""
        return check_lowering(f"aten.{self.name}", *self.args, target=target, **self.kwargs)


def case(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(name, args, kwargs)


def op_names(module: Module) -> list[str]:
    """The MIL ops of a module in order, without the dialect."""
    return [op.defn.root for op in module.main.ops()]


def _show(given: Any) -> str:
    if isinstance(given, torch.Tensor):
        return f"{str(given.dtype).removeprefix('torch.')}{list(given.shape)}".replace(" ", "")
    if isinstance(given, (list, tuple)):
        return f"[{','.join(map(_show, given))}]"
    return str(given)

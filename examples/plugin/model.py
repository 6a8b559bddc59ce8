"""A model with three activations: two that ``fuse-gelu`` fuses, one that it nearly does."""

import torch


class QuickGelu(torch.nn.Module):
    def __init__(self, slope: float = 1.702) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.slope * x)


def model() -> tuple[torch.nn.Module, tuple[torch.Tensor]]:
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(8, 16),
        QuickGelu(),
        torch.nn.Linear(16, 16),
        QuickGelu(),
        torch.nn.Linear(16, 8),
        QuickGelu(1.5),
    ]
    return torch.nn.Sequential(*layers).eval(), (torch.randn(2, 8),)

"""Random weights that tell a right answer from a wrong one."""

from __future__ import annotations

import torch


def perturb(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random biases, norm scales and running statistics; zero-initialised heads get weights too."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for name, tensor in model.named_buffers():
            if name.endswith("running_var"):
                draw(tensor, 0.5, 2.0)
            elif name.endswith("running_mean"):
                draw(tensor, -0.2, 0.2)
        for name, tensor in model.named_parameters():
            if not tensor.is_floating_point() or tensor.numel() == 1:
                continue
            if name.endswith("bias"):
                draw(tensor, -0.2, 0.2)
            elif tensor.ndim == 1:
                draw(tensor, 0.6, 1.4)
            elif float(tensor.std()) == 0:
                draw(tensor, -0.1, 0.1)
    return model.eval()


def calibrate(model: torch.nn.Module, *args: torch.Tensor) -> torch.nn.Module:
    """Let batch norms scale to what these inputs give, so that nothing grows from layer to layer.

    They divide by the root of the mean square: noise makes features that hardly vary, and the
    variance alone would blow up the little that they do.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        model(*args)
        for norm, momentum in kept:
            norm.momentum = momentum
            norm.running_var += norm.running_mean.square()
            norm.running_mean *= 0.5
    return model.eval()

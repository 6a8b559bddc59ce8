"""Random weights that tell a right answer from a wrong one."""

from __future__ import annotations

from typing import Any

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


def clear_choices(model: torch.nn.Module, draw: Any, batch: int, tries: int = 64) -> torch.Tensor:
    """Of random inputs of batch 1 those whose top k scores lie farthest apart, as one batch.

    Random scores nearly tie: the few largest of 84 are often nearer to each other than float16 can
    tell, and which of them a right program picks is then as open as the order it gives them.
    """
    found: list[tuple[float, torch.Tensor]] = []
    margins: list[float] = []
    topk = torch.topk

    def watched(scores: torch.Tensor, k: int, *args: Any, **kwargs: Any) -> Any:
        chosen = topk(scores, k, *args, **kwargs)
        ordered = topk(scores, min(k + 1, scores.shape[-1])).values
        margins.append(float((ordered[..., :-1] - ordered[..., 1:]).min() / scores.std()))
        return chosen

    torch.topk = watched
    try:
        for _ in range(tries):
            x = draw()
            margins.clear()
            with torch.no_grad():
                model(x)
            found.append((min(margins), x))
    finally:
        torch.topk = topk
    found.sort(key=lambda entry: -entry[0])
    return torch.cat([x for _, x in found[:batch]])

"""Whole architectures: compiled, saved, reloaded from disk, run, and compared with eager PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import anec
from anec.check.metrics import compare
from end_to_end.zoo import MODELS


def eager(
    model: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
) -> list[torch.Tensor]:
    with torch.no_grad():
        result = model(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        return [result]
    return [value for value in result.values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_agrees_with_eager(name: str, batch: int, tmp_path: Path) -> None:
    model, args, kwargs = MODELS[name](batch)
    expected = eager(model, args, kwargs)
    program = torch.export.export(model, args, kwargs)
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{name}-{precision}.mlpackage"
        anec.compile(program, passes="default,ane", precision=precision).save(path)
        loaded = anec.load(path)
        outputs = loaded.run(dict(zip(loaded.input_names, (*args, *kwargs.values()), strict=True)))
        assert len(outputs) == len(expected)
        for (output, array), wanted in zip(outputs.items(), expected, strict=True):
            metric = compare(output, torch.from_numpy(array), wanted)
            assert not metric.void, metric
            if precision == "fp32":
                assert metric.rel < 1e-4, metric
            else:
                assert metric.psnr > 45, metric

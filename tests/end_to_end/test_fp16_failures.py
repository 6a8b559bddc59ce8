"""The models of benchmarks/fp16_failures.py: most break in float16 as they are written, and none does here."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "fp16_failures.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fp16_failures", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAILURES = load()


@pytest.mark.parametrize("name", FAILURES.MODELS)
def test_anec_reaches_50_db(name: str) -> None:
    psnr = FAILURES.by_anec(name, *FAILURES.build(name, seed=1))
    assert math.isfinite(psnr)
    assert psnr >= 50

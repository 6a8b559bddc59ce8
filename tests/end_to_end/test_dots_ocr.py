"""The worked case of binding: dots.ocr's towers from the form their authors wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import anec
from anec.check.metrics import compare
from anec.errors import AnecError
from anec.ir.types import DType

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "dots_ocr"))
import dots_text
import dots_vision
from dots_vision import TINY, VisionConfig, VisionTower


def agree(compiled: anec.CompiledModel, source: anec.Source, grid: list[list[int]] | None, **options: str) -> None:
    x = torch.randn_like(source.args[0])
    with torch.no_grad():
        wanted = source.model(x, *([torch.tensor(grid)] if grid else []))
    (name,) = (port.name for port in compiled.module.functions[options.get("function", "main")].signature.inputs)
    (found,) = compiled.run({name: x}, function=options.get("function")).values()
    metric = compare("tokens", torch.from_numpy(found), wanted)
    assert not metric.void
    assert metric.rel < 1e-4, metric


def test_the_full_tower_has_the_published_size() -> None:
    with torch.device("meta"):
        tower, text = VisionTower(VisionConfig()), dots_text.Text(dots_text.config())
    assert sum(p.numel() for p in tower.parameters()) == 1_262_091_264
    assert sum(p.numel() for p in text.parameters()) == 1_777_088_000


def test_vision_tower(tmp_path: Path) -> None:
    source, grid = dots_vision.tiny(), [[1, 8, 8]]
    with pytest.raises(AnecError) as caught:
        anec.compile(source.model, source.args)
    assert "fix it with --bind grid_thw=[[1,8,8]]" in str(caught.value.hint)
    compiled = anec.compile(source.model, source.args, bind={"grid_thw": grid}, precision="fp32")
    compiled.save(tmp_path / "vision.mlpackage")
    agree(anec.load(tmp_path / "vision.mlpackage"), source, grid)
    # The mask of every layer is the same tensor, and the loops are gone.
    masks = [v for v in compiled.module.main.weights.values() if v.tensor.dtype is DType.BOOL]
    assert len(masks) <= 1
    assert len(compiled.module.main) < 70 * len(source.model.blocks)


def test_page_formats_are_functions_of_one_package() -> None:
    grids = {"portrait": [[1, 12, 8]], "pages": [[1, 4, 8], [2, 8, 4]]}
    functions = {name: {"grid_thw": grid, "patches": "96x48"} for name, grid in grids.items()}
    tiny = dots_vision.tiny()
    compiled = anec.compile(tiny.model, tiny.args, functions=functions, precision="fp32")
    for name, grid in grids.items():
        agree(compiled, dots_vision.source(TINY, grid), grid, function=name)


def test_text_model() -> None:
    source = dots_text.tiny()
    agree(anec.compile(source.model, source.args, precision="fp32"), source, None)

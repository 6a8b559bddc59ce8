"""The main job: EasyOCR's networks with their real weights, from PyTorch to packages on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anec.check.metrics import compare

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "easyocr"))
models = pytest.importorskip("models", reason="the example needs easyocr")
read_page = pytest.importorskip("read_page")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def packages(request: pytest.FixtureRequest, folder: Path) -> dict:
    return {"precision": request.param, **read_page.compile_packages(folder, request.param)}


def rendered_line() -> np.ndarray:
    """A line of text on white, from the font that Pillow brings."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (620, 64), "white")
    ImageDraw.Draw(image).text((12, 14), "Invoice 2026-117 Total $1,482.50", "black", ImageFont.load_default(size=32))
    return np.array(image)


@pytest.fixture(scope="module")
def expected() -> dict[str, list]:
    return {"page": read_page.with_pytorch(str(read_page.PAGE)), "line": read_page.with_pytorch(rendered_line())}


def tolerance_holds(metric, precision: str) -> bool:
    return metric.rel < 1e-4 if precision == "fp32" else metric.psnr > 45


def test_networks_agree_with_eager(packages: dict) -> None:
    generator = torch.Generator().manual_seed(5)
    page = torch.randn(1, 3, *models.DETECTOR_SIZE, generator=generator)
    line = torch.rand(1, 1, models.LINE_HEIGHT, 256, generator=generator) * 2 - 1
    with torch.no_grad():
        wanted = {"scores": models.craft()(page)[0], "characters": models.crnn()(line, None)}
    found = packages["detector"].run({"page": page}) | packages["recognizer_256"].run({"line": line})
    for name, tensor in wanted.items():
        metric = compare(name, torch.from_numpy(found[name]), tensor)
        assert not metric.void, metric
        assert tolerance_holds(metric, packages["precision"]), metric


@pytest.mark.parametrize("what", ["page", "line"])
def test_reads_the_same_text(what: str, packages: dict, expected: dict[str, list]) -> None:
    image = str(read_page.PAGE) if what == "page" else rendered_line()
    found = read_page.with_packages(packages, image)
    assert read_page.compare(expected[what], found) == ""
    texts = [text for _, text, _ in found]
    if what == "page":
        assert "Region-based segmentation" in texts
    else:
        assert "Invoice" in " ".join(texts)
        assert "1,482.50" in " ".join(texts)

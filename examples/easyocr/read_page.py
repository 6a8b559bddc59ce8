"""Read a page with EasyOCR twice: its networks in PyTorch, and compiled for Core ML.

    python examples/easyocr/read_page.py                       a scan of seven lines, in float16
    python examples/easyocr/read_page.py photo.png --precision fp32

The packages are compiled on first use. Everything around the networks is EasyOCR's own pipeline;
off a Mac the packages run in anec's evaluator. Exits with 1 when the texts differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import easyocr
import numpy as np
import skimage
import torch

import anec

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import models
from reading import compare, compile_missing

PAGE = Path(skimage.__file__).parent / "data" / "page.png"
# What a black pixel is behind EasyOCR's normalisation (ImageNet's mean and deviation).
BLACK = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
Network = Callable[[torch.Tensor], torch.Tensor]


def compile_packages(folder: Path, precision: str) -> dict[str, anec.CompiledModel]:
    """The detector and the recognisers, compiled where ``folder`` lacks them."""
    names = ("detector", *(f"recognizer_{width}" for width in models.WIDTHS))
    return compile_missing(names, models.__file__, folder, precision)


class Detector(torch.nn.Module):
    """A detector of a fixed page size: pads with black on the right and below, crops the scores."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, page: torch.Tensor) -> tuple[torch.Tensor, None]:
        height, width = page.shape[2:]
        limit_height, limit_width = models.DETECTOR_SIZE
        if height > limit_height or width > limit_width:
            sys.exit(f"the page is {height} x {width}; the detector was compiled for {limit_height} x {limit_width}")
        padded = BLACK.reshape(1, 3, 1, 1).expand(1, 3, *models.DETECTOR_SIZE).clone()
        padded[:, :, :height, :width] = page
        return self.network(padded)[:, : height // 2, : width // 2], None


class Recognizer(torch.nn.Module):
    """A recogniser of a few widths: repeats a line's last column up to the next one, as EasyOCR pads."""

    def __init__(self, networks: dict[int, Network]) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, line: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        fitting = [width for width in self.networks if width >= line.shape[3]]
        if not fitting:
            sys.exit(f"a line is {line.shape[3]} pixels wide; the widest recogniser takes {max(self.networks)}")
        border = line[..., -1:].expand(-1, -1, -1, fitting[0] - line.shape[3])
        return self.networks[fitting[0]](torch.cat([line, border], dim=3))


def run_package(package: anec.CompiledModel) -> Network:
    """The first output of a package as a function of its one input."""

    def run(given: torch.Tensor) -> torch.Tensor:
        outputs = package.run({package.input_names[0]: given})
        return torch.from_numpy(outputs[package.output_names[0]].copy())

    return run


def read(detector: torch.nn.Module, recognizer: torch.nn.Module, image: np.ndarray | str) -> list[tuple]:
    """Read an image with EasyOCR's pipeline around the two networks."""
    folder = str(models.weights_folder())
    reader = easyocr.Reader(
        ["en"], gpu=False, quantize=False, verbose=False, download_enabled=False, model_storage_directory=folder
    )
    reader.detector, reader.recognizer = detector, recognizer
    return reader.readtext(image)


def with_pytorch(image: np.ndarray | str) -> list[tuple]:
    """Read with the networks in PyTorch, padded to the same sizes as the packages."""
    craft, crnn = models.craft(), models.crnn()
    widths = {width: (lambda line: crnn(line, None)) for width in models.WIDTHS}
    return read(Detector(lambda page: craft(page)[0]), Recognizer(widths), image)


def with_packages(packages: dict[str, anec.CompiledModel], image: np.ndarray | str) -> list[tuple]:
    """Read with the compiled networks."""
    widths = {width: run_package(packages[f"recognizer_{width}"]) for width in models.WIDTHS}
    return read(Detector(run_package(packages["detector"])), Recognizer(widths), image)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?", default=str(PAGE), help="a picture (default: scikit-image's page.png)")
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16")
    parser.add_argument("--packages", type=Path, default=Path("build/easyocr"), help="where the packages lie")
    options = parser.parse_args()
    if not Path(options.image).is_file():
        parser.error(f"there is no picture {options.image}")
    packages = compile_packages(options.packages, options.precision)
    expected = with_pytorch(options.image)
    found = with_packages(packages, options.image)
    for _, text, confidence in found:
        print(f"{confidence:5.2f}  {text}")
    problem = compare(expected, found)
    print(f"DIFFERENT: {problem}" if problem else f"the same {len(found)} texts as EasyOCR with PyTorch")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

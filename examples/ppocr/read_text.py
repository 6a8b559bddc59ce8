"""Read a page with PP-OCRv4 twice: its networks in ONNX Runtime, and compiled for Core ML.

    python examples/ppocr/read_text.py                       a scan, in float16
    python examples/ppocr/read_text.py photo.png --precision fp32

The packages are compiled on first use. Everything around the networks is RapidOCR's own pipeline; off a Mac
the packages run in anec's evaluator. Exits with 1 when the texts differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import skimage

import anec

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import networks
from reading import Line, compare, compile_missing

PAGE = Path(skimage.__file__).parent / "data" / "page.png"
NAMES = ("detector", "classifier", *(f"recognizer_{width}" for width in networks.WIDTHS))
Network = Callable[[np.ndarray], np.ndarray]
Networks = dict[str, Network]


def compile_packages(folder: Path, precision: str) -> Networks:
    """All networks, compiled where ``folder`` lacks them."""
    packages = compile_missing(NAMES, networks.__file__, folder, precision)
    return {name: run_package(package) for name, package in packages.items()}


def run_package(package: anec.CompiledModel) -> Network:
    """The one output of a package as a function of its one input."""
    return lambda image: package.run({package.input_names[0]: image})[package.output_names[0]]


def with_onnxruntime() -> Networks:
    """The same networks in ONNX Runtime."""
    sessions = {}
    for name in NAMES:
        session = onnxruntime.InferenceSession(networks.weights(name.partition("_")[0]))
        sessions[name] = lambda image, session=session: session.run(None, {session.get_inputs()[0].name: image})[0]
    return sessions


def padded(image: np.ndarray, height: int, width: int, value: float) -> np.ndarray:
    """Images of a fixed size: filled up on the right and below."""
    if image.shape[2] > height or image.shape[3] > width:
        sys.exit(f"an image is {image.shape[2]} x {image.shape[3]}; the network was compiled for {height} x {width}")
    missing = ((0, 0), (0, 0), (0, height - image.shape[2]), (0, width - image.shape[3]))
    return np.pad(image, missing, constant_values=value)


def detect(run: Networks, page: np.ndarray) -> list[np.ndarray]:
    """The detector on a page with a black border, whose scores are cut off again."""
    height, width = page.shape[2:]
    return [run["detector"](padded(page, *networks.DETECTOR_SIZE, -1.0))[:, :, :height, :width]]


def classify(run: Networks, lines: np.ndarray) -> list[np.ndarray]:
    """The classifier, line by line."""
    return [np.concatenate([run["classifier"](line[None]) for line in lines])]


def recognize(run: Networks, lines: np.ndarray) -> list[np.ndarray]:
    """The narrowest recogniser that takes the lines, which end in grey as RapidOCR's own do."""
    fitting = next((width for width in networks.WIDTHS if width >= lines.shape[3]), networks.WIDTHS[-1])
    network = run[f"recognizer_{fitting}"]
    return [np.concatenate([network(padded(line[None], networks.LINE_HEIGHT, fitting, 0.0)) for line in lines])]


def read(run: Networks, image: str) -> list[Line]:
    """Read an image with RapidOCR's pipeline around the networks: box, text and confidence a line."""
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR()
    engine.text_det.infer = lambda page: detect(run, page)
    engine.text_cls.session = lambda lines: classify(run, lines)
    engine.text_rec.session = lambda lines: recognize(run, lines)
    found, _ = engine(image)
    return [(np.array(box), text, float(score)) for box, text, score in found or ()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?", default=str(PAGE), help="a picture (default: scikit-image's page.png)")
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16")
    parser.add_argument("--packages", type=Path, default=Path("build/ppocr"), help="where the packages lie")
    options = parser.parse_args()
    if not Path(options.image).is_file():
        parser.error(f"there is no picture {options.image}")
    packages = compile_packages(options.packages, options.precision)
    expected = read(with_onnxruntime(), options.image)
    found = read(packages, options.image)
    for _, text, confidence in found:
        print(f"{confidence:5.2f}  {text}")
    problem = compare(expected, found)
    print(f"DIFFERENT: {problem}" if problem else f"the same {len(found)} texts as ONNX Runtime")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

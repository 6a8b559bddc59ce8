"""Read a page with PP-OCRv4 twice: its networks in ONNX Runtime, and compiled for Core ML.

    python examples/ppocr/read_text.py                       a scan, in float16
    python examples/ppocr/read_text.py photo.png --precision fp32

The packages are compiled on first use. Everything around the networks is RapidOCR's own pipeline; off a Mac
the packages run in anec's evaluator. Exits with 1 when the texts differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import skimage

import anec

sys.path.insert(0, str(Path(__file__).parent))
import networks

PAGE = Path(skimage.__file__).parent / "data" / "page.png"
NAMES = ("detector", "classifier", *(f"recognizer_{width}" for width in networks.WIDTHS))
Network = Callable[[np.ndarray], np.ndarray]
Networks = dict[str, Network]
Line = tuple[np.ndarray, str, float]


def compile_packages(folder: Path, precision: str) -> Networks:
    """Compile what is missing in ``folder`` and load all packages from disk."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = {}
    for name in NAMES:
        path = folder / f"{name}-{precision}.mlpackage"
        if not path.exists():
            start = time.perf_counter()
            source = f"{Path(networks.__file__)}:{name}"
            anec.compile(source, passes="default,ane", precision=precision).save(path)
            print(f"compiled {path.name} in {time.perf_counter() - start:.1f} s", flush=True)
        packages[name] = run_package(anec.load(path))
    return packages


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


def compare(expected: list[Line], found: list[Line]) -> str:
    """What differs: texts, the number of boxes, corners by more than two pixels; else nothing."""
    if len(expected) != len(found):
        return f"{len(found)} boxes instead of {len(expected)}"
    for (box, text, _), (other_box, other_text, _) in zip(expected, found, strict=True):
        if text != other_text:
            return f"{other_text!r} instead of {text!r}"
        distance = np.abs(box - other_box).max()
        if distance > 2:
            return f"a corner of {text!r} is off by {distance:.1f} pixels"
    return ""


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

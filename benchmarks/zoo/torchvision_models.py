"""torchvision: classifiers, segmentation, video, optical flow, detection."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import Case, Factory
from zoo.weights import calibrate, perturb


def _model(name: str, *shape: int, inputs: int = 1, **settings: Any) -> Factory:
    def make(batch: int, seed: int) -> Case:
        import torchvision

        torch.manual_seed(seed)
        model = perturb(torchvision.models.get_model(name, weights=None, **settings), seed + 1)
        examples = tuple(torch.randn(max(batch, 8), *shape) for _ in range(inputs))
        if name == "inception_v3":
            # Drawn statistics let it grow from layer to layer, beyond what float16 holds.
            calibrate(model, *examples)
        return model, tuple(example[:batch] for example in examples), {}

    return make


def _detector(name: str, **settings: Any) -> Factory:
    """Detectors take a list of pictures."""

    def make(batch: int, seed: int) -> Case:
        import torchvision

        torch.manual_seed(seed)
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **settings)
        return perturb(model, seed + 1), ([torch.rand(3, 64, 96) for _ in range(batch)],), {}

    return make


def _vit(batch: int, seed: int) -> Case:
    from torchvision.models import VisionTransformer

    torch.manual_seed(seed)
    model = VisionTransformer(
        image_size=64, patch_size=16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )
    return perturb(model, seed + 1), (torch.randn(batch, 3, 64, 64),), {}


_SIZES = {
    64: "squeezenet1_1 resnet18 resnext50_32x4d densenet121 mobilenet_v2 mobilenet_v3_small mnasnet0_5 "
    "shufflenet_v2_x0_5 efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny swin_t swin_v2_t",
    96: "alexnet vgg11_bn googlenet inception_v3",
}

MODELS: dict[str, Factory] = {
    **{
        f"torchvision/{name}": _model(name, 3, size, size, **({"init_weights": True} if "nception" in name else {}))
        for size, names in _SIZES.items()
        for name in names.split()
    },
    "torchvision/googlenet": _model("googlenet", 3, 96, 96, init_weights=True, aux_logits=False),
    "torchvision/vit": _vit,
    "torchvision/maxvit_t": _model("maxvit_t", 3, 224, 224),
    "torchvision/deeplabv3_mobilenet_v3_large": _model(
        "deeplabv3_mobilenet_v3_large", 3, 97, 65, weights_backbone=None
    ),
    "torchvision/lraspp_mobilenet_v3_large": _model("lraspp_mobilenet_v3_large", 3, 97, 65, weights_backbone=None),
    "torchvision/fcn_resnet50": _model("fcn_resnet50", 3, 65, 97, weights_backbone=None),
    "torchvision/r3d_18": _model("r3d_18", 3, 8, 48, 48),
    "torchvision/r2plus1d_18": _model("r2plus1d_18", 3, 8, 48, 48),
    "torchvision/s3d": _model("s3d", 3, 16, 224, 224),
    "torchvision/mvit_v2_s": _model("mvit_v2_s", 3, 16, 224, 224),
    "torchvision/swin3d_t": _model("swin3d_t", 3, 8, 64, 64),
    "torchvision/raft_small": _model("raft_small", 3, 128, 128, inputs=2),
    "torchvision/ssdlite320_mobilenet_v3_large": _detector("ssdlite320_mobilenet_v3_large"),
    "torchvision/retinanet_resnet50_fpn": _detector("retinanet_resnet50_fpn", min_size=64, max_size=96),
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn": _detector(
        "fasterrcnn_mobilenet_v3_large_320_fpn", min_size=64, max_size=96
    ),
}

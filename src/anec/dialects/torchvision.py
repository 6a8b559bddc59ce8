"""The `torchvision` dialect: the ops of torch's library for images that have a lowering.

Their schemas stand here, so that patterns over them need no torchvision; its other ops resolve
through the installed library when first named.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from anec.dialects.aten import TorchDialect, definition, from_torch
from anec.ir.opdef import OpDef

_SCHEMAS = {
    "deform_conv2d": "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask",
    "roi_align": "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned",
    "nms": "Tensor dets, Tensor scores, float iou_threshold",
}


def _ops() -> MutableMapping[str, OpDef]:
    found = (definition("torchvision", f"{name}({arguments}) -> Tensor") for name, arguments in _SCHEMAS.items())
    return {defn.name.partition(".")[2]: defn for defn in found}


torchvision = TorchDialect("torchvision", _ops, from_torch("torchvision"))

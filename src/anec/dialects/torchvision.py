"""The `torchvision` dialect: the ops of torch's library for images that have a lowering.

Their schemas stand here, so that patterns over them need no torchvision; its other ops resolve
through the installed library when first named.
"""

from __future__ import annotations

from anec.dialects.aten import library

_DEFORM_CONV2D = (
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor"
)
_ROI_ALIGN = (
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor"
)
_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

torchvision = library("torchvision", (_DEFORM_CONV2D, _ROI_ALIGN, _NMS))

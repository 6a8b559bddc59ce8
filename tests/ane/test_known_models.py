"""What is known to stay off the Neural Engine in models that others have measured, named by rule.

ESM-2 of 35 million weights: 746 of 755 ops ran there; equal, greater_equal, select, cast, add and gather
did not. RF-DETR: 592 of 599; topk, expand_dims, tile and gather_along_axis did not (roboflow/rf-detr#1495,
Core ML's own plan on an M3 Pro). Its relatives RT-DETR and Deformable DETR have the same ops.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anec
from anec.ane import FunctionPrediction, predict

pytest.importorskip("transformers")


def predicted(model: torch.nn.Module, kwargs: dict[str, Any], generation: str = "M3") -> FunctionPrediction:
    return predict(anec.compile(model, (), kwargs).module, generation).functions[0]


def off(function: FunctionPrediction) -> dict[str, set[str]]:
    """For each op that has a copy which the Neural Engine refuses, the rules that say so."""
    found: dict[str, set[str]] = {}
    for placement in function.placements:
        refusing = {finding.rule.id for finding in placement.findings if finding.rule.rejects}
        if refusing:
            assert not placement.on_ane
            assert placement.blockers[0].rule.remedy
            found.setdefault(placement.op.defn.root, set()).update(refusing)
    return found


def test_esm2_of_35_million() -> None:
    from transformers import EsmConfig, EsmModel

    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=33, hidden_size=480, num_hidden_layers=12, num_attention_heads=20, intermediate_size=1920,
        max_position_embeddings=1026, position_embedding_type="rotary", token_dropout=True, mask_token_id=32,
        pad_token_id=1, emb_layer_norm_before=False,
    )  # fmt: skip
    mask = torch.ones(1, 128, dtype=torch.int64)
    mask[0, 100:] = 0
    function = predicted(EsmModel(config).eval(), {"input_ids": torch.randint(4, 24, (1, 128)), "attention_mask": mask})
    refused = off(function)
    assert refused["gather"] == {"A16"}
    for op in ("equal", "select", "cast"):
        assert "B31" in refused[op]
    assert not refused.keys() & {"linear", "layer_norm", "gelu", "softmax", "scaled_dot_product_attention"}
    assert function.share.ops > 0.95
    assert function.share.multiply_adds == 1
    assert function.segments == 1, "all of it happens before and behind the layers"


def backbone(kind: str) -> Any:
    import transformers

    config = getattr(transformers, kind)
    return config(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


def rt_detr() -> torch.nn.Module:
    from transformers import RTDetrConfig, RTDetrForObjectDetection

    return RTDetrForObjectDetection(
        RTDetrConfig(
            backbone_config=backbone("RTDetrResNetConfig"), encoder_hidden_dim=32, d_model=32,
            encoder_in_channels=[16, 24, 32], encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=8, decoder_layers=1,
            decoder_attention_heads=4, encoder_attention_heads=4, decoder_in_channels=[32, 32, 32],
        )
    )  # fmt: skip


def deformable_detr() -> torch.nn.Module:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    return DeformableDetrForObjectDetection(
        DeformableDetrConfig(
            backbone_config=backbone("ResNetConfig"), use_timm_backbone=False, use_pretrained_backbone=False,
            backbone=None, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=6, num_feature_levels=4,
            two_stage=True, with_box_refine=True, two_stage_num_proposals=6,
        )
    )  # fmt: skip


class Boxes(torch.nn.Module):
    """A detector without what it remembers beside its answer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(pixel_values=pixel_values)
        return found.logits, found.pred_boxes


@pytest.mark.parametrize("make", [rt_detr, deformable_detr])
def test_detectors_that_choose_their_queries(make: Any) -> None:
    """Whatever the sizes, which say whether the rest is worth a dispatch."""
    torch.manual_seed(0)
    model = Boxes(make()).eval()
    refused = off(predicted(model, {"pixel_values": torch.randn(1, 3, 96, 96)}))
    assert "B14" in refused["topk"]
    assert "B23" in refused["gather_along_axis"]
    assert "B56" in refused["tile"]
    assert "A01i" in refused["expand_dims"], "of the indices"
    assert "A01" in refused["cast"]

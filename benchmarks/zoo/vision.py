"""transformers: pictures in; classes, boxes, masks, depths or key points out."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import Case, Factory, hugging_face, image
from zoo.weights import calibrate, clear_choices

VIT: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 64,
    "patch_size": 16,
}
SWIN: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_PICTURE = image(3, 64, 64)
DETR: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 6,
}


def resnet(*stages: str) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=list(stages))


def swin_config() -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        **SWIN | {"depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4]}, out_features=[f"stage{i}" for i in range(1, 5)]
    )


def late(make: Any) -> Factory:
    """A factory whose settings need transformers itself: made on first use."""
    return lambda batch, seed: make()(batch, seed)


def _detr(name: str, *stages: str, **settings: Any) -> Factory:
    return late(
        lambda: hugging_face(
            name,
            image(3, 64, 96),
            only="logits pred_boxes",
            **settings,
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=resnet(*stages),
        )
    )


def _rt_detr(name: str, **settings: Any) -> Factory:
    def make() -> Factory:
        from transformers import RTDetrResNetConfig

        backbone = RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )
        return _decided(
            name,
            only="logits pred_boxes",
            backbone_config=backbone,
            encoder_hidden_dim=32,
            d_model=32,
            encoder_in_channels=[16, 24, 32],
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_queries=6,
            decoder_layers=2,
            decoder_attention_heads=4,
            encoder_attention_heads=4,
            decoder_in_channels=[32, 32, 32],
            **settings,
        )

    return late(make)


def _decided(name: str, **settings: Any) -> Factory:
    """A detector that goes on with its best few candidates, and pictures in which these are clear."""

    def make(batch: int, seed: int) -> Case:
        model, _, inputs = hugging_face(name, _PICTURE, **settings)(batch, seed)
        calibrate(model.model, inputs["pixel_values"])
        pictures = clear_choices(model.model, lambda: torch.randn(1, 3, 64, 64), batch)
        return model, (), {"pixel_values": pictures}

    return make


def _maskformer(name: str, **settings: Any) -> Factory:
    return late(
        lambda: hugging_face(
            name, _PICTURE, only="class_queries_logits masks_queries_logits", backbone_config=swin_config(), **settings
        )
    )


def _yolos(batch: int) -> dict[str, Any]:
    return {"pixel_values": torch.randn(batch, 3, 64, 96)}


_PVT_V2: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [16, 32, 40, 64],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 4, 4],
}
MODELS: dict[str, Factory] = {
    "vit": hugging_face("ViTModel", _PICTURE, **VIT),
    "vit_eager": hugging_face("ViTForImageClassification", _PICTURE, **VIT, attention="eager"),
    "deit": hugging_face("DeiTForImageClassificationWithTeacher", _PICTURE, **VIT),
    "beit": hugging_face("BeitModel", _PICTURE, **VIT, use_relative_position_bias=True, vocab_size=50),
    "dinov2": hugging_face("Dinov2Model", image(3, 80, 48), **VIT),
    "dinov2_with_registers": hugging_face("Dinov2WithRegistersModel", _PICTURE, **VIT, num_register_tokens=2),
    "dinov3_vit": hugging_face("DINOv3ViTModel", _PICTURE, **VIT),
    "vit_msn": hugging_face("ViTMSNModel", _PICTURE, **VIT),
    "ijepa": hugging_face("IJepaModel", _PICTURE, **VIT),
    "swin": hugging_face("SwinModel", _PICTURE, only="last_hidden_state pooler_output", **SWIN),
    "swinv2": hugging_face("Swinv2Model", _PICTURE, only="last_hidden_state pooler_output", **SWIN),
    "swin2sr": hugging_face(
        "Swin2SRForImageSuperResolution",
        image(3, 32, 32),
        only="reconstruction",
        **SWIN | {"image_size": 32, "patch_size": 1},
    ),
    "convnext": hugging_face("ConvNextModel", _PICTURE, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]),
    "convnextv2": hugging_face("ConvNextV2Model", _PICTURE, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]),
    "segformer": hugging_face(
        "SegformerForSemanticSegmentation",
        image(3, 64, 96),
        only="logits",
        hidden_sizes=[16, 32, 40, 64],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
        num_attention_heads=[1, 2, 4, 8],
    ),
    "detr": _detr("DetrForObjectDetection", "stage4", **DETR),
    "conditional_detr": _detr("ConditionalDetrForObjectDetection", "stage4", **DETR),
    "deformable_detr": _detr(
        "DeformableDetrForObjectDetection", "stage2", "stage3", "stage4", **DETR, num_feature_levels=4
    ),
    "dab_detr": _detr(
        "DabDetrForObjectDetection", "stage4", **{k: v for k, v in DETR.items() if k != "d_model"}, hidden_size=32
    ),
    "table_transformer": _detr("TableTransformerForObjectDetection", "stage4", **DETR),
    "yolos": hugging_face(
        "YolosForObjectDetection",
        _yolos,
        only="logits pred_boxes",
        **VIT | {"image_size": [64, 96]},
        num_detection_tokens=5,
    ),
    "rt_detr": _rt_detr("RTDetrForObjectDetection"),
    "rt_detr_v2": _rt_detr("RTDetrV2ForObjectDetection"),
    "d_fine": _rt_detr("DFineForObjectDetection"),
    "maskformer": _maskformer("MaskFormerForInstanceSegmentation", fpn_feature_size=32, mask_feature_size=32),
    "mask2former": _maskformer(
        "Mask2FormerForUniversalSegmentation",
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
    ),
    "oneformer": late(
        lambda: hugging_face(
            "OneFormerForUniversalSegmentation",
            lambda batch: {
                "pixel_values": torch.randn(batch, 3, 64, 64),
                "task_inputs": torch.randint(0, 200, (batch, 77)),
            },
            only="class_queries_logits masks_queries_logits",
            backbone_config=swin_config(),
            hidden_dim=32,
            mask_dim=32,
            conv_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            encoder_layers=1,
            decoder_layers=2,
            query_dec_layers=1,
            num_attention_heads=2,
            num_queries=5,
            text_encoder_width=32,
            text_encoder_num_layers=1,
            text_encoder_vocab_size=200,
        )
    ),
    "upernet": late(
        lambda: hugging_face(
            "UperNetForSemanticSegmentation",
            _PICTURE,
            only="logits",
            backbone_config=swin_config(),
            hidden_size=16,
            auxiliary_channels=16,
            auxiliary_in_channels=64,
            num_labels=5,
        )
    ),
    "dpt": hugging_face(
        "DPTForDepthEstimation",
        _PICTURE,
        only="predicted_depth",
        **VIT | {"num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
    ),
    "depth_anything": late(
        lambda: hugging_face(
            "DepthAnythingForDepthEstimation",
            image(3, 56, 84),
            only="predicted_depth",
            backbone_config=_dinov2(),
            reassemble_hidden_size=48,
            patch_size=14,
            neck_hidden_sizes=[8, 16, 24, 32],
            depth_estimation_type="metric",
            max_depth=10,
            fusion_hidden_size=16,
        )
    ),
    "glpn": hugging_face(
        "GLPNForDepthEstimation",
        _PICTURE,
        only="predicted_depth",
        hidden_sizes=[16, 32, 40, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 4, 8],
        decoder_hidden_size=16,
    ),
    "mobilevit": hugging_face(
        "MobileViTForImageClassification",
        image(3, 64, 64),
        hidden_sizes=[24, 32, 40],
        neck_hidden_sizes=[8, 8, 16, 24, 32, 40, 64],
        image_size=64,
    ),
    "mobilevitv2": hugging_face("MobileViTV2ForImageClassification", _PICTURE, image_size=64, width_multiplier=0.5),
    "poolformer": hugging_face("PoolFormerModel", _PICTURE, hidden_sizes=[16, 32, 40, 64], depths=[1, 1, 1, 1]),
    "pvt": hugging_face(
        "PvtModel",
        _PICTURE,
        image_size=64,
        hidden_sizes=[16, 32, 40, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 4, 8],
    ),
    "cvt": hugging_face(
        "CvtModel",
        _PICTURE,
        embed_dim=[16, 32, 48],
        num_heads=[1, 2, 4],
        depth=[1, 2, 3],
        drop_path_rate=[0.0, 0.0, 0.0],
    ),
    "focalnet": hugging_face(
        "FocalNetModel",
        _PICTURE,
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 2, 1],
        only="last_hidden_state pooler_output",
    ),
    "regnet": hugging_face(
        "RegNetModel", _PICTURE, embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1], groups_width=8
    ),
    "resnet": hugging_face(
        "ResNetModel", _PICTURE, embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]
    ),
    "bit": hugging_face(
        "BitModel", _PICTURE, embedding_size=32, hidden_sizes=[128, 128, 256, 256], depths=[1, 1, 1, 1], num_groups=8
    ),
    "efficientnet": hugging_face(
        "EfficientNetModel", _PICTURE, width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640
    ),
    "mobilenet_v1": hugging_face("MobileNetV1Model", _PICTURE, depth_multiplier=0.5),
    "swiftformer": hugging_face("SwiftFormerModel", _PICTURE, embed_dims=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
    "hiera": hugging_face(
        "HieraModel",
        _PICTURE,
        image_size=[64, 64],
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        only="last_hidden_state pooler_output",
    ),
    "vitpose": late(
        lambda: hugging_face("VitPoseForPoseEstimation", image(3, 64, 48), only="heatmaps", backbone_config=_vitpose())
    ),
    "superpoint": hugging_face(
        "SuperPointForKeypointDetection",
        image(3, 64, 64),
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        descriptor_decoder_dim=16,
    ),
    "videomae": hugging_face("VideoMAEModel", image(4, 3, 32, 32), **VIT | {"image_size": 32}, num_frames=4),
    "vivit": hugging_face(
        "VivitModel",
        image(4, 3, 32, 32),
        **{k: v for k, v in VIT.items() if k != "patch_size"} | {"image_size": 32},
        num_frames=4,
        tubelet_size=[2, 16, 16],
    ),
    "timesformer": hugging_face("TimesformerModel", image(4, 3, 32, 32), **VIT | {"image_size": 32}, num_frames=4),
    "vitdet": hugging_face(
        "VitDetModel",
        _PICTURE,
        **{k: v for k, v in VIT.items() if k != "intermediate_size"},
        window_size=2,
        window_block_indices=[0],
        use_relative_position_embeddings=True,
    ),
    "levit": hugging_face(
        "LevitModel",
        _PICTURE,
        image_size=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    ),
    "dinov3_convnext": hugging_face(
        "DINOv3ConvNextModel", _PICTURE, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]
    ),
    "mobilenet_v2": hugging_face("MobileNetV2Model", _PICTURE, depth_multiplier=0.5, image_size=64),
    "mobilenet_v2_segmentation": hugging_face(
        "MobileNetV2ForSemanticSegmentation", _PICTURE, depth_multiplier=0.5, image_size=64
    ),
    "pvt_v2": hugging_face("PvtV2Model", _PICTURE, **_PVT_V2),
    "pvt_v2_linear": hugging_face("PvtV2Model", _PICTURE, **_PVT_V2, linear_attention=True),
    "textnet": hugging_face("TextNetModel", _PICTURE, hidden_sizes=[8, 8, 16, 24, 32], stem_out_channels=8),
    "data2vec_vision": hugging_face("Data2VecVisionModel", _PICTURE, **VIT, use_relative_position_bias=True),
    "vit_mae": hugging_face(
        "ViTMAEModel",
        lambda batch: {"pixel_values": torch.randn(batch, 3, 64, 64), "noise": torch.rand(batch, 16)},
        only="last_hidden_state",
        **VIT,
    ),
    "seggpt": hugging_face(
        "SegGptModel",
        lambda batch: {
            name: torch.randn(batch, 3, 64, 64) for name in ("pixel_values", "prompt_pixel_values", "prompt_masks")
        },
        only="last_hidden_state",
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_dim=96,
        image_size=[128, 64],
        patch_size=16,
        merge_index=0,
        intermediate_hidden_state_indices=[0, 1],
        pretrain_image_size=64,
        decoder_hidden_size=16,
    ),
    "sapiens2": hugging_face("Sapiens2Model", _PICTURE, **VIT, num_key_value_heads_per_layer=[4, 2]),
    "sam3_vit": hugging_face(
        "Sam3ViTModel",
        _PICTURE,
        only="last_hidden_state",
        **VIT | {"patch_size": 8},
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=64,
    ),
    "mgp_str": hugging_face(
        "MgpstrForSceneTextRecognition",
        image(3, 32, 128),
        only="logits",
        image_size=[32, 128],
        patch_size=4,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2.0,
        num_bpe_labels=50,
        num_wordpiece_labels=40,
    ),
    "vitmatte": late(
        lambda: hugging_face(
            "VitMatteForImageMatting",
            image(4, 64, 64),
            only="alphas",
            backbone_config=_vitdet(),
            hidden_size=48,
            convstream_hidden_sizes=[8, 16, 24],
            fusion_hidden_sizes=[32, 16, 16, 8],
        )
    ),
    "vjepa2": hugging_face(
        "VJEPA2Model",
        image(4, 3, 32, 32, name="pixel_values_videos"),
        only="last_hidden_state",
        patch_size=16,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2.0,
        pred_hidden_size=48,
        pred_num_hidden_layers=2,
        pred_num_attention_heads=4,
    ),
}


def _dinov2() -> Any:
    from transformers import Dinov2Config

    return Dinov2Config(
        **VIT | {"image_size": 56, "patch_size": 14, "num_hidden_layers": 4},
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        apply_layernorm=True,
    )


def _vitdet() -> Any:
    from transformers import VitDetConfig

    return VitDetConfig(
        **{k: v for k, v in VIT.items() if k != "intermediate_size"},
        num_channels=4,
        window_size=2,
        window_block_indices=[0],
        use_relative_position_embeddings=True,
        out_features=["stage2"],
    )


def _vitpose() -> Any:
    from transformers import VitPoseBackboneConfig

    return VitPoseBackboneConfig(**VIT | {"image_size": [64, 48], "patch_size": [16, 16]}, out_indices=[2])

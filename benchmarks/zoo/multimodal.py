"""transformers: towers of pictures and words, documents, optical character recognition."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import VOCABULARY, Factory, Inputs, hugging_face, image, masked, padded, together, tokens
from zoo.encoder_decoders import BART
from zoo.encoders import BERT
from zoo.vision import SWIN, VIT, late

_TEXT = BERT | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_PICTURE = image(3, 64, 64)
_PAIR = together(masked(12), _PICTURE)


def _page(length: int) -> Inputs:
    def make(batch: int) -> dict[str, Any]:
        corner, size = torch.randint(0, 500, (batch, length, 2)), torch.randint(1, 500, (batch, length, 2))
        return {"bbox": torch.cat([corner, corner + size], -1)}

    return make


def _one_picture_per_row(length: int, places: int, picture: int, shape: tuple[int, ...]) -> Inputs:
    """Tokens in which the first ``places`` stand for the picture."""

    def make(batch: int) -> dict[str, Any]:
        ids = torch.randint(3, VOCABULARY - 10, (batch, length))
        ids[:, 1 : places + 1] = picture
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(batch, *shape)}

    return make


def _first_places(length: int, places: int) -> Inputs:
    """A mask of the tokens that stand for the picture."""

    def make(batch: int) -> dict[str, Any]:
        mask = torch.zeros(batch, length, dtype=torch.bool)
        mask[:, 1 : places + 1] = True
        return {"image_embeds_position_mask": mask}

    return make


def _trocr() -> Factory:
    from transformers import TrOCRConfig, VisionEncoderDecoderConfig, ViTConfig

    decoder = TrOCRConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=96,
        max_position_embeddings=32,
        use_cache=False,
        cross_attention_hidden_size=48,
    )
    settings = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VIT), decoder).to_dict()
    return hugging_face(
        "VisionEncoderDecoderModel", together(_PICTURE, tokens(9, "decoder_input_ids")), only="logits", **settings
    )


def _donut() -> Factory:
    from transformers import DonutSwinConfig, MBartConfig, VisionEncoderDecoderConfig

    decoder = MBartConfig(
        **BART, is_decoder=True, add_cross_attention=True, scale_embedding=True, add_final_layer_norm=True
    )
    encoder = DonutSwinConfig(**SWIN | {"embed_dim": 24})
    settings = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder).to_dict()
    return hugging_face(
        "VisionEncoderDecoderModel", together(_PICTURE, tokens(9, "decoder_input_ids")), only="logits", **settings
    )


def _patches(batch: int) -> dict[str, Any]:
    """pix2struct's flattened patches: row and column in front of the pixels."""
    rows, columns = torch.meshgrid(torch.arange(1, 4), torch.arange(1, 5), indexing="ij")
    place = torch.stack([rows, columns], -1).reshape(1, 12, 2).expand(batch, -1, -1).float()
    patches = torch.cat([place, torch.randn(batch, 12, 3 * 16)], -1)
    return {
        "flattened_patches": patches,
        "attention_mask": torch.ones(batch, 12),
        **tokens(7, "decoder_input_ids")(batch),
    }


_CLIP = {"text_config": _TEXT, "vision_config": VIT, "projection_dim": 32}
_CLIP_OUTPUTS = "logits_per_image text_embeds image_embeds"
_PP = {"num_labels": 10}

MODELS: dict[str, Factory] = {
    "clip": hugging_face("CLIPModel", _PAIR, only=_CLIP_OUTPUTS, **_CLIP),
    "clip_vision": hugging_face("CLIPVisionModelWithProjection", _PICTURE, **VIT, projection_dim=32),
    "clip_text": hugging_face("CLIPTextModel", masked(12), **_TEXT),
    "siglip": hugging_face("SiglipModel", _PAIR, only=_CLIP_OUTPUTS, text_config=_TEXT, vision_config=VIT),
    "siglip_vision": hugging_face("SiglipVisionModel", _PICTURE, **VIT),
    "chinese_clip": hugging_face("ChineseCLIPModel", _PAIR, only=_CLIP_OUTPUTS, **_CLIP),
    "altclip_vision": hugging_face("AltCLIPVisionModel", _PICTURE, **VIT),
    "owlvit": hugging_face(
        "OwlViTForObjectDetection",
        together(tokens(8), padded(8), _PICTURE),
        only="logits pred_boxes",
        **_CLIP | {"projection_dim": 48},
    ),
    "clipseg": hugging_face(
        "CLIPSegForImageSegmentation",
        _PAIR,
        only="logits",
        **_CLIP,
        extract_layers=[0, 1],
        reduce_dim=16,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=32,
    ),
    "groupvit_text": hugging_face("GroupViTTextModel", masked(12), **_TEXT),
    "blip": hugging_face(
        "BlipForImageTextRetrieval",
        _PAIR,
        only="itm_score",
        text_config=_TEXT | {"encoder_hidden_size": 48, "projection_dim": 32},
        vision_config=VIT,
        projection_dim=32,
        image_text_hidden_size=24,
    ),
    "git": hugging_face("GitForCausalLM", _PAIR, only="logits", **_TEXT, vision_config=VIT, use_cache=False),
    "vilt": hugging_face("ViltModel", _PAIR, **VIT, vocab_size=VOCABULARY, max_position_embeddings=40),
    "flava_image": hugging_face("FlavaImageModel", _PICTURE, **VIT),
    "layoutlmv3": hugging_face(
        "LayoutLMv3Model",
        together(masked(12), _page(12), _PICTURE),
        **BERT,
        input_size=64,
        coordinate_size=8,
        shape_size=8,
        has_relative_attention_bias=True,
        has_spatial_attention_bias=True,
        rel_pos_bins=8,
        rel_2d_pos_bins=8,
        max_rel_pos=16,
        max_rel_2d_pos=16,
        patch_size=16,
    ),
    "trocr": late(_trocr),
    "donut": late(_donut),
    "pix2struct": hugging_face(
        "Pix2StructForConditionalGeneration",
        _patches,
        only="logits",
        vision_config={
            "hidden_size": 48,
            "patch_embed_hidden_size": 48,
            "d_ff": 96,
            "d_kv": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "seq_len": 12,
            "patch_size": 4,
        },
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 48,
            "d_kv": 12,
            "d_ff": 96,
            "num_layers": 2,
            "num_heads": 4,
            "use_cache": False,
            "encoder_hidden_size": 48,
        },
    ),
    "got_ocr2": hugging_face(
        "GotOcr2ForConditionalGeneration",
        _one_picture_per_row(12, 4, 199, (3, 64, 64)),
        only="logits",
        image_token_id=199,
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 64,
        },
        text_config={"model_type": "qwen2", **BERT, "num_key_value_heads": 2, "use_cache": False},
    ),
    "florence2": hugging_face(
        "Florence2ForConditionalGeneration",
        together(_one_picture_per_row(12, 5, 199, (3, 64, 64)), tokens(6, "decoder_input_ids")),
        only="logits",
        image_token_id=199,
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [16, 32, 48, 64],
            "num_heads": [1, 2, 4, 4],
            "num_groups": [1, 2, 4, 4],
            "window_size": 4,
            "projection_dim": 48,
            "max_position_embeddings": 10,
            "max_temporal_embeddings": 4,
        },
        text_config={"model_type": "bart", **BART},
    ),
    "llava": hugging_face(
        "LlavaForConditionalGeneration",
        _one_picture_per_row(22, 16, 199, (3, 64, 64)),
        only="logits",
        image_token_index=199,
        vision_feature_layer=-1,
        vision_config={"model_type": "clip_vision_model", **VIT, "projection_dim": 32},
        text_config={"model_type": "llama", **BERT, "num_key_value_heads": 2, "use_cache": False},
    ),
    "paligemma": hugging_face(
        "PaliGemmaForConditionalGeneration",
        _one_picture_per_row(22, 16, 199, (3, 64, 64)),
        only="logits",
        image_token_index=199,
        projection_dim=48,
        vision_config={"model_type": "siglip_vision_model", **VIT, "vision_use_head": False, "projection_dim": 48},
        text_config={"model_type": "gemma", **BERT, "num_key_value_heads": 2, "head_dim": 16, "use_cache": False},
    ),
    "sam": hugging_face(
        "SamModel",
        lambda batch: {
            "pixel_values": torch.randn(batch, 3, 64, 64),
            "input_points": torch.rand(batch, 1, 2, 2) * 64,
            "input_labels": torch.ones(batch, 1, 2, dtype=torch.int64),
        },
        only="iou_scores pred_masks",
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 64,
            "num_pos_feats": 16,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "iou_head_hidden_dim": 32,
        },
    ),
    "sam_vision": hugging_face(
        "SamVisionModel",
        _PICTURE,
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        window_size=3,
        global_attn_indexes=[1],
        mlp_dim=64,
        num_pos_feats=16,
    ),
    "pp_lcnet": hugging_face("PPLCNetForImageClassification", _PICTURE, only="last_hidden_state"),
    "pp_ocrv5_mobile_rec": hugging_face("PPOCRV5MobileRecForTextRecognition", image(3, 96, 160)),
    "pp_ocrv5_server_rec": hugging_face("PPOCRV5ServerRecForTextRecognition", image(3, 48, 96)),
    "pp_ocrv5_mobile_det": hugging_face("PPOCRV5MobileDetForObjectDetection", image(3, 64, 96)),
    "pp_ocrv6_tiny_rec": hugging_face("PPOCRV6TinyRecForTextRecognition", image(3, 48, 96)),
    "pp_ocrv6_small_rec": hugging_face("PPOCRV6SmallRecForTextRecognition", image(3, 48, 96)),
    "groupvit_vision": hugging_face(
        "GroupViTVisionModel",
        _PICTURE,
        **VIT | {"num_hidden_layers": 3},
        depths=[2, 1],
        num_group_tokens=[4, 0],
        num_output_groups=[4, 2],
    ),
    "xclip_vision": hugging_face("XCLIPVisionModel", _PICTURE, **VIT, num_frames=2, mit_hidden_size=32),
    "blip2_vision": hugging_face("Blip2VisionModel", _PICTURE, **VIT),
    "blip2_qformer": hugging_face(
        "Blip2QFormerModel",
        together(image(4, 48, name="query_embeds"), image(9, 32, name="encoder_hidden_states")),
        **BERT,
        encoder_hidden_size=32,
    ),
    "internvl": hugging_face(
        "InternVLForConditionalGeneration",
        _one_picture_per_row(12, 4, 199, (3, 64, 64)),
        only="logits",
        image_token_id=199,
        vision_config=VIT | {"image_size": [64, 64], "patch_size": [16, 16]},
        text_config={"model_type": "qwen2", **BERT, "num_key_value_heads": 2, "use_cache": False},
    ),
    "kosmos2": hugging_face(
        "Kosmos2ForConditionalGeneration",
        together(_PICTURE, tokens(12), _first_places(12, 4)),
        only="logits",
        vision_config=VIT,
        text_config={
            "vocab_size": VOCABULARY,
            "embed_dim": 48,
            "layers": 2,
            "attention_heads": 4,
            "ffn_dim": 96,
            "max_position_embeddings": 64,
            "use_cache": False,
        },
        latent_query_num=4,
    ),
}

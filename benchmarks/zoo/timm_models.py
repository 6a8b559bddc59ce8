"""timm: at least one model of each family, at the smallest size its structure allows."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import Case, Factory
from zoo.weights import calibrate, perturb

# Drawn statistics let them grow from layer to layer, beyond what float16 holds; trained ones do not.
_AMPLIFYING = {"mobileone_s0", "lambda_resnet26t", "visformer_tiny"}


def _model(name: str, size: int, **settings: Any) -> Factory:
    def make(batch: int, seed: int) -> Case:
        import timm

        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False, num_classes=10, **settings)
        x = torch.randn(max(batch, 8), model.default_cfg.get("input_size", (3,))[0], size, size)
        perturb(model, seed + 1)
        if name in _AMPLIFYING:
            calibrate(model, x)
        return model, (x[:batch],), {}

    return make


# Models that run at any size.
_ANY = {
    64: "mobileone_s0 gcresnext26ts convnext_atto convnextv2_atto edgenext_xx_small efficientnet_b0_gn "
    "efficientvit_b0 fasternet_t0 fastvit_t8 ghostnet_100 hardcorenas_a hgnetv2_b0 lcnet_050 mambaout_femto "
    "poolformer_s12 mobilenetv3_small_050 mobilenetv4_conv_small repghostnet_050 repvit_m0_9 resnest14d resnet10t "
    "resnetv2_18 rexnet_100 selecsls42 skresnet18 starnet_s050 swiftformer_xs legacy_seresnet18 ese_vovnet19b_slim "
    "legacy_xception xception41 dla46_c dpn68 cspdarknet53 res2net50_14w_8s hrnet_w18_small regnetz_b16 tresnet_m "
    "tf_efficientnet_b0 rdnet_tiny inception_next_atto pvt_v2_b0 davit_tiny caformer_s18 resnet26d "
    "mobilevit_xxs mobilevitv2_050 dm_nfnet_f0 resnetv2_50x1_bit convmixer_768_32 densenetblur121d csatv2 "
    "focalnet_tiny_srf shvit_s1 xcit_nano_12_p16_224 nextvit_small cpubone_b0_bfrobust cspnext_tiny iformer_m "
    "lcnetv2_base lowformer_e1 mobilenetv5_base sam2_hiera_tiny",
    96: "inception_v4 pnasnet5large",
    128: "gernet_s lambda_resnet26t efficientvim_m1 efficientvit_m0 nf_ecaresnet26 inception_resnet_v2",
}
# Transformers and hybrids whose weights fix the size: (size, whether it is passed on).
_SIZED = {
    "beit_base_patch16_224": (64, {"depth": 2, "embed_dim": 96, "num_heads": 4}),
    "cait_xxs24_224": (64, {"depth": 3}),
    "convit_tiny": (64, {"depth": 4}),
    "crossvit_tiny_240": (240, {}),
    "deit3_small_patch16_224": (64, {"depth": 2}),
    "eva02_tiny_patch14_224": (56, {"depth": 2}),
    "hiera_tiny_224": (224, {}),
    "mixer_s32_224": (64, {}),
    "gmlp_ti16_224": (64, {}),
    "resmlp_12_224": (64, {}),
    "pit_ti_224": (96, {}),
    "swin_tiny_patch4_window7_224": (112, {"depths": (2, 2, 2, 2)}),
    "swinv2_tiny_window8_256": (128, {"depths": (2, 2, 2, 2)}),
    "swinv2_cr_tiny_224": (64, {}),
    "tnt_s_patch16_224": (64, {"depth": 2}),
    "vit_tiny_patch16_224": (64, {"depth": 3}),
    "vit_relpos_small_patch16_224": (64, {"depth": 2}),
    "vit_tiny_r_s16_p8_224": (64, {"depth": 2}),
    "volo_d1_224": (64, {}),
    "samvit_base_patch16_224": (64, {"depth": 3, "embed_dim": 48, "num_heads": 4, "global_attn_indexes": (2,)}),
    "mvitv2_tiny": (64, {}),
    "nest_tiny": (64, {}),
    "twins_svt_small": (64, {}),
    "twins_pcpvt_small": (64, {}),
    "coat_lite_tiny": (64, {}),
    "coatnet_pico_rw_224": (64, {}),
    "maxvit_pico_rw_256": (128, {}),
    "vitamin_small_224": (64, {}),
    "sequencer2d_s": (64, {"layers": (1, 1, 1, 1)}),
    "vit_small_patch16_dinov3": (64, {"depth": 2}),
    "qwen3_vit_88m_merge": (64, {"depth": 2, "embed_dim": 96, "num_heads": 4}),
    "gemma4_vit_167m": (96, {"depth": 2, "embed_dim": 96, "num_heads": 4}),
}
_FIXED = {
    "visformer_tiny": 224,
    "levit_128s": 224,
    "levit_conv_128s": 224,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 224,
    "gcvit_xxtiny": 224,
    "tiny_vit_5m_224": 224,
    "botnet26t_256": 256,
    "halonet26t": 256,
}

MODELS: dict[str, Factory] = {
    **{f"timm/{name}": _model(name, size) for size, names in _ANY.items() for name in names.split()},
    **{
        f"timm/{name}": _model(name, size, **({} if name == "crossvit_tiny_240" else {"img_size": size}), **settings)
        for name, (size, settings) in _SIZED.items()
    },
    **{f"timm/{name}": _model(name, size) for name, size in _FIXED.items()},
}

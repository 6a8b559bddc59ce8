"""transformers: audio."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import Factory, hugging_face, image, together, tokens
from zoo.encoder_decoders import BART

WAVE: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
}
_WAVE = image(1600, name="input_values")
_SPEECH = together(image(20, 160, name="input_features"), tokens(5, "decoder_input_ids"))
_SEAMLESS: dict[str, Any] = {
    **{key: value for key, value in BART.items() if key not in {"d_model", "max_position_embeddings"}},
    "hidden_size": 48,
    "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 4,
    "speech_encoder_intermediate_size": 96,
    "conv_depthwise_kernel_size": 7,
    "adaptor_kernel_size": 4,
    "adaptor_stride": 4,
}

MODELS: dict[str, Factory] = {
    "wav2vec2": hugging_face("Wav2Vec2Model", _WAVE, **WAVE),
    "wav2vec2_ctc": hugging_face(
        "Wav2Vec2ForCTC", _WAVE, **WAVE, feat_extract_norm="layer", do_stable_layer_norm=True, attention="eager"
    ),
    "wav2vec2_conformer": hugging_face(
        "Wav2Vec2ConformerModel", _WAVE, **WAVE, position_embeddings_type="relative", conv_depthwise_kernel_size=7
    ),
    "wav2vec2_conformer_rotary": hugging_face(
        "Wav2Vec2ConformerModel", _WAVE, **WAVE, position_embeddings_type="rotary", conv_depthwise_kernel_size=7
    ),
    "wav2vec2_bert": hugging_face(
        "Wav2Vec2BertModel",
        image(30, 16, name="input_features"),
        feature_projection_input_dim=16,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        conv_depthwise_kernel_size=7,
    ),
    "hubert": hugging_face("HubertModel", _WAVE, **WAVE),
    "wavlm": hugging_face("WavLMModel", _WAVE, **WAVE),
    "unispeech_sat": hugging_face("UniSpeechSatModel", _WAVE, **WAVE),
    "data2vec_audio": hugging_face("Data2VecAudioModel", _WAVE, **WAVE | {"num_conv_pos_embeddings": 3}),
    "sew": hugging_face("SEWModel", _WAVE, **WAVE, squeeze_factor=2),
    "audio_spectrogram_transformer": hugging_face(
        "ASTModel",
        image(40, 32, name="input_values"),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        patch_size=8,
        frequency_stride=6,
        time_stride=6,
        max_length=40,
        num_mel_bins=32,
    ),
    "clap_audio": hugging_face(
        "ClapAudioModel",
        image(1, 64, 64, name="input_features"),
        only="last_hidden_state pooler_output",
        spec_size=64,
        num_mel_bins=64,
        window_size=4,
        hidden_size=64,
        patch_embeds_hidden_size=16,
        depths=[2, 2],
        num_attention_heads=[2, 4],
    ),
    "whisper_encoder": hugging_face(
        "WhisperForAudioClassification",
        image(16, 40, name="input_features"),
        only="logits",
        **{k: v for k, v in BART.items() if k not in {"max_position_embeddings", "use_cache"}},
        num_mel_bins=16,
        max_source_positions=20,
        max_target_positions=16,
    ),
    "encodec": hugging_face(
        "EncodecModel",
        image(1, 640, name="input_values"),
        only="audio_values",
        num_filters=4,
        hidden_size=16,
        codebook_dim=16,
        codebook_size=16,
        upsampling_ratios=[4, 4],
        target_bandwidths=[8.0],
    ),
    "univnet": hugging_face(
        "UnivNetModel",
        together(image(20, 16, name="input_features"), image(20, 8, name="noise_sequence")),
        model_in_channels=8,
        model_hidden_channels=8,
        num_mel_bins=16,
        kernel_predictor_hidden_channels=8,
        resblock_kernel_sizes=[3, 3],
        resblock_stride_sizes=[4, 4],
        resblock_dilation_sizes=[[1, 3], [1, 3]],
    ),
    "patchtst": hugging_face(
        "PatchTSTForPrediction",
        image(32, 3, name="past_values"),
        only="prediction_outputs",
        num_input_channels=3,
        context_length=32,
        prediction_length=8,
        patch_length=4,
        patch_stride=4,
        d_model=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
    ),
    "vits": hugging_face(
        "VitsModel", tokens(8, vocabulary=30), only="waveform", vocab_size=38, hidden_size=32, ffn_dim=32
    ),
    "moonshine": hugging_face(
        "MoonshineForConditionalGeneration",
        lambda batch: {**_LONG(batch), **tokens(6, "decoder_input_ids", 32)(batch)},
        only="logits",
        vocab_size=64,
        hidden_size=48,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        intermediate_size=96,
        use_cache=False,
        pad_token_id=0,
    ),
    "unispeech": hugging_face("UniSpeechModel", _WAVE, **WAVE),
    "sew_d": hugging_face(
        "SEWDModel", _WAVE, **WAVE, squeeze_factor=2, position_buckets=16, max_position_embeddings=64
    ),
    "wavlm_xvector": hugging_face(
        "WavLMForXVector", _WAVE, **WAVE, tdnn_dim=[16] * 5, xvector_output_dim=16, classifier_proj_size=16
    ),
    "parakeet_ctc": hugging_face(
        "ParakeetForCTC",
        image(64, 16, name="input_features"),
        only="logits",
        vocab_size=32,
        encoder_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "num_mel_bins": 16,
            "subsampling_conv_channels": 8,
            "conv_kernel_size": 5,
        },
    ),
    "seamless_m4t": hugging_face("SeamlessM4TForSpeechToText", _SPEECH, only="logits", **_SEAMLESS),
    "seamless_m4t_v2": hugging_face("SeamlessM4Tv2ForSpeechToText", _SPEECH, only="logits", **_SEAMLESS),
    "speecht5_hifigan": hugging_face(
        "SpeechT5HifiGan",
        image(12, 16, name="spectrogram"),
        model_in_dim=16,
        upsample_initial_channel=32,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3], [1, 3]],
    ),
    "dac": hugging_face(
        "DacModel",
        image(1, 640, name="input_values"),
        only="audio_values",
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4],
        upsampling_ratios=[4, 2],
        decoder_hidden_size=32,
        codebook_size=16,
        codebook_dim=4,
        n_codebooks=2,
    ),
    "qwen2_audio_encoder": hugging_face(
        "Qwen2AudioEncoder",
        image(16, 128, name="input_features"),
        d_model=48,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=96,
        num_mel_bins=16,
        max_source_positions=64,
    ),
    "lasr_encoder": hugging_face(
        "LasrEncoder",
        image(64, 16, name="input_features"),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=96,
        num_mel_bins=16,
        max_position_embeddings=64,
    ),
    "timesfm": hugging_face(
        "TimesFmModel",
        lambda batch: {
            "past_values": torch.randn(batch, 64),
            "past_values_padding": torch.zeros(batch, 64),
            "freq": torch.zeros(batch, 1, dtype=torch.int64),
        },
        context_length=64,
        horizon_length=16,
        patch_length=16,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=12,
    ),
    "patchtsmixer": hugging_face(
        "PatchTSMixerForPrediction",
        image(32, 3, name="past_values"),
        only="prediction_outputs",
        num_input_channels=3,
        context_length=32,
        prediction_length=8,
        patch_length=4,
        patch_stride=4,
        d_model=16,
        num_layers=2,
        mode="mix_channel",
        self_attn=True,
        self_attn_heads=2,
    ),
}
_LONG = image(3200, name="input_values")

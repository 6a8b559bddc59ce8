"""transformers: encoder-decoders, one step of teacher forcing without a cache."""

from __future__ import annotations

from typing import Any

from zoo.building import VOCABULARY, Factory, hugging_face, image, masked, together, tokens

BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
    "use_cache": False,
    "pad_token_id": 0,
}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 96,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "use_cache": False,
    "decoder_start_token_id": 0,
}
_BOTH = together(masked(16), tokens(9, "decoder_input_ids"))


def _text(name: str, **settings: Any) -> Factory:
    return hugging_face(f"{name}ForConditionalGeneration", _BOTH, only="logits", **settings)


MODELS: dict[str, Factory] = {
    "t5": _text("T5", **T5),
    "t5_gated": _text("T5", **T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5_encoder": hugging_face("T5EncoderModel", masked(16), **T5),
    "umt5": _text("UMT5", **T5),
    "longt5": _text("LongT5", **T5, local_radius=4, encoder_attention_type="local"),
    "switch_transformers": _text(
        "SwitchTransformers", **T5, num_experts=4, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1
    ),
    "bart": _text("Bart", **BART),
    "bart_eager": _text("Bart", **BART, attention="eager"),
    "mbart": _text("MBart", **BART),
    "pegasus": _text("Pegasus", **BART),
    "marian": hugging_face("MarianMTModel", _BOTH, only="logits", **BART, decoder_start_token_id=0),
    "blenderbot_small": _text("BlenderbotSmall", **BART),
    "m2m_100": _text("M2M100", **BART),
    "led": _text(
        "LED",
        **{k: v for k, v in BART.items() if k != "max_position_embeddings"},
        attention_window=[8, 8],
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
    ),
    "prophetnet": _text(
        "ProphetNet",
        vocab_size=VOCABULARY,
        hidden_size=48,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_encoder_attention_heads=4,
        num_decoder_attention_heads=4,
        max_position_embeddings=64,
        use_cache=False,
    ),
    "pegasus_x": _text("PegasusX", **BART, num_global_tokens=4, block_size=8),
    "whisper": hugging_face(
        "WhisperForConditionalGeneration",
        together(image(16, 40, name="input_features"), tokens(7, "decoder_input_ids")),
        only="logits",
        **{k: v for k, v in BART.items() if k != "max_position_embeddings"},
        num_mel_bins=16,
        max_source_positions=20,
        max_target_positions=16,
    ),
    "speech_to_text": hugging_face(
        "Speech2TextForConditionalGeneration",
        together(image(40, 16, name="input_features"), tokens(7, "decoder_input_ids")),
        only="logits",
        **{k: v for k, v in BART.items() if k != "max_position_embeddings"},
        input_feat_per_channel=16,
        conv_channels=32,
        max_source_positions=40,
        max_target_positions=16,
    ),
}

"""Stock sequence models of transformers, two layers each, with their inputs; and dots.ocr's vision tower."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

import anec

Inputs = dict[str, torch.Tensor]
LAYERS, HEADS, LENGTH = 2, 4, 32
TEXT: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 128,
}
CAUSAL = TEXT | {"num_key_value_heads": 2, "use_cache": False, "pad_token_id": 0}


class Only(torch.nn.Module):
    """A model that returns one of its outputs."""

    def __init__(self, model: torch.nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model(**inputs)[self.output]
        return found


def stock(model: str, config: Any, inputs: Inputs, output: str = "last_hidden_state") -> anec.Source:
    import transformers

    return anec.Source(Only(getattr(transformers, model)(config), output), kwargs=inputs)


def tokens(*, padded: bool = True, name: str = "input_ids") -> Inputs:
    found = {name: torch.randint(3, 200, (1, LENGTH))}
    if padded:
        mask = torch.ones(1, LENGTH, dtype=torch.int64)
        mask[0, 20:] = 0
        found["attention_mask"] = mask
    return found


def distilbert() -> anec.Source:
    from transformers import DistilBertConfig

    config = DistilBertConfig(vocab_size=200, dim=64, n_layers=LAYERS, n_heads=HEADS, hidden_dim=128)
    return stock("DistilBertForSequenceClassification", config, tokens(), "logits")


def bert() -> anec.Source:
    from transformers import BertConfig

    return stock("BertForSequenceClassification", BertConfig(**TEXT), tokens(), "logits")


def roberta() -> anec.Source:
    from transformers import RobertaConfig

    return stock("RobertaModel", RobertaConfig(**TEXT, pad_token_id=1), tokens())


def gpt2(*, padded: bool = False) -> anec.Source:
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=200, n_embd=64, n_layer=LAYERS, n_head=HEADS, n_positions=64, use_cache=False)
    return stock("GPT2LMHeadModel", config, tokens(padded=padded), "logits")


def gpt2_padded() -> anec.Source:
    return gpt2(padded=True)


def llama() -> anec.Source:
    from transformers import LlamaConfig

    return stock("LlamaForCausalLM", LlamaConfig(**CAUSAL), tokens(padded=False), "logits")


def qwen2() -> anec.Source:
    from transformers import Qwen2Config

    return stock("Qwen2ForCausalLM", Qwen2Config(**CAUSAL), tokens(), "logits")


def t5_encoder() -> anec.Source:
    from transformers import T5Config

    config = T5Config(vocab_size=200, d_model=64, d_kv=16, d_ff=128, num_layers=LAYERS, num_heads=HEADS)
    return stock("T5EncoderModel", config, tokens())


def whisper_encoder() -> anec.Source:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=64,
        encoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        encoder_ffn_dim=128,
        num_mel_bins=16,
        max_source_positions=LENGTH,
    )
    features = {"input_features": torch.randn(1, 16, 2 * LENGTH)}
    return anec.Source(Only(WhisperEncoder(config), "last_hidden_state"), kwargs=features)


def wav2vec2(**variant: Any) -> anec.Source:
    from transformers import Wav2Vec2Config

    config = Wav2Vec2Config(
        **TEXT | {"vocab_size": 40},
        conv_dim=(32, 32, 32),
        conv_kernel=(10, 3, 3),
        conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_feat_extract_layers=3,
        **variant,
    )
    return stock("Wav2Vec2ForCTC", config, {"input_values": torch.randn(1, 700)}, "logits")


def wav2vec2_stable() -> anec.Source:
    return wav2vec2(feat_extract_norm="layer", do_stable_layer_norm=True)


def trocr() -> anec.Source:
    from transformers import TrOCRConfig, VisionEncoderDecoderConfig, ViTConfig

    encoder = ViTConfig(**{k: v for k, v in TEXT.items() if k != "vocab_size"}, image_size=32, patch_size=8)
    decoder = TrOCRConfig(
        vocab_size=200,
        d_model=64,
        decoder_layers=LAYERS,
        decoder_attention_heads=HEADS,
        decoder_ffn_dim=128,
        use_cache=False,
        cross_attention_hidden_size=64,
    )
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32), **tokens(padded=False, name="decoder_input_ids")}
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return stock("VisionEncoderDecoderModel", config, inputs, "logits")


def clip_text() -> anec.Source:
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(**TEXT, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, projection_dim=48)
    return stock("CLIPTextModelWithProjection", config, tokens(), "text_embeds")


def dots_ocr_vision() -> anec.Source:
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "dots_ocr"))
    import dots_vision

    tiny = dots_vision.tiny()
    return anec.Source(tiny.model, (tiny.args[0], torch.tensor(grid := [[1, 8, 8]])), bind={"grid_thw": grid})

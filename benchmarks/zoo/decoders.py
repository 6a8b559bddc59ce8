"""transformers: decoders, without a cache."""

from __future__ import annotations

from typing import Any

from zoo.building import VOCABULARY, Factory, hugging_face, masked, tokens
from zoo.encoders import BERT

LLAMA: dict[str, Any] = BERT | {"num_key_value_heads": 2, "use_cache": False, "pad_token_id": 0}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "use_cache": False,
}


def _causal(name: str, **settings: Any) -> Factory:
    return hugging_face(f"{name}ForCausalLM", masked(15), only="logits", **settings)


EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SCANNED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "use_cache": False,
    "pad_token_id": 0,
}

MODELS: dict[str, Factory] = {
    "gpt2": hugging_face("GPT2LMHeadModel", masked(15), only="logits", **GPT2),
    "gpt2_eager": hugging_face("GPT2LMHeadModel", masked(15), only="logits", attention="eager", **GPT2),
    "gpt_neo": _causal(
        "GPTNeo",
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
        max_position_embeddings=32,
        use_cache=False,
    ),
    "gpt_neox": _causal("GPTNeoX", **BERT, use_cache=False),
    "gptj": _causal("GPTJ", **GPT2, rotary_dim=8),
    "gpt_bigcode": _causal("GPTBigCode", **GPT2),
    "codegen": _causal("CodeGen", **GPT2, rotary_dim=8),
    "openai_gpt": hugging_face(
        "OpenAIGPTLMHeadModel", masked(15), vocab_size=VOCABULARY, n_embd=48, n_layer=2, n_head=4, n_positions=32
    ),
    "opt": _causal(
        "OPT",
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=96,
        max_position_embeddings=32,
        word_embed_proj_dim=48,
        use_cache=False,
    ),
    "bloom": _causal("Bloom", vocab_size=VOCABULARY, hidden_size=48, n_layer=2, n_head=4, use_cache=False),
    "mpt": _causal("Mpt", vocab_size=VOCABULARY, d_model=48, n_layers=2, n_heads=4, max_seq_len=32, use_cache=False),
    "falcon": _causal("Falcon", **{k: v for k, v in BERT.items() if k != "intermediate_size"}, use_cache=False),
    "llama": _causal("Llama", **LLAMA),
    "llama_eager": _causal("Llama", **LLAMA, attention="eager"),
    "mistral": _causal("Mistral", **LLAMA, sliding_window=6),
    "mixtral": _causal("Mixtral", **LLAMA, **EXPERTS),
    "qwen2": _causal("Qwen2", **LLAMA),
    "qwen3": _causal("Qwen3", **LLAMA, head_dim=16),
    "qwen2_moe": _causal(
        "Qwen2Moe",
        **LLAMA,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=48,
    ),
    "gemma": _causal("Gemma", **LLAMA, head_dim=16),
    "gemma2": _causal("Gemma2", **LLAMA, head_dim=16, sliding_window=6),
    "gemma3": _causal("Gemma3", config="Gemma3TextConfig", **LLAMA, head_dim=16, sliding_window=6),
    "phi": _causal("Phi", **LLAMA),
    "phi3": _causal("Phi3", **LLAMA),
    "stablelm": _causal("StableLm", **LLAMA, partial_rotary_factor=0.5),
    "starcoder2": _causal("Starcoder2", **LLAMA),
    "olmo": _causal("Olmo", **LLAMA),
    "olmo2": _causal("Olmo2", **LLAMA),
    "cohere": _causal("Cohere", **LLAMA),
    "granite": _causal("Granite", **LLAMA),
    "glm": _causal("Glm", **LLAMA, head_dim=16),
    "smollm3": _causal("SmolLM3", **LLAMA),
    "persimmon": _causal("Persimmon", **BERT, use_cache=False),
    "nemotron": _causal("Nemotron", **LLAMA, head_dim=16),
    "helium": _causal("Helium", **LLAMA, head_dim=12),
    "deepseek_v3": _causal(
        "DeepseekV3",
        **LLAMA | {"num_key_value_heads": 4},
        q_lora_rank=24,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
    ),
    "gpt_oss": _causal("GptOss", **LLAMA, **EXPERTS, head_dim=16, sliding_window=6),
    "biogpt": _causal("BioGpt", **BERT, use_cache=False),
    "xglm": _causal(
        "XGLM",
        vocab_size=VOCABULARY,
        d_model=48,
        ffn_dim=96,
        num_layers=2,
        attention_heads=4,
        max_position_embeddings=32,
        use_cache=False,
    ),
    "mamba": hugging_face(
        "MambaForCausalLM",
        tokens(12),
        only="logits",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        use_cache=False,
    ),
    "lfm2": _causal("Lfm2", **LLAMA, layer_types=["conv", "full_attention"]),
    "apertus": _causal("Apertus", **LLAMA),
    "bitnet": _causal("BitNet", **LLAMA),
    "diffllama": _causal("DiffLlama", **LLAMA),
    "doge": _causal("Doge", **LLAMA),
    "ernie4_5": _causal("Ernie4_5", **LLAMA, head_dim=16),
    "exaone4": _causal("Exaone4", **LLAMA, sliding_window=6, layer_types=["sliding_attention", "full_attention"]),
    "glm4": _causal("Glm4", **LLAMA, head_dim=16),
    "hunyuan": _causal("HunYuanDenseV1", **LLAMA, head_dim=16),
    "nanochat": _causal("NanoChat", **LLAMA),
    "olmo3": _causal("Olmo3", **LLAMA, sliding_window=6, layer_types=["sliding_attention", "full_attention"]),
    "modernbert_decoder": _causal("ModernBertDecoder", **BERT, pad_token_id=0, local_attention=6, use_cache=False),
    "ernie4_5_moe": _causal(
        "Ernie4_5_Moe",
        **LLAMA,
        moe_num_experts=4,
        moe_k=2,
        moe_intermediate_size=32,
        moe_num_shared_experts=1,
        moe_layer_start_index=1,
    ),
    "granitemoe": _causal("GraniteMoe", **LLAMA, **EXPERTS),
    "llama4": _causal(
        "Llama4",
        config="Llama4TextConfig",
        **LLAMA,
        **EXPERTS | {"num_experts_per_tok": 1},
        head_dim=16,
        intermediate_size_mlp=96,
        attention_chunk_size=6,
        moe_layers=[1],
    ),
    "minimax": _causal(
        "MiniMax", **LLAMA, **EXPERTS, head_dim=16, block_size=8, layer_types=["linear_attention", "full_attention"]
    ),
    "olmoe": _causal("Olmoe", **LLAMA, num_experts=4, num_experts_per_tok=2),
    "phimoe": _causal("Phimoe", **LLAMA, **EXPERTS),
    "qwen3_moe": _causal(
        "Qwen3Moe", **LLAMA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16
    ),
    "mamba2": _causal(
        "Mamba2",
        **_SCANNED,
        num_heads=8,
        head_dim=8,
        n_groups=2,
        chunk_size=8,
    ),
    "falcon_mamba": _causal("FalconMamba", **_SCANNED),
    "bamba": _causal(
        "Bamba", **LLAMA, mamba_n_heads=12, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=8, attn_layer_indices=[1]
    ),
    "jamba": _causal(
        "Jamba",
        **LLAMA,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        use_mamba_kernels=False,
    ),
    "recurrent_gemma": _causal(
        "RecurrentGemma", **LLAMA | {"num_hidden_layers": 3}, lru_width=48, attention_window_size=6
    ),
    "ctrl": hugging_face(
        "CTRLLMHeadModel",
        masked(15),
        only="logits",
        vocab_size=VOCABULARY,
        n_embd=48,
        n_layer=2,
        n_head=4,
        dff=96,
        n_positions=32,
        use_cache=False,
    ),
    "qwen2_classifier": hugging_face("Qwen2ForTokenClassification", masked(15), only="logits", **LLAMA),
}

"""transformers: text encoders."""

from __future__ import annotations

from typing import Any

import torch

from zoo.building import VOCABULARY, Factory, Inputs, hugging_face, masked, together, tokens

BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}


def _boxes(length: int) -> Inputs:
    """Boxes of words on a page: left < right, top < bottom."""

    def make(batch: int) -> dict[str, Any]:
        corner, size = torch.randint(0, 500, (batch, length, 2)), torch.randint(1, 500, (batch, length, 2))
        return {"bbox": torch.cat([corner, corner + size], -1)}

    return make


def _paths(length: int) -> Inputs:
    """Where in a document tree each token stands: tags and their numbers, 50 deep."""

    def make(batch: int) -> dict[str, Any]:
        places = (batch, length, 50)
        return {"xpath_tags_seq": torch.randint(0, 200, places), "xpath_subs_seq": torch.randint(0, 900, places)}

    return make


def _cells(length: int) -> Inputs:
    """Which segment, column, row and rank of a table each token belongs to."""
    return lambda batch: {"token_type_ids": torch.randint(0, 2, (batch, length, 7))}


MODELS: dict[str, Factory] = {
    "bert": hugging_face("BertModel", masked(17), **BERT),
    "bert_eager": hugging_face("BertModel", masked(17), attention="eager", **BERT),
    "bert_masked_lm": hugging_face("BertForMaskedLM", masked(17), **BERT | {"hidden_act": "gelu_new"}),
    "roberta": hugging_face("RobertaModel", masked(16), **BERT, pad_token_id=1),
    "roberta_prelayernorm": hugging_face("RobertaPreLayerNormModel", masked(16), **BERT),
    "xlm_roberta": hugging_face("XLMRobertaForTokenClassification", masked(16), **BERT, pad_token_id=1),
    "distilbert": hugging_face(
        "DistilBertModel", masked(16), vocab_size=VOCABULARY, dim=48, n_layers=2, n_heads=4, hidden_dim=96
    ),
    "electra": hugging_face("ElectraModel", masked(16), **BERT, embedding_size=32),
    "albert": hugging_face("AlbertModel", masked(16), **BERT, embedding_size=32),
    "deberta": hugging_face(
        "DebertaModel",
        masked(16),
        **BERT,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        max_relative_positions=8,
    ),
    "deberta_v2": hugging_face(
        "DebertaV2Model",
        masked(16),
        **BERT,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        conv_kernel_size=3,
        conv_act="gelu",
    ),
    "mpnet": hugging_face("MPNetModel", masked(16), **BERT),
    "squeezebert": hugging_face("SqueezeBertModel", masked(16), **BERT, embedding_size=48),
    "convbert": hugging_face("ConvBertModel", masked(16), **BERT, embedding_size=32, conv_kernel_size=5),
    "funnel": hugging_face(
        "FunnelModel",
        masked(16),
        vocab_size=VOCABULARY,
        block_sizes=[1, 1],
        num_decoder_layers=1,
        d_model=48,
        n_head=4,
        d_head=12,
        d_inner=96,
    ),
    "fnet": hugging_face("FNetModel", tokens(16), **{k: v for k, v in BERT.items() if k != "num_attention_heads"}),
    "longformer": hugging_face("LongformerModel", masked(16), **BERT, attention_window=[8, 8]),
    "big_bird": hugging_face("BigBirdModel", masked(16), **BERT, attention_type="original_full"),
    "modernbert": hugging_face(
        "ModernBertModel", masked(16), **BERT, local_attention=8, global_attn_every_n_layers=2, pad_token_id=0
    ),
    "mobilebert": hugging_face(
        "MobileBertModel", masked(16), **BERT, embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32
    ),
    "roformer": hugging_face("RoFormerModel", masked(16), **BERT),
    "rembert": hugging_face("RemBertModel", masked(16), **BERT, input_embedding_size=32, output_embedding_size=64),
    "canine": hugging_face("CanineModel", masked(32), **{k: v for k, v in BERT.items() if k != "vocab_size"}),
    "ibert": hugging_face("IBertModel", masked(16), **BERT),
    "esm": hugging_face("EsmModel", masked(16), **BERT, pad_token_id=1, position_embedding_type="rotary"),
    "ernie": hugging_face("ErnieModel", masked(16), **BERT),
    "megatron_bert": hugging_face("MegatronBertModel", masked(16), **BERT),
    "yoso": hugging_face("YosoModel", masked(16), **BERT, use_expectation=True),
    "nomic_bert": hugging_face("NomicBertModel", masked(16), **BERT),
    "xlnet": hugging_face(
        "XLNetModel",
        masked(16),
        vocab_size=VOCABULARY,
        d_model=48,
        n_layer=2,
        n_head=4,
        d_inner=96,
        use_mems_eval=False,
    ),
    "xlm": hugging_face("XLMModel", masked(16), vocab_size=VOCABULARY, emb_dim=48, n_layers=2, n_heads=4),
    "layoutlm": hugging_face("LayoutLMModel", together(masked(16), _boxes(16)), **BERT),
    "lilt": hugging_face("LiltModel", together(masked(16), _boxes(16)), **BERT, channel_shrink_ratio=2),
    "perceiver": hugging_face(
        "PerceiverForMaskedLM",
        masked(16),
        vocab_size=VOCABULARY,
        d_model=32,
        d_latents=48,
        num_latents=8,
        num_self_attends_per_block=2,
        num_self_attention_heads=4,
        num_cross_attention_heads=4,
        max_position_embeddings=16,
        qk_channels=32,
        v_channels=48,
    ),
    "luke": hugging_face("LukeModel", masked(16), **BERT, entity_vocab_size=20, entity_emb_size=16),
    "bert_generation": hugging_face("BertGenerationEncoder", masked(16), **BERT),
    "data2vec_text": hugging_face("Data2VecTextModel", masked(16), **BERT, pad_token_id=1),
    "dpr": hugging_face("DPRContextEncoder", masked(16), **BERT),
    "eurobert": hugging_face("EuroBertModel", masked(16), **BERT, num_key_value_heads=2, pad_token_id=0),
    "flaubert": hugging_face(
        "FlaubertModel",
        masked(16),
        vocab_size=VOCABULARY,
        emb_dim=48,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=64,
        use_cache=False,
    ),
    "gte": hugging_face("GteModel", masked(16), **BERT),
    "markuplm": hugging_face("MarkupLMModel", together(masked(12), _paths(12)), **BERT),
    "roc_bert": hugging_face(
        "RoCBertModel", masked(16), **BERT, shape_vocab_size=VOCABULARY, pronunciation_vocab_size=VOCABULARY
    ),
    "splinter": hugging_face("SplinterModel", masked(16), **BERT),
    "tapas": hugging_face("TapasModel", together(masked(12), _cells(12)), **BERT),
    "big_bird_sparse": hugging_face(
        "BigBirdModel", masked(64), **BERT, attention_type="block_sparse", block_size=4, num_random_blocks=2
    ),
    "xmod": hugging_face(
        "XmodModel", masked(16), **BERT, pad_token_id=1, languages=["en_XX", "de_DE"], default_language="en_XX"
    ),
    "lxmert": hugging_face(
        "LxmertModel",
        together(
            masked(12), lambda batch: {"visual_feats": torch.randn(batch, 5, 32), "visual_pos": torch.rand(batch, 5, 4)}
        ),
        only="language_output vision_output pooled_output",
        **BERT,
        l_layers=1,
        x_layers=1,
        r_layers=1,
        visual_feat_dim=32,
    ),
}

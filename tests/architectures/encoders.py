"""Encoders that transformers lists among its causal models."""

from __future__ import annotations

from tests.architectures.case import Case

_DECODER = {"is_decoder": True}

CASES: dict[str, Case] = {
    "bert": Case(_DECODER),
    "bert-generation": Case(_DECODER),
    "big_bird": Case({**_DECODER, "attention_type": "original_full"}),
    "camembert": Case(_DECODER),
    "data2vec-text": Case(_DECODER),
    "electra": Case({**_DECODER, "embedding_size": 16}),
    "ernie": Case(_DECODER),
    "megatron-bert": Case(_DECODER),
    "reformer": Case(
        {
            **_DECODER,
            "attention_head_size": 8,
            "attn_layers": ["local", "lsh"],
            "axial_pos_shape": [8, 8],
            "axial_pos_embds_dim": [16, 16],
            "local_attn_chunk_length": 8,
            "lsh_attn_chunk_length": 8,
            "num_buckets": 2,
            "hash_seed": 0,
        }
    ),
    "rembert": Case({**_DECODER, "input_embedding_size": 16, "output_embedding_size": 24}),
    "roberta": Case(_DECODER),
    "roberta-prelayernorm": Case(_DECODER),
    "roc_bert": Case(
        {
            **_DECODER,
            "pronunciation_embed_dim": 8,
            "pronunciation_vocab_size": 16,
            "shape_embed_dim": 8,
            "shape_vocab_size": 16,
        }
    ),
    "roformer": Case(_DECODER),
    "xlm": Case({"causal": True, "n_layers": 2, "n_heads": 4, "emb_dim": 32}),
    "xlm-roberta": Case(_DECODER),
    "xlm-roberta-xl": Case(_DECODER),
    "xlnet": Case({"max_position_embeddings": None, "d_head": 8}),
    "xmod": Case({**_DECODER, "default_language": "en_XX"}),
}

"""Encoders that transformers lists among its causal models."""

from __future__ import annotations

from tests.architectures.case import Case

_DECODER = {"is_decoder": True}

CASES: dict[str, Case] = {
    "bert": Case(_DECODER, covers="with `is_decoder`: learned positions"),
    "bert-generation": Case(_DECODER, covers="with `is_decoder`"),
    "big_bird": Case(
        {**_DECODER, "attention_type": "original_full"},
        covers="with `is_decoder` and full attention",
    ),
    "camembert": Case(
        _DECODER, covers="with `is_decoder`: positions count tokens that are no padding"
    ),
    "data2vec-text": Case(
        _DECODER, covers="with `is_decoder`: positions count tokens that are no padding"
    ),
    "electra": Case(
        {**_DECODER, "embedding_size": 16}, covers="with `is_decoder`: projected embeddings"
    ),
    "ernie": Case(_DECODER, covers="with `is_decoder`"),
    "megatron-bert": Case(_DECODER, covers="with `is_decoder`: norms before branches"),
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
        },
        outcome="torch cannot export it",
        says="Could not guard on data-dependent expression",
        because="tokens are sorted by hashes and padded to chunks by branches on their number;"
        " nothing short of another attention would help",
    ),
    "rembert": Case(
        {**_DECODER, "input_embedding_size": 16, "output_embedding_size": 24},
        covers="with `is_decoder`: embeddings of two widths",
    ),
    "roberta": Case(
        _DECODER, covers="with `is_decoder`: positions count tokens that are no padding"
    ),
    "roberta-prelayernorm": Case(_DECODER, covers="with `is_decoder`: norms before branches"),
    "roc_bert": Case(
        {
            **_DECODER,
            "pronunciation_embed_dim": 8,
            "pronunciation_vocab_size": 16,
            "shape_embed_dim": 8,
            "shape_vocab_size": 16,
        },
        covers="with `is_decoder`: embeddings of shape and pronunciation beside those of tokens",
    ),
    "roformer": Case(_DECODER, covers="with `is_decoder`: interleaved rotary"),
    "xlm": Case(
        {"causal": True, "n_layers": 2, "n_heads": 4, "emb_dim": 32},
        outcome="refused",
        says="sum runs along the token axis",
        because="every token is multiplied by whether its position is below the number of tokens"
        " that are no padding in the whole sequence: what comes later changes what was",
    ),
    "xlm-roberta": Case(
        _DECODER, covers="with `is_decoder`: positions count tokens that are no padding"
    ),
    "xlm-roberta-xl": Case(_DECODER, covers="with `is_decoder`: norms before branches"),
    "xlnet": Case(
        {"max_position_embeddings": None, "d_head": 8},
        outcome="torch cannot export it",
        says="Not all values of S",
        because="relative scores are shifted by reading them in another shape, which torch exports"
        " for 2 tokens and more only; and every token sees every other",
    ),
    "xmod": Case(
        {**_DECODER, "default_language": "en_XX"},
        outcome="refused",
        says="data decides its size",
        because="the tokens of each language are picked by a mask for the adapter of that language:"
        " how many there are depends on data",
    ),
}

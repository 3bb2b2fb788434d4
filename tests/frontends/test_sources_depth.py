"""Depth plans: which layers stand for all of them, and that the exported periods agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from hetc.frontends.sources import (
    Depth,
    export_program,
    layer_modules,
    periods_agree,
    plan_depth,
)
from hetc.frontends.sources.depth import truncated
from tests.frontends.sources_models import tiny_config

PLANS: list[tuple[Any, Depth | None]] = [
    (tiny_config("llama", 32), Depth(2, 1, 32)),
    (tiny_config("llama", 2), None),
    (tiny_config("gpt2", 12), Depth(2, 1, 12, "transformer.h")),
    # Sliding and full attention alternate, or five to one.
    (tiny_config("gemma2", 26), Depth(4, 2, 26)),
    (tiny_config("gemma3_text", 24), Depth(12, 6, 24)),
    # 26 is no multiple of 6: two layers stay in front, and the period is rotated.
    (tiny_config("gemma3_text", 26), Depth(14, 6, 26)),
    (tiny_config("deepseek_v3", 12, first_k_dense_replace=3), Depth(5, 1, 12)),
    (tiny_config("gpt_oss", 24), Depth(4, 2, 24)),
    # The attention scale depends on the layer: all must be exported.
    (tiny_config("gpt2", 12, scale_attn_by_inverse_layer_idx=True), None),
]


@pytest.mark.parametrize(("config", "expected"), PLANS, ids=lambda value: str(value)[:12])
def test_plan(config: Any, expected: Depth | None) -> None:
    assert plan_depth(config) == expected


def test_prefix_is_what_comes_before_both_periods() -> None:
    assert Depth(export_layers=5, period=1, total=12).prefix == 3


@pytest.mark.parametrize("family", ["llama", "mixtral", "gemma2", "falcon"])
def test_exported_periods_agree(family: str) -> None:
    config = tiny_config(family, 12)
    depth = plan_depth(config)
    assert depth is not None
    program = export_program(config, layers=depth.export_layers)
    assert periods_agree(program, depth)


def test_periods_that_differ_are_seen() -> None:
    # Layers 0 and 1 of gemma2 are of different kinds, so a period of one is wrong.
    program = export_program(tiny_config("gemma2", 2))
    assert not periods_agree(program, Depth(2, 1, 12))
    # Here only a constant differs: the scale of the attention.
    config = tiny_config("gpt2", 2, scale_attn_by_inverse_layer_idx=True)
    assert not periods_agree(export_program(config), Depth(2, 1, 12, "transformer.h"))


def test_swapped_operands_are_seen() -> None:
    program = export_program(tiny_config("llama", 2))
    depth = Depth(2, 1, 12)
    assert periods_agree(program, depth)
    # The same ops and the same values, but one takes its operands the other way round.
    adds = [node for node in program.graph.nodes if node.target is torch.ops.aten.add.Tensor]
    residual = [node for node in adds if "layers.1" in str(node.meta.get("nn_module_stack"))][-1]
    residual.args = (residual.args[1], residual.args[0])
    assert not periods_agree(program, depth)


def test_truncation_cuts_lists_of_layers() -> None:
    config = tiny_config("gemma3_text", 12)
    short = truncated(config, 8)
    assert short.num_hidden_layers == 8
    assert short.layer_types == config.layer_types[:8]
    assert config.num_hidden_layers == 12


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (tiny_config("llama"), "model.layers"),
        (tiny_config("gpt2"), "transformer.h"),
        # As many experts as layers: the layers are the shallower list.
        (tiny_config("mixtral", 4), "model.layers"),
        (tiny_config("bert", architectures=["BertModel"]), "encoder.layer"),
        (
            transformers.OPTConfig(
                num_hidden_layers=2,
                hidden_size=32,
                ffn_dim=48,
                num_attention_heads=4,
                word_embed_proj_dim=32,
                vocab_size=96,
            ),
            "model.decoder.layers",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_layer_modules(config: Any, path: str) -> None:
    assert layer_modules(config) == path

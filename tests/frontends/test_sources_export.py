"""Exported programs: with real weights they compute what the model computes, at any B and S."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hetc.errors import InputError
from hetc.frontends.sources import export_program, max_positions, open_hf_directory
from hetc.frontends.torch_export import import_exported
from tests.frontends.sources_models import run_program, save, tiny_config, tiny_model

# Rotary buffers, learned positions, scaled embeddings, softcaps, experts, sinks, lifted constants.
FAMILIES = ["llama", "gpt2", "gemma2", "gemma3_text", "mixtral", "gpt_oss", "falcon"]


@pytest.mark.parametrize("family", FAMILIES)
def test_program_equals_the_model(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family))
    save(model, tmp_path)
    source = open_hf_directory(tmp_path)
    program = export_program(source.config)
    for batch, length in ((1, 1), (3, 17)):
        tokens = torch.randint(3, 96, (batch, length))
        with torch.no_grad():
            expected = model(tokens, use_cache=False).logits.numpy()
        found = run_program(program, source.weights, tokens)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_names_dims_and_range() -> None:
    config = tiny_config("llama")
    program = export_program(config)
    assert set(program.graph_signature.parameters) >= {"model.embed_tokens.weight"}
    (name,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == name)
    batch, length = node.meta["val"].shape
    assert (str(batch), str(length)) != (str(length), str(batch))
    limits = program.range_constraints
    assert (limits[batch.node.expr].lower, limits[length.node.expr].lower) == (1, 1)
    assert limits[length.node.expr].upper == max_positions(config) == 64
    assert len(program.graph_signature.user_outputs) == 1


def test_attention_is_fused_only_where_that_changes_nothing() -> None:
    assert "scaled_dot_product_attention" in str(export_program(tiny_config("llama")).graph)
    # sdpa has no softcap.
    assert "scaled_dot_product_attention" not in str(export_program(tiny_config("gemma2")).graph)


def test_experts_are_gathered_for_each_token() -> None:
    targets = _targets(export_program(tiny_config("mixtral", 1)))
    assert "aten.bmm.default" in targets
    assert not any("grouped_mm" in target for target in targets)


def test_no_op_writes_in_place() -> None:
    # DeepSeek's attention fills a new tensor by slices.
    program = export_program(tiny_config("deepseek_v3", 1))
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable, node.target


def test_the_longest_sequence_may_be_one_less() -> None:
    config = transformers.MptConfig(
        d_model=32, n_heads=4, n_layers=1, max_seq_len=64, vocab_size=96
    )
    assert import_exported(export_program(config)).max_sequence == 63


def test_an_encoder_exports_its_head() -> None:
    config = tiny_config("bert", architectures=["BertForMaskedLM"])
    program = export_program(config)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    assert output.args[0][0].meta["val"].shape[-1] == config.vocab_size


def test_a_sequence_that_is_cut_by_its_length_is_refused() -> None:
    config: Any = transformers.ProphetNetConfig(
        hidden_size=16,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_decoder_attention_heads=2,
        decoder_ffn_dim=16,
        vocab_size=32,
        max_position_embeddings=32,
    )
    with pytest.raises(InputError) as caught:
        export_program(config)
    assert caught.value.code == "HETC-I069"
    assert "prophetnet" in caught.value.at
    # What torch said of the first export, not of those that were tried after it.
    assert str(caught.value.found).startswith("Not all values of S")


def _targets(program: torch.export.ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}

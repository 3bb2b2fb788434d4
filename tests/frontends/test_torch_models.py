"""Tiny models of many families through torch.export: the graph computes what they do."""

from __future__ import annotations

import pytest

from hetc.frontends.torch_export import import_exported
from hetc.ir.dims import symbol
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.sequence import Conv1dCausal
from tests.frontends.torch_models import assert_same, export, tiny

EAGER_ONLY = ("gemma2", "bloom", "gpt_oss")
BOTH = ("llama", "gpt2", "falcon", "mixtral", "deepseek_v3", "gemma3_text")
SDPA = (
    "mistral",
    "qwen2",
    "qwen3",
    "phi3",
    "gpt_neox",
    "opt",
    "qwen3_moe",
    "deepseek_v2",
    "llama4_text",
    "lfm2",
    "bert",
)
CASES = [
    *((family, "eager") for family in (*EAGER_ONLY, *BOTH)),
    *((family, "sdpa") for family in (*BOTH, *SDPA)),
]


@pytest.mark.parametrize(("family", "attention"), CASES, ids=["-".join(case) for case in CASES])
def test_the_graph_computes_what_the_model_does(family: str, attention: str) -> None:
    module = tiny(family, attention)
    imported = import_exported(export(module), name=family)
    graph = imported.graph
    assert [str(value.type) for value in graph.inputs] == ["i64[B,S]"]
    assert graph.outputs[0].shape == (symbol("B"), symbol("S"), 128)
    assert imported.opaque == ()
    assert imported.max_sequence == 200
    assert any(isinstance(op, Attention) for op in graph.ops) == (attention == "sdpa")
    assert any(isinstance(op, Conv1dCausal) for op in graph.ops) == (family == "lfm2")
    assert_same(imported, module)


def test_places_are_module_paths_without_the_wrapper() -> None:
    imported = import_exported(export(tiny("llama")))
    places = {op.loc for op in imported.graph.ops if op.kind == "linear"}
    assert {"model.layers.1.mlp.up_proj", "model.layers.0.self_attn.q_proj", "lm_head"} <= places
    assert "model.layers.1.mlp.up_proj.weight" in imported.weights
    assert all(name.startswith(("model.", "lm_head.")) for name in imported.weights)


def test_tied_weights_are_one_weight() -> None:
    imported = import_exported(export(tiny("gpt2")))
    tables = [name for name, data in imported.weights.items() if data.shape == (128, 64)]
    assert tables == ["transformer.wte.weight"]
    assert sum(op.kind == "weight" for op in imported.graph.ops) == len(imported.weights)


def test_experts_that_no_table_knows_are_kept_and_run() -> None:
    module = tiny("mixtral", experts="grouped_mm")
    imported = import_exported(export(module))
    assert {reason.code for reason in imported.opaque} == {"HETC-I210"}
    assert "grouped_mm" in imported.opaque[-1].text
    assert imported.opaque[-1].at.startswith("model.layers.1.mlp.experts")
    assert_same(imported, module)

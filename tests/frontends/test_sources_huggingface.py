"""Hugging Face directories: what is bound is what transformers loads, read one tensor at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from transformers.models.mllama.configuration_mllama import MllamaTextConfig
from transformers.models.mllama.modeling_mllama import MllamaForCausalLM

from hetc.frontends.sources import open_hf_directory
from hetc.frontends.sources.tensors import to_numpy
from tests.frontends.sources_models import loaded_state, save, tiny_config, tiny_model

FAMILIES = ["llama", "gpt2", "qwen2", "gemma2", "mixtral", "gpt_oss", "deepseek_v3", "falcon"]


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_from_pretrained(family: str, tmp_path: Path) -> None:
    layers = {"deepseek_v3": 4}.get(family, 2)
    save(tiny_model(tiny_config(family, layers)), tmp_path)
    source = open_hf_directory(tmp_path)
    _assert_same(source.weights, loaded_state(tmp_path))
    assert source.family == family
    assert source.dtype == "f32"


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_shards_and_half_precision(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family)).to(torch.bfloat16)
    save(model, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    source = open_hf_directory(tmp_path)
    assert source.dtype == "bf16"
    assert source.weights is not None
    assert {tensor.dtype for tensor in source.weights.values()} == {"bf16"}
    _assert_same(source.weights, loaded_state(tmp_path))


def test_a_decoder_with_a_configuration_of_its_own(tmp_path: Path) -> None:
    # Not the configuration that transformers maps to the class, which is of images and text.
    config = MllamaTextConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        cross_attention_layers=[1],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = MllamaForCausalLM(config)
    save(model, tmp_path)
    source = open_hf_directory(tmp_path)
    assert source.family == "mllama_text_model"
    _assert_same(source.weights, model.state_dict())


def test_merged_experts_are_said_in_the_notes(tmp_path: Path) -> None:
    save(tiny_model(tiny_config("mixtral")), tmp_path)
    notes = open_hf_directory(tmp_path).notes
    assert "4 weights are merged or split from the checkpoint's, when read" in notes


def test_tied_weights_are_one_tensor(tmp_path: Path) -> None:
    save(tiny_model(tiny_config("qwen2")), tmp_path)
    weights = open_hf_directory(tmp_path).weights
    assert weights is not None
    assert weights["lm_head.weight"] is weights["model.embed_tokens.weight"]


def test_torch_files_load_with_weights_only(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama"))
    save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    _assert_same(open_hf_directory(tmp_path).weights, model.state_dict())


def test_config_alone_has_no_weights(tmp_path: Path) -> None:
    tiny_config("llama").save_pretrained(tmp_path)
    source = open_hf_directory(tmp_path)
    assert source.weights is None
    assert source.tokenizer is None
    assert any("plan" in note for note in source.notes)


def test_a_plan_ignores_quantization_and_remote_code_aloud(tmp_path: Path) -> None:
    tiny_config("llama").save_pretrained(tmp_path)
    _change(tmp_path, quantization_config={"quant_method": "fp8"}, auto_map={"AutoModel": "m.M"})
    source = open_hf_directory(tmp_path)
    notes = " / ".join(source.notes)
    assert "quantization_config (fp8): matrices planned as f8e4m3" in notes
    assert source.stored == "f8e4m3"
    assert "auto_map" in notes


def test_a_plan_of_another_quantization_is_in_the_type_of_the_config(tmp_path: Path) -> None:
    tiny_config("llama").save_pretrained(tmp_path)
    _change(tmp_path, quantization_config={"quant_method": "mxfp4"})
    source = open_hf_directory(tmp_path)
    assert "quantization_config (mxfp4): planned in the config's dtype" in " / ".join(source.notes)
    assert source.stored is None


def test_stored_type_may_differ_from_the_config(tmp_path: Path) -> None:
    save(tiny_model(tiny_config("llama")), tmp_path)
    _change(tmp_path, dtype="bfloat16")
    source = open_hf_directory(tmp_path)
    assert source.dtype == "bf16"
    assert source.weights is not None
    assert source.weights["model.norm.weight"].dtype == "f32"
    assert "config.json says bf16, but weights are stored in f32" in source.notes


def test_dtype_is_the_weights_own_where_the_config_names_none(tmp_path: Path) -> None:
    save(tiny_model(tiny_config("llama")).to(torch.float16), tmp_path)
    _change(tmp_path, dtype=None, torch_dtype=None)
    assert open_hf_directory(tmp_path).dtype == "f16"


def test_tensors_that_transformers_ignores_are_noted(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama"))
    save(model, tmp_path)
    state = dict(model.state_dict()) | {"model.layers.0.rotary_emb.inv_freq": torch.ones(4)}
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    notes = open_hf_directory(tmp_path).notes
    assert any("does not use 1 tensors" in note for note in notes)


def test_tokenizer_facts(tmp_path: Path) -> None:
    tiny_config("llama").save_pretrained(tmp_path)
    _write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}))
    tokenizer = open_hf_directory(tmp_path).tokenizer
    assert tokenizer is not None
    assert tokenizer.config == {
        "chat_template": "{{ messages[0]['content'] }}",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "bos_id": 1,
        "eos_ids": [2, 5],
        "add_bos": True,
    }
    rebuilt = tokenizers.Tokenizer.from_str(tokenizer.tokenizer_json.decode())
    assert rebuilt.encode("hello world").ids == [1, 3, 4]


def _assert_same(weights: Any, state: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == state.keys()
    for name, expected in state.items():
        array = weights[name].load()
        assert array.shape == weights[name].shape == tuple(expected.shape), name
        np.testing.assert_array_equal(array.view(np.uint8), to_numpy(expected).view(np.uint8), name)


def _change(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _write_tokenizer(directory: Path) -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "hello": 3, "world": 4, "a": 6}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "{{ messages[0]['content'] }}",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(facts))

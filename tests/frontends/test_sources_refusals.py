"""Model directories that cannot be used: one clear error each, by its text."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hetc.errors import InputError
from hetc.frontends.sources import open_hf_directory
from tests.frontends.sources_models import save, tiny_config, tiny_model
from tests.golden import Golden

WEIGHTS = "model.safetensors"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return save(tiny_model(tiny_config("llama")), tmp_path / "llama")


def _change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS)


def _drop(directory: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "layers.1.mlp" in name]:
            del tensors[name]

    _change_weights(directory, change)


def _pickle_of_more(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    torch.save({"w": np.float64}, directory / "pytorch_model.bin")


def _index(directory: Path, weight_map: object) -> None:
    (directory / WEIGHTS).rename(directory / "model-00001-of-00002.safetensors")
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _untied(directory: Path) -> None:
    _change_config(directory, tie_word_embeddings=True)


CASES: dict[str, Callable[[Path], object]] = {
    "no_config": lambda d: (d / "config.json").unlink(),
    "garbage_config": lambda d: (d / "config.json").write_text('["not", "an", "object"]'),
    "unknown_type": lambda d: _change_config(d, model_type="llamma"),
    "remote_code": lambda d: _change_config(d, model_type="own", auto_map={"AutoModel": "m.M"}),
    "encoder_decoder": lambda d: _change_config(d, model_type="t5", is_encoder_decoder=True),
    "no_language_model": lambda d: _change_config(
        d, architectures=["BartForConditionalGeneration"]
    ),
    "quantized": lambda d: _change_config(d, quantization_config={"quant_method": "gptq"}),
    "missing": _drop,
    "extra": lambda d: _change_weights(d, lambda t: t.update({"model.bonus": torch.zeros(2)})),
    "shape": lambda d: _change_weights(
        d, lambda t: t.update({"model.norm.weight": torch.zeros(31)})
    ),
    "wrong_config": lambda d: _change_config(d, num_hidden_layers=3),
    "differing_ties": _untied,
    "pickle": _pickle_of_more,
    "missing_shard": lambda d: _index(d, {"a": "model-00002-of-00002.safetensors"}),
    "shard_outside": lambda d: _index(d, {"a": "../elsewhere.safetensors"}),
    "tensor_not_in_shard": lambda d: _index(d, {"a": "model-00001-of-00002.safetensors"}),
    "no_index": lambda d: (d / WEIGHTS).rename(d / "model-00001-of-00002.safetensors"),
}


@pytest.mark.parametrize("case", CASES)
def test_refusal(case: str, llama: Path, golden: Golden) -> None:
    CASES[case](llama)
    with pytest.raises(InputError) as caught:
        open_hf_directory(llama)
    golden(f"sources_{case}.txt", str(caught.value).replace(str(llama.parent), "<models>"))


@pytest.mark.parametrize("kept", [0, 4, 40, 2000])
def test_truncated_weights(kept: int, llama: Path) -> None:
    (llama / WEIGHTS).write_bytes((llama / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(InputError, match="damaged or truncated") as caught:
        open_hf_directory(llama)
    assert caught.value.code == "HETC-I056"
    assert caught.value.at.endswith(WEIGHTS)


def test_truncated_torch_file(llama: Path) -> None:
    torch.save(load_file(llama / WEIGHTS), llama / "pytorch_model.bin")
    (llama / WEIGHTS).unlink()
    data = (llama / "pytorch_model.bin").read_bytes()
    (llama / "pytorch_model.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError) as caught:
        open_hf_directory(llama)
    assert caught.value.code in ("HETC-I056", "HETC-I058")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 5},
        {"hidden_act": "no_such_function"},
        {"num_hidden_layers": "many"},
        {"vocab_size": -1},
        {"rope_parameters": {"rope_type": "no_such_type"}},
    ],
    ids=str,
)
def test_config_that_makes_no_model(changes: dict[str, Any], llama: Path) -> None:
    (llama / WEIGHTS).unlink()
    _change_config(llama, **changes)
    with pytest.raises(InputError) as caught:
        open_hf_directory(llama)
    assert caught.value.code == "HETC-I055"


def test_a_config_that_is_not_text(llama: Path) -> None:
    (llama / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError) as caught:
        open_hf_directory(llama)
    assert caught.value.code == "HETC-I051"


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        open_hf_directory(tmp_path / "absent")


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_damaged_tokenizer(name: str, llama: Path) -> None:
    (llama / "tokenizer.json").write_text('{"version": "1.0", "added_tokens": [], "model": {}}')
    (llama / name).write_text("[")
    with pytest.raises(InputError) as caught:
        open_hf_directory(llama)
    assert caught.value.code == "HETC-I070"


def test_no_code_of_the_directory_runs(llama: Path) -> None:
    (llama / "m.py").write_text("raise SystemExit('ran')")
    _change_config(llama, auto_map={"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"})
    source = open_hf_directory(llama)
    assert type(source.config).__module__.startswith("transformers.")


def test_a_model_that_needs_another_package(tmp_path: Path) -> None:
    # Its image tower is one of timm's.
    transformers.Gemma3nConfig(architectures=["Gemma3nForConditionalGeneration"]).save_pretrained(
        tmp_path
    )
    if importlib.util.find_spec("timm") is not None:
        pytest.skip("timm is installed")
    with pytest.raises(InputError, match="needs another package") as caught:
        open_hf_directory(tmp_path)
    assert caught.value.code == "HETC-I055"
    assert "timm" in caught.value.render()

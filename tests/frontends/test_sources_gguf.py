"""GGUF files: values as transformers dequantizes them, one tensor at a time, or one clear error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from hetc.errors import InputError
from hetc.frontends.sources import ModelSource, open_gguf
from hetc.frontends.sources.gguf_config import config_facts
from hetc.frontends.sources.gguf_tensors import read_gguf
from hetc.frontends.sources.skeleton import build_skeleton
from tests.frontends.gguf_models import llama_tensors, qwen3_moe_tensors, write_gguf
from tests.frontends.sources_models import tiny_config, tiny_model
from tests.golden import Golden

Kind = gguf.GGMLQuantizationType

STRINGS = [
    "",
    "a",
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces\tand a tab",
    "line\nbreak\r\n",
    "The capital of France is Paris.",
    "1234567890 3.14 1e-9",
    "def f(x):\n    return x ** 2\n",
    "naïve café Ünïcödé",
    "日本語のテキスト",
    "Привет, мир",
    "مرحبا بالعالم",
    "👩‍👩‍👧 emoji 🚀",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|endoftext|>",
    "don't can't won't I'LL",
    "https://example.org/a?b=c&d=%20",
    "\x00\x01 control",
    "x" * 300,
]


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> ModelSource:
    return open_gguf(smollm2_gguf)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_model(tiny_config("llama", head_dim=8))


@pytest.fixture
def file(llama: Any, tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", llama_tensors(llama), config=llama.config)


def test_smollm2_config(smollm2: ModelSource) -> None:
    config = smollm2.config
    assert (smollm2.family, smollm2.dtype) == ("llama", "bf16")
    assert (config.num_hidden_layers, config.num_attention_heads) == (30, 9)
    assert (config.vocab_size, config.max_position_embeddings) == (49152, 8192)
    assert config.rope_parameters["rope_theta"] == 100000.0


def test_the_table_gives_what_transformers_reads(smollm2_gguf: Path) -> None:
    read = load_gguf_checkpoint(str(smollm2_gguf), return_tensors=False)["config"]
    assert config_facts(read_gguf(smollm2_gguf), "llama") == read


def test_smollm2_weights(smollm2: ModelSource) -> None:
    assert smollm2.weights is not None
    assert len(smollm2.weights) == 30 * 9 + 3
    assert {tensor.dtype for tensor in smollm2.weights.values()} == {"f32"}
    assert smollm2.weights["lm_head.weight"] is smollm2.weights["model.embed_tokens.weight"]
    query = smollm2.weights["model.layers.3.self_attn.q_proj.weight"].load()
    assert query.shape == (576, 576)
    assert 0.01 < float(np.std(query)) < 1.0


@pytest.mark.slow
def test_smollm2_weights_equal_transformers(smollm2: ModelSource, smollm2_gguf: Path) -> None:
    assert smollm2.weights is not None
    skeleton = build_skeleton(smollm2.config)
    read = load_gguf_checkpoint(str(smollm2_gguf), return_tensors=True, model_to_load=skeleton)
    assert read["tensors"].keys() <= smollm2.weights.keys()
    for name in read["tensors"]:
        if ".0." in name or ".29." in name or "layers" not in name:
            expected = read["tensors"][name].numpy()
            np.testing.assert_array_equal(smollm2.weights[name].load(), expected, name)


def test_smollm2_tokenizer_equals_auto_tokenizer(smollm2: ModelSource, smollm2_gguf: Path) -> None:
    auto = transformers.AutoTokenizer.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, local_files_only=True
    )
    assert smollm2.tokenizer is not None
    ours = tokenizers.Tokenizer.from_str(smollm2.tokenizer.tokenizer_json.decode())
    turns = [{"role": "user", "content": "What is 2+2?"}]
    chat = auto.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    for text in [*STRINGS, chat]:
        assert ours.encode(text).ids == auto(text)["input_ids"], text
    assert smollm2.tokenizer.config["chat_template"] == auto.chat_template
    assert smollm2.tokenizer.config["add_bos"] is False
    assert smollm2.tokenizer.config["eos_ids"] == [2]


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    # The last is one that transformers' reader does not know, and gguf's reads.
    [(Kind.F32, 0.0), (Kind.F16, 1e-3), (Kind.Q8_0, 0.02), (Kind.Q5_0, 0.2)],
)
def test_stored_types(kind: Any, tolerance: float, llama: Any, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    # Rows of 32 divide into blocks of 32; the feed-forward's 48 do not.
    tensors = llama_tensors(llama)
    if kind in (Kind.Q8_0, Kind.Q5_0):
        config = tiny_config("llama", head_dim=8, intermediate_size=64)
        llama = tiny_model(config)
        tensors = llama_tensors(llama)
    source = open_gguf(write_gguf(path, tensors, config=llama.config, kind=kind))
    assert source.dtype == {Kind.F32: "f32", Kind.F16: "f16"}.get(kind, "bf16")
    assert source.weights is not None
    for name, expected in llama.state_dict().items():
        found = source.weights[name].load()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.numpy(), atol=tolerance, err_msg=name)


def test_no_tokenizer_is_noted(file: Path) -> None:
    source = open_gguf(file)
    assert source.tokenizer is None
    assert any("tokenizer" in note for note in source.notes)


def test_llama3_frequency_factors_are_recognised(llama: Any, tmp_path: Path) -> None:
    config = tiny_config("llama", head_dim=8, max_position_embeddings=131072)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = 500000.0 ** -(np.arange(4) / 4)
    factors = (plain / scaled.numpy()).astype(np.float32)
    assert factors.max() == pytest.approx(32.0)
    tensors = llama_tensors(llama) | {"rope_freqs.weight": factors}
    source = open_gguf(write_gguf(tmp_path / "llama3.gguf", tensors, config=config))
    assert source.config.rope_parameters == config.rope_parameters
    assert any("recognised from rope_freqs.weight" in note for note in source.notes)


def _experts(writer: gguf.GGUFWriter) -> None:
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(16)
    writer.add_key_length(8)
    writer.add_value_length(8)


def test_experts_are_stacked_when_read(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen3_moe"))
    source = open_gguf(
        write_gguf(
            tmp_path / "moe.gguf",
            qwen3_moe_tensors(model),
            config=model.config,
            architecture="qwen3moe",
            change=_experts,
        )
    )
    assert source.family == "qwen3_moe"
    assert source.weights is not None
    for name, expected in model.state_dict().items():
        np.testing.assert_array_equal(source.weights[name].load(), expected.numpy(), name)


def _scaled(writer: gguf.GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)


@pytest.mark.parametrize(
    "case",
    ["unknown_factors", "rope_scaling", "architecture", "extra", "missing", "shape"],
)
def test_refusal(case: str, llama: Any, tmp_path: Path, golden: Golden) -> None:
    tensors = llama_tensors(llama)
    options: dict[str, Any] = {}
    if case == "unknown_factors":
        tensors["rope_freqs.weight"] = np.array([1, 2, 3, 4], np.float32)
    elif case == "rope_scaling":
        options["change"] = _scaled
    elif case == "architecture":
        options["architecture"] = "rwkv7"
    elif case == "extra":
        tensors["blk.0.attn_sub_norm.weight"] = np.ones(32, np.float32)
    elif case == "missing":
        del tensors["blk.1.ffn_up.weight"]
    else:
        tensors["output_norm.weight"] = np.ones(31, np.float32)
    path = write_gguf(tmp_path / "tiny.gguf", tensors, config=llama.config, **options)
    with pytest.raises(InputError) as caught:
        open_gguf(path)
    golden(f"sources_gguf_{case}.txt", str(caught.value).replace(str(tmp_path), "<models>"))


def test_not_a_gguf_file(tmp_path: Path, golden: Golden) -> None:
    texts = []
    for content in (b"PK\x03\x04 a zip", b""):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            open_gguf(path)
        texts.append(str(caught.value).replace(str(tmp_path), "<models>"))
    golden("sources_gguf_not_one.txt", "\n".join(texts))


def test_truncated_anywhere(file: Path) -> None:
    data = file.read_bytes()
    for kept in (4, 8, 24, 30, 100, 400, len(data) // 2, len(data) - 40):
        file.write_bytes(data[:kept])
        with pytest.raises(InputError) as caught:
            open_gguf(file)
        assert caught.value.code == "HETC-I065", kept


@pytest.mark.parametrize("offset", [4, 8, 16, 24, 32])
def test_absurd_header_numbers(offset: int, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[offset : offset + 8] = struct.pack("<Q", 2**62)
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        open_gguf(file)
    assert caught.value.code == "HETC-I065"

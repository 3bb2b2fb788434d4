"""A real model, from its GGUF file to text: SmolLM2-135M-Instruct as transformers runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from hetc.driver import CompileOptions, compile_bundle, load, verify
from hetc.frontends.original import model_of_gguf
from hetc.ir.types import Array
from hetc.runtime import Bundle
from tests.driver.models import eager

PROMPTS = (
    "What is the capital of France?",
    "Once upon a time",
    "def fibonacci(n):",
    "The three laws of thermodynamics are",
    "Water boils at",
    "Dear Sir or Madam,",
    "1, 1, 2, 3, 5, 8,",
    "The quick brown fox",
    "In the year 2050,",
    "SELECT name FROM users WHERE",
    "Ein Compiler ist",
    "La capitale de l'Italie est",
    "A haiku about rain:\n",
    "To be, or not to be:",
    "The mitochondria is",
    "import numpy as np\n\n",
    "Q: Why is the sky blue?\nA:",
    "🙂 means",
    "x",
    "She opened the door, looked at the empty room, and then she said that",
)


@dataclass(frozen=True)
class SmolLM2:
    """The model and tokenizer in transformers, and the bundle that hetc made of the same file."""

    model: Any
    tokenizer: Any
    path: Path
    bundle: Bundle

    def answer(self, prompt: str, new_tokens: int) -> tuple[list[int], list[int], str]:
        """The prompt's ids, greedy new ids and their text, all by transformers."""
        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = self.model.generate(ids, max_new_tokens=new_tokens, do_sample=False)
        new = found[0, ids.shape[1] :]
        return ids[0].tolist(), new.tolist(), self.tokenizer.decode(new, skip_special_tokens=True)


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> SmolLM2:
    model = model_of_gguf(smollm2_gguf).eval()
    # As `ignore_eos` does: a text that ends early would compare little.
    model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name)
    output = tmp_path_factory.mktemp("smollm2") / "bundle"
    # transformers widens the file too.
    options = CompileOptions(dtype="fp32", quantize="none")
    path = compile_bundle(smollm2_gguf, output, options).path
    return SmolLM2(model, tokenizer, path, load(path))


def test_greedy_text_is_that_of_transformers(smollm2: SmolLM2) -> None:
    # Of different lengths, so that they decode together at positions of their own.
    together = smollm2.bundle.generate(list(PROMPTS[:3]), max_new_tokens=24, ignore_eos=True)
    for prompt, joined in zip(PROMPTS, together, strict=False):
        ids, new_ids, text = smollm2.answer(prompt, 24)
        found = smollm2.bundle.generate(prompt, max_new_tokens=24, ignore_eos=True)
        assert joined.token_ids == found.token_ids
        assert smollm2.bundle.tokenizer.encode(prompt) == ids
        assert list(found.token_ids) == new_ids
        assert found.text == text
        assert found.executors == {"prefill": "native", "decode": "native"}


def test_greedy_text_of_onnx_runtime_is_that_of_transformers(smollm2: SmolLM2) -> None:
    with load(smollm2.path, executor="onnx") as onnx:
        for prompt in PROMPTS[:3]:
            _, new_ids, text = smollm2.answer(prompt, 24)
            found = onnx.generate(prompt, max_new_tokens=24, ignore_eos=True)
            assert (list(found.token_ids), found.text) == (new_ids, text)
            assert found.executors == {"prefill": "onnx", "decode": "onnx"}


def test_a_chat_is_answered_as_by_transformers(smollm2: SmolLM2) -> None:
    question = "What is the capital of France?"
    chat = [{"role": "user", "content": question}]
    prompt = smollm2.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    pieces = smollm2.bundle.generate(question, chat=True, max_new_tokens=24, stream=True)
    text = "".join(pieces)
    assert "Paris" in text
    assert smollm2.answer(prompt, len(pieces.result.token_ids))[2] == text
    assert pieces.result.text == text


def test_logits_are_those_of_transformers(smollm2: SmolLM2) -> None:
    def oracle(tokens: Array) -> Array:
        return eager(smollm2.model, torch.from_numpy(tokens))

    found = verify(smollm2.path, oracle)
    assert found.ok, found.as_json()


def test_the_integers_of_the_file_write_the_same_text(
    smollm2: SmolLM2, smollm2_gguf: Path, tmp_path: Path
) -> None:
    """Kept as they are, which is the default, and multiplied as the CPU can."""
    made = compile_bundle(smollm2_gguf, tmp_path / "bundle", CompileOptions(decode="host"))
    assert "note        matrices as the source has them, not rounded: 210 as int4, 1 as int8" in (
        made.summary
    )
    with load(made.path, executor="native") as native:
        for prompt in PROMPTS[:3]:
            _, new_ids, text = smollm2.answer(prompt, 24)
            found = native.generate(prompt, max_new_tokens=24, ignore_eos=True)
            assert (list(found.token_ids), found.text) == (new_ids, text)


@pytest.mark.slow
def test_long_greedy_texts_are_those_of_transformers(smollm2: SmolLM2) -> None:
    """One forward pass over prompt and answer shows every greedy choice at once: by induction,
    transformers would have written the same."""
    for prompt in PROMPTS:
        found = smollm2.bundle.generate(prompt, max_new_tokens=64, ignore_eos=True)
        ids = smollm2.tokenizer(prompt).input_ids + list(found.token_ids)
        chosen = eager(smollm2.model, torch.tensor([ids]))[0].argmax(axis=-1)
        assert found.new_tokens == 64
        assert list(found.token_ids) == chosen[-65:-1].tolist(), prompt

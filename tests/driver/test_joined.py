"""Sequences of different lengths, decoded together, give what each gives alone: all families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc import runtime
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.ir.types import Array
from hetc.runtime import Bundle
from hetc.runtime.native import NativeOptions, native_executors
from tests.driver.conftest import Subjects
from tests.driver.models import FAMILIES, WINDOW, tokens

# Prompts from one token to past a window, and over the edge of a tile of 16 keys.
LENGTHS = (3, WINDOW, 1, 17, 12)
# Tokens at a time behind them.
STEPS = (1, 3, 1, 2)
# Products sum in another order where they have more rows.
TOLERANCE = 1e-4
# With experts it hangs on the other rows, too, which of them are multiplied together.
EXPERTS = {"mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3"}


def by_itself(bundle: Bundle, ids: Array, prompt: int) -> list[Array]:
    """Logits [B, T, V] of each step behind a prompt: `ids` [B, S] are at one position."""
    _, state = bundle.prefill(ids[:, :prompt])
    found = []
    for count in STEPS:
        logits, state = bundle.decode(ids[:, prompt : prompt + count], state)
        prompt += count
        found.append(logits)
    return found


def together(bundle: Bundle, ids: Array) -> list[Array]:
    """The same of `ids` [B, S], each behind a prompt of its own length."""
    rows = list(zip(ids, LENGTHS, strict=True))
    joined = bundle.join([bundle.prefill(row[:prompt])[1] for row, prompt in rows])
    done, found = 0, []
    for count in STEPS:
        parts = [row[prompt + done : prompt + done + count] for row, prompt in rows]
        found.append(bundle.decode_joined(np.stack(parts), joined))
        done += count
        assert joined.pasts == tuple(prompt + done for prompt in LENGTHS)
    return found


def errors(bundle: Bundle) -> tuple[float, float]:
    """The largest difference from each sequence alone, and from a batch of as many copies of it."""
    ids = tokens(len(LENGTHS), 30).numpy()
    found, alone, copies = together(bundle, ids), 0.0, 0.0
    for row, prompt in enumerate(LENGTHS):
        one = ids[row : row + 1]
        several = by_itself(bundle, np.repeat(one, len(LENGTHS), axis=0), prompt)
        for ours, single, many in zip(found, by_itself(bundle, one, prompt), several, strict=True):
            alone = max(alone, float(np.abs(ours[row] - single[0]).max()))
            copies = max(copies, float(np.abs(ours[row] - many[row]).max()))
    return alone, copies


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(subjects: Subjects, family: str) -> None:
    bundle = subjects(family).bundle
    assert bundle.executors["decode"] == "native"
    alone, copies = errors(bundle)
    assert alone < TOLERANCE
    assert copies < (TOLERANCE if family in EXPERTS else 1e-45)


@pytest.mark.parametrize("options", [CompileOptions(dtype="bf16"), CompileOptions(kv="int8")])
def test_narrow_weights_and_states(
    subjects: Subjects, options: CompileOptions, tmp_path: Path
) -> None:
    """Rounding comes after sums in another order: what is stored may differ by its last bit."""
    path = compile_bundle(subjects("gemma2").source, tmp_path / "bundle", options).path
    for threads in (1, 2):
        native = {"native": native_executors(NativeOptions(threads))}
        with runtime.load(path, executors=native, executor="native") as bundle:
            alone, copies = errors(bundle)
        assert alone < 0.02
        assert copies == 0


@pytest.mark.parametrize("family", ["llama", "mistral", "lfm2"])
def test_onnx_runtime_runs_one_after_the_other(subjects: Subjects, family: str) -> None:
    with load(subjects(family).path, executor="onnx") as bundle:
        alone, _ = errors(bundle)
        assert alone == 0


@pytest.mark.parametrize("executor", ["native", "onnx"])
def test_text_of_prompts_of_many_lengths(subjects: Subjects, executor: str) -> None:
    prompts = [
        row[:length].tolist()
        for row, length in zip(tokens(7, 40), (5, 30, 1, 5, 17, 30, 2), strict=True)
    ]
    with load(subjects("gemma2").path, executor=executor) as bundle:
        alone = [bundle.generate(prompt, max_new_tokens=20, ignore_eos=True) for prompt in prompts]
        found = bundle.generate(prompts, max_new_tokens=20, ignore_eos=True)
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]
    assert {one.new_tokens for one in found} == {20}


def test_each_sequence_has_its_own_context(subjects: Subjects) -> None:
    """The longest ends where the context does, and the others go on."""
    bundle = subjects("gpt2").bundle
    limit = bundle.manifest.model.max_context
    prompts = [
        row[:length].tolist()
        for row, length in zip(tokens(3, limit), (limit - 4, 9, limit - 9), strict=True)
    ]
    found = bundle.generate(prompts, max_new_tokens=30, ignore_eos=True)
    assert [one.finish_reason for one in found] == ["context", "length", "context"]
    assert [one.new_tokens for one in found] == [4, 30, 9]
    for one, prompt in zip(found, prompts, strict=True):
        alone = bundle.generate(prompt, max_new_tokens=30, ignore_eos=True)
        assert one.token_ids == alone.token_ids


def test_states_go_back_to_the_contract(subjects: Subjects) -> None:
    """Split, each is what it was alone, to another executor too."""
    subject = subjects("mistral")
    ids = tokens(2, 30).numpy()
    with load(subject.path, executor="onnx") as onnx:
        native = subject.bundle
        states = [native.prefill(ids[row, :length])[1] for row, length in enumerate((4, 19))]
        digests = [state.digests() for state in states]
        split = native.join(states).split()
        assert [state.digests() for state in split] == digests
        for row, (state, length) in enumerate(zip(split, (4, 19), strict=True)):
            fork = state.copy()
            found, _ = native.decode(ids[row, length : length + 1], state)
            other, _ = onnx.decode(ids[row, length : length + 1], fork)
            np.testing.assert_allclose(found, other, atol=TOLERANCE)

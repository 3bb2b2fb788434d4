"""The generation loop on a toy model: against its stateless forward, and every way to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetc.errors import RuntimeFault
from hetc.runtime import Bundle, load
from hetc.runtime.bundle import Options
from hetc.runtime.sampling import SamplingOptions, choose, generator
from tests.golden import Golden
from tests.runtime.toy import MAX_CONTEXT, VOCAB, NumpyExecutor, forward, weights, write_toy_bundle

PROMPT = [104, 101, 108, 108, 111]


def by_forward(
    prompt: list[int], count: int, options: SamplingOptions, index: int = 0
) -> list[int]:
    """The answer without any state: the whole sequence again for every token."""
    rng, tokens = generator(options.seed, index), list(prompt)
    for _ in range(count):
        logits = forward(weights(), np.array([tokens]))[0, -1]
        tokens.append(choose(logits, tokens, options, rng))
    return tokens[len(prompt) :]


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        SamplingOptions(temperature=0.7, top_k=40, top_p=0.9, min_p=0.01, seed=3),
        SamplingOptions(repetition_penalty=1.3),
    ],
)
def test_prefill_and_decode_give_what_forward_gives(
    bundle: Bundle, options: SamplingOptions
) -> None:
    found = bundle.generate(PROMPT, max_new_tokens=20, ignore_eos=True, **vars(options))
    assert list(found.token_ids) == by_forward(PROMPT, 20, options)
    assert (found.prompt_tokens, found.new_tokens, found.finish_reason) == (5, 20, "length")
    assert found.text == bundle.tokenizer.decode(found.token_ids)


def test_the_result_says_who_ran_and_how_fast(bundle: Bundle) -> None:
    found = bundle.generate("hello", max_new_tokens=4, ignore_eos=True)
    assert found.executors == {"prefill": "toy", "decode": "toy"}
    assert found.handoff is not None
    assert (found.handoff.bytes, found.handoff.dtype) == (5 * 16 * 4, "f32")
    assert found.ttft_s > 0
    assert found.prefill_tokens_per_s > 0
    assert found.decode_tokens_per_s is not None
    assert found.decode_tokens_per_s > 0
    plain = found.as_json()
    assert plain["handoff"] == vars(found.handoff)
    assert plain["token_ids"] == list(found.token_ids)


def test_one_token_needs_no_hand_off(bundle: Bundle) -> None:
    found = bundle.generate(PROMPT, max_new_tokens=1)
    assert (found.handoff, found.decode_tokens_per_s, found.new_tokens) == (None, None, 1)


def test_prompts_of_equal_length_run_as_one_batch_in_the_given_order(path: Path) -> None:
    executors: list[NumpyExecutor] = []

    def factory() -> NumpyExecutor:
        executors.append(NumpyExecutor())
        return executors[-1]

    prompts = ["abc", "de", "fgh", "ij", "klm"]
    with load(path, executors={"toy": factory}) as bundle:
        found = bundle.generate(prompts, max_new_tokens=3, ignore_eos=True)
        alone = [bundle.generate(p, max_new_tokens=3, ignore_eos=True) for p in prompts]
    assert [g.token_ids for g in found] == [g.token_ids for g in alone]
    prefill, decode = (e.calls for e in executors)
    assert prefill[:5] == [
        "prepare prefill",
        "bind 3 6",
        "run prefill [3, 3]",
        "bind 2 5",
        "run prefill [2, 2]",
    ]
    assert decode[:4] == ["prepare decode", "bind 3 6", "run decode [3, 1]", "run decode [3, 1]"]


def test_a_seed_gives_each_prompt_of_a_batch_its_own_draws(bundle: Bundle) -> None:
    options: Options = {
        "max_new_tokens": 6,
        "temperature": 2.0,
        "seed": 5,
        "ignore_eos": True,
    }
    first, second = bundle.generate([PROMPT, PROMPT], **options)
    again = bundle.generate([PROMPT, PROMPT], **options)
    assert first.token_ids != second.token_ids
    assert [g.token_ids for g in again] == [first.token_ids, second.token_ids]
    assert list(second.token_ids) == by_forward(
        PROMPT, 6, SamplingOptions(temperature=2.0, seed=5), index=1
    )


def test_eos_ends_an_answer_and_only_its_own(tmp_path: Path) -> None:
    prompts = [PROMPT, [9, 8, 7, 6, 5]]
    answers = [by_forward(prompt, 12, SamplingOptions()) for prompt in prompts]
    eos = next(t for t in answers[0][2:] if t not in answers[1] and t != answers[0][0])
    path = write_toy_bundle(tmp_path / "ends", eos=eos)
    with load(path, executors={"toy": NumpyExecutor}) as bundle:
        ended, other = bundle.generate(prompts, max_new_tokens=12)
        going_on = bundle.generate(PROMPT, max_new_tokens=12, ignore_eos=True)
    expected = answers[0][: answers[0].index(eos) + 1]
    assert (ended.finish_reason, list(ended.token_ids)) == ("eos", expected)
    assert (other.finish_reason, list(other.token_ids)) == ("length", answers[1])
    assert (going_on.finish_reason, list(going_on.token_ids)) == ("length", answers[0])


def test_a_stop_text_cuts_the_answer_before_it(bundle: Bundle) -> None:
    whole = bundle.generate("a", max_new_tokens=30, ignore_eos=True)
    middle = whole.text[5:8]
    cut = bundle.generate("a", max_new_tokens=30, ignore_eos=True, stop=["\0never", middle])
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(middle)]
    assert cut.new_tokens < 30
    streamed = bundle.generate("a", max_new_tokens=30, ignore_eos=True, stop=middle, stream=True)
    assert "".join(streamed) == cut.text
    assert streamed.result.token_ids == cut.token_ids


def test_the_context_ends_an_answer(bundle: Bundle) -> None:
    found = bundle.generate([1] * (MAX_CONTEXT - 3), max_new_tokens=10, ignore_eos=True)
    assert (found.finish_reason, found.new_tokens) == ("context", 3)


def test_a_stream_gives_the_same_text_and_then_the_result(bundle: Bundle) -> None:
    whole = bundle.generate("héllo", max_new_tokens=30, ignore_eos=True)
    stream = bundle.generate("héllo", max_new_tokens=30, ignore_eos=True, stream=True)
    with pytest.raises(RuntimeFault, match="HETC-R034"):
        _ = stream.result
    pieces = list(stream)
    assert len(pieces) > 5
    assert all(pieces)
    assert "".join(pieces) == whole.text
    assert stream.result.token_ids == whole.token_ids


def test_a_closed_stream_keeps_what_there_was(bundle: Bundle) -> None:
    stream = bundle.generate("hello", max_new_tokens=40, ignore_eos=True, stream=True)
    first = next(stream)
    stream.close()
    assert stream.result.finish_reason == "interrupted"
    assert stream.result.text.startswith(first)
    assert 0 < stream.result.new_tokens < 40
    assert list(stream) == []


def test_an_interrupt_comes_through_and_leaves_a_usable_bundle(path: Path) -> None:
    executors: list[NumpyExecutor] = []

    def factory() -> NumpyExecutor:
        executors.append(NumpyExecutor())
        return executors[-1]

    with load(path, executors={"toy": factory}) as bundle:
        executors[1].interrupt_after = 5
        stream = bundle.generate("hello", max_new_tokens=40, ignore_eos=True, stream=True)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
        assert stream.result.finish_reason == "interrupted"
        assert stream.result.new_tokens == 4
        executors[1].interrupt_after = None
        assert bundle.generate("hello", max_new_tokens=4, ignore_eos=True).new_tokens == 4


def test_chat_goes_through_the_template(bundle: Bundle) -> None:
    text = "<s>[user]hi\n[answer]"
    ids = bundle.tokenizer.encode(text)
    plain = bundle.generate(ids, max_new_tokens=5, ignore_eos=True)
    chat = bundle.generate("hi", chat=True, max_new_tokens=5, ignore_eos=True)
    assert (chat.token_ids, chat.prompt_tokens) == (plain.token_ids, len(ids))


REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt-too-long": ([1] * MAX_CONTEXT, {}),
    "prompt-empty": ("", {}),
    "prompt-of-a-batch": (["a", "b" * 70], {}),
    "token-beyond-vocabulary": ([1, VOCAB], {}),
    "token-negative": ([-1], {}),
    "no-new-tokens": ("a", {"max_new_tokens": 0}),
    "empty-stop": ("a", {"stop": [""]}),
    "top-p": ("a", {"top_p": 2.0}),
    "stream-of-two": (["a", "b"], {"stream": True}),
    "chat-of-ids": ([1, 2], {"chat": True}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_anything_runs(
    path: Path, name: str, golden: Golden
) -> None:
    executors: list[NumpyExecutor] = []

    def factory() -> NumpyExecutor:
        executors.append(NumpyExecutor())
        return executors[-1]

    prompt, options = REFUSED[name]
    with (
        load(path, executors={"toy": factory}) as bundle,
        pytest.raises(RuntimeFault) as caught,
    ):
        bundle.generate(prompt, **options)
    assert not any("run" in call for e in executors for call in e.calls)
    golden(f"generate-{name}.txt", str(caught.value))


def test_without_a_tokenizer_ids_still_work(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path / "ids", tokenizer=False)
    with load(path, executors={"toy": NumpyExecutor}) as bundle:
        found = bundle.generate(PROMPT, max_new_tokens=5)
        assert (found.text, found.new_tokens) == ("", 5)
        for bad in (
            lambda: bundle.generate("text"),
            lambda: bundle.generate(PROMPT, stop="x"),
            lambda: bundle.generate(PROMPT, stream=True),
        ):
            with pytest.raises(RuntimeFault, match="HETC-R030"):
                bad()

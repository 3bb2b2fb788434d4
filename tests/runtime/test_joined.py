"""Sequences at different positions on the toy: one after the other, and as one call of generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hetc.errors import RuntimeFault
from hetc.runtime import Bundle, State, load
from hetc.runtime.generate import Run
from hetc.runtime.generation import GenerationOptions
from hetc.runtime.joined import Joined, OneByOne
from tests.golden import Golden
from tests.runtime.toy import (
    MAX_CONTEXT,
    STATE,
    Array,
    NumpyExecutor,
    contract,
    forward,
    weights,
)

TOKENS = np.random.default_rng(0).integers(0, 256, (3, 20))
PASTS = (4, 4, 9)


@dataclass
class JoiningExecutor(NumpyExecutor):
    """The toy as an executor that says it decodes all positions in one call."""

    kept: list[list[int]] = field(default_factory=list)

    def join(self, states: Sequence[State], batches: Sequence[int]) -> Joined:
        self.calls.append(f"join {[state.past for state in states]} {list(batches)}")
        return _Recorded(self, contract(), states, batches)


class _Recorded(OneByOne):
    def keep(self, rows: Sequence[int]) -> None:
        self.executor.calls.append(f"keep {list(rows)}")  # type: ignore[attr-defined]
        super().keep(rows)


def joined(bundle: Bundle) -> Joined:
    """Two sequences of one state, and a longer one."""
    _, two = bundle.prefill(TOKENS[:2, :4])
    _, one = bundle.prefill(TOKENS[2, :9])
    return bundle.join([two, one])


def parts(done: int, count: int, rows: Sequence[int] = (0, 1, 2)) -> Array:
    """The next tokens of some sequences."""
    return np.stack([TOKENS[row, PASTS[row] + done : PASTS[row] + done + count] for row in rows])


def assert_forward(logits: Array, done: int, rows: Sequence[int] = (0, 1, 2)) -> None:
    """`logits` are those of the whole sequences."""
    expected = forward(weights(), TOKENS)
    for found, row in zip(logits, rows, strict=True):
        start = PASTS[row] + done
        np.testing.assert_allclose(found, expected[row, start : start + len(found)], atol=1e-5)


def test_each_sequence_goes_on_where_it_is(bundle: Bundle) -> None:
    several, done = joined(bundle), 0
    assert several.pasts == PASTS
    for count in (1, 3, 2):
        assert_forward(bundle.decode_joined(parts(done, count), several), done)
        done += count
    assert several.pasts == (10, 10, 15)


def test_sequences_are_dropped_forked_and_split(bundle: Bundle) -> None:
    several, rows = joined(bundle), [2, 0, 2]
    several.keep(rows)
    assert several.pasts == (9, 4, 9)
    assert_forward(bundle.decode_joined(parts(0, 2, rows), several), 0, rows)
    states = several.split()
    assert [(state.past, state.shape(STATE)[:2]) for state in states] == [
        (11, (1, 11)),
        (6, (1, 6)),
        (11, (1, 11)),
    ]
    logits, _ = bundle.decode(parts(2, 1, [0]), states[1])
    assert_forward(logits, 2, [0])
    again = bundle.join([states[2], states[0]])
    assert_forward(bundle.decode_joined(parts(2, 1, [2, 2]), again), 2, [2, 2])


def _twice(bundle: Bundle) -> object:
    _, state = bundle.decode(TOKENS[:1, 4:5], bundle.prefill(TOKENS[:1, :4])[1])
    return bundle.join([state, state])


def _after_split(bundle: Bundle) -> object:
    several = joined(bundle)
    several.split()
    return bundle.decode_joined(parts(0, 1), several)


REFUSED: dict[str, Callable[[Bundle], object]] = {
    "nothing": lambda bundle: bundle.join([]),
    "twice": _twice,
    "after-split": _after_split,
    "rows": lambda bundle: bundle.decode_joined(parts(0, 1)[:2], joined(bundle)),
    "context": lambda bundle: bundle.decode_joined(
        np.zeros((3, MAX_CONTEXT - 8), int), joined(bundle)
    ),
    "no-such-row": lambda bundle: joined(bundle).keep([1, 3]),
    "no-row": lambda bundle: joined(bundle).keep([]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(bundle: Bundle, name: str, golden: Golden) -> None:
    with pytest.raises(RuntimeFault) as caught:
        REFUSED[name](bundle)
    golden(f"joined-{name}.txt", str(caught.value))


def test_a_refused_join_leaves_its_states(bundle: Bundle) -> None:
    _, prefilled = bundle.prefill(TOKENS[:1, :4])
    _, decoded = bundle.decode(TOKENS[:1, 4:5], prefilled.copy())
    foreign = State("another contract", 5, {}, owner="decode")
    with pytest.raises(RuntimeFault, match="HETC-R011"):
        bundle.join([prefilled, decoded, foreign])
    assert not prefilled.spent
    assert not decoded.spent


def running(path: Path) -> tuple[Bundle, list[JoiningExecutor]]:
    executors: list[JoiningExecutor] = []

    def factory() -> JoiningExecutor:
        executors.append(JoiningExecutor())
        return executors[-1]

    return load(path, executors={"toy": factory}), executors


def test_prompts_of_all_lengths_decode_together(path: Path) -> None:
    prompts = ["abc", "de", "fgh", "ijklm"]
    bundle, (_, decode) = running(path)
    with bundle:
        found = bundle.generate(prompts, max_new_tokens=3, ignore_eos=True)
        calls = decode.calls[1:]
        alone = [bundle.generate(p, max_new_tokens=3, ignore_eos=True) for p in prompts]
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]
    assert calls[:2] == ["bind 4 8", "join [3, 2, 5] [2, 1, 1]"]
    assert calls[2:5] == ["run decode [2, 1]", "run decode [1, 1]", "run decode [1, 1]"]
    assert all(one.handoff is not None for one in found)
    # Each group's first token is its own, and all decode over the same time.
    assert [one.handoff.bytes for one in found if one.handoff] == [
        2 * 3 * 64,
        2 * 64,
        2 * 3 * 64,
        5 * 64,
    ]
    assert all(one.ttft_s > 0 and one.decode_tokens_per_s for one in found)


def test_more_than_fit_decode_in_several_batches(path: Path) -> None:
    prompts = [[7] * (1 + number % 20) for number in range(40)]
    bundle, (_, decode) = running(path)
    with bundle:
        found = bundle.generate(prompts, max_new_tokens=2, ignore_eos=True)
        joins = [call for call in decode.calls if call.startswith("join")]
        alone = [bundle.generate(p, max_new_tokens=2, ignore_eos=True) for p in prompts[:20]]
    assert [one.token_ids for one in found] == [one.token_ids for one in alone] * 2
    assert [call.count("2") >= 4 for call in joins] == [True, True, True]


def test_who_has_ended_makes_room(path: Path) -> None:
    """By the context, by a stop text, and by its length: each its own."""
    prompts = [[65] * (MAX_CONTEXT - 3), [66] * 4, [67] * 9]
    bundle, (_, decode) = running(path)
    with bundle:
        alone = [bundle.generate(p, max_new_tokens=9, ignore_eos=True) for p in prompts]
        stop = alone[1].text[4:6]
        again = [bundle.generate(p, max_new_tokens=9, ignore_eos=True, stop=stop) for p in prompts]
        decode.calls.clear()
        found = bundle.generate(prompts, max_new_tokens=9, ignore_eos=True, stop=stop)
    assert [(one.text, one.token_ids, one.finish_reason) for one in found] == [
        (one.text, one.token_ids, one.finish_reason) for one in again
    ]
    assert [one.finish_reason for one in found] == ["context", "stop", "length"]
    assert [call for call in decode.calls if call.startswith("keep")] == ["keep [1, 2]", "keep [1]"]


def test_an_interrupt_keeps_what_all_had(path: Path) -> None:
    bundle, (_, decode) = running(path)
    with bundle:
        run = _run(bundle, [[65] * 3, [66] * 5], 9)
        decode.interrupt_after = 9
        with pytest.raises(KeyboardInterrupt):
            list(run.pieces())
    assert [one.finish_reason for one in run.results()] == ["interrupted"] * 2
    assert len({one.new_tokens for one in run.results()}) == 1
    assert run.results()[0].new_tokens > 1


def _run(bundle: Bundle, prompts: list[list[int]], new_tokens: int) -> Run:
    options = GenerationOptions(max_new_tokens=new_tokens, ignore_eos=True)
    return Run(bundle._require_halves(), bundle.tokenizer, prompts, options)


def test_a_run_that_broke_off_cannot_go_on(path: Path) -> None:
    bundle, (_, decode) = running(path)
    with bundle:
        several = joined(bundle)
        decode.interrupt_after = 1
        with pytest.raises(KeyboardInterrupt):
            bundle.decode_joined(parts(0, 1), several)
        decode.interrupt_after = None
        with pytest.raises(RuntimeFault, match="HETC-R010"):
            bundle.decode_joined(parts(0, 1), several)


def test_another_bundle_does_not_take_them(bundle: Bundle, path: Path, golden: Golden) -> None:
    other, _ = running(path)
    with other, pytest.raises(RuntimeFault) as caught:
        other.decode_joined(parts(0, 1), joined(bundle))
    golden("joined-foreign.txt", str(caught.value))

"""Sequences at positions of their own, in one call: what each gives alone, whatever lies behind it.

Products may sum in another order where a call has more rows: against the interpreter, and against a
sequence alone, logits are near. In a batch of as many rows no bit differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.bundle.dtypes import BY_NAME
from hetc.ir.types import Array
from hetc.runtime.native.cache import Cache
from hetc.runtime.native.executor import NativeExecutor
from hetc.runtime.native.joined import NativeJoined
from tests.backends.native.running import Case, case, decoding, executors
from tests.backends.native.test_carried_states import two_layers
from tests.backends.native.test_native_attention import MASK, MASKS, OPTIONS, model

Executors = Mapping[str, NativeExecutor]
# From one token on, across tiles of 16 keys and a block of 64.
PASTS = (15, 1, 64, 40, 16)
STEPS = (1, 3, 1, 2)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Rows:
    """Sequences [B, S] of which the first `pasts` tokens are prefilled, each by itself."""

    tokens: Array
    pasts: Sequence[int]
    steps: Sequence[int] = STEPS

    @staticmethod
    def of(pasts: Sequence[int], steps: Sequence[int] = STEPS) -> Rows:
        size = (len(pasts), max(pasts) + sum(steps))
        return Rows(np.random.default_rng(8).integers(0, 50, size), pasts, steps)

    def parts(self, row: int) -> list[Array]:
        """The new tokens [1, T] of each step."""
        ends = self.pasts[row] + np.cumsum([0, *self.steps])
        return [self.tokens[row : row + 1, a:b] for a, b in pairwise(ends)]

    def joined(self, ran: Executors) -> NativeJoined:
        states = [
            decoding(ran["prefill"].run(self.tokens[row : row + 1, :past], None)[1])
            for row, past in enumerate(self.pasts)
        ]
        return ran["decode"].join(states, [1] * len(states))

    def together(self, joined: NativeJoined) -> list[Array]:
        """Logits [B, T, V] of each step."""
        each = [self.parts(row) for row in range(len(self.pasts))]
        return [joined.run(np.concatenate(parts)) for parts in zip(*each, strict=True)]

    def of_copies(self, ran: Executors, row: int) -> list[Array]:
        """Logits [T, V] of each step, of a batch that is one sequence again and again."""
        many = len(self.pasts)
        prompt = self.tokens[row : row + 1, : self.pasts[row]]
        _, state = ran["prefill"].run(np.repeat(prompt, many, axis=0), None)
        found = []
        for part in self.parts(row):
            logits, state = ran["decode"].run(np.repeat(part, many, axis=0), decoding(state))
            found.append(logits[row])
        return found

    def expected(self, made: Case, row: int) -> tuple[list[Array], dict[str, Array]]:
        """Logits [1, T, V] of each step, and the states at the end, by the interpreter."""
        past = self.pasts[row]
        _, states = made.reference(self.tokens[row : row + 1, :past], 0, made.empty(1))
        found = []
        for part in self.parts(row):
            logits, states = made.reference(part, past, states)
            past += part.shape[1]
            found.append(logits)
        return found, states


def spoil(joined: NativeJoined) -> None:
    """Whatever lies behind a sequence's own tokens is no number."""
    cache = cast(Cache, joined._cache)
    for state in cache._layout.states:
        if state.role == "whole":
            continue
        pair = 2 if state.role == "keys" and state.stored == "bf16" else 1
        for number, rows in enumerate(cache._bytes(state)):
            for row, past in enumerate(joined.pasts):
                own, whole = rows[row], -(-past // 16) * 16
                own[:, whole:] = 0xFF
                if number or state.role == "values":
                    own[:, past:] = 0xFF
                elif past % 16:
                    width = pair * BY_NAME[state.stored].itemsize
                    tiles = own.reshape(own.shape[0], -1, own.shape[2] // width, 16, width)
                    tiles[:, past // 16, :, past % 16 :] = 0xFF


def check(made: Case, rows: Rows, ran: Executors, tolerance: float = TOLERANCE) -> None:
    joined = rows.joined(ran)
    spoil(joined)
    found = rows.together(joined)
    assert joined.pasts == tuple(past + sum(rows.steps) for past in rows.pasts)
    states = joined.split()
    for row in range(len(rows.pasts)):
        expected, after = rows.expected(made, row)
        for ours, theirs, copies in zip(found, expected, rows.of_copies(ran, row), strict=True):
            assert ours[row].tobytes() == copies.tobytes()
            assert np.abs(ours[row] - theirs[0]).max() < tolerance
        for name, array in after.items():
            kept = states[row].numpy(name)
            assert (kept.shape, kept.dtype) == (array.shape, array.dtype)
            difference = np.abs(kept.astype(np.float32) - array.astype(np.float32))
            assert difference.max(initial=0) < tolerance


@pytest.mark.parametrize("options", OPTIONS)
def test_attention(options: str, tmp_path: Path) -> None:
    made = case(model(heads=6, groups=2, width=8, options=options))
    for threads in (1, 2):
        with executors(made, tmp_path, threads) as ran:
            check(made, Rows.of(PASTS), ran)
            check(made, Rows.of((3, 3, 70)), ran)


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_positions(name: str, tmp_path: Path) -> None:
    text = model(heads=6, groups=2, width=8, options="mask = %mask, causal")
    made = case(text.replace("  %15 =", f"  {MASK}{MASKS[name]}\n  %15 ="))
    with executors(made, tmp_path, 2) as ran:
        check(made, Rows.of(PASTS), ran)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("width", [7, 8])
def test_narrow_states(dtype: str, width: int, tmp_path: Path) -> None:
    made = case(model(heads=4, groups=2, width=width, options="causal", dtype=dtype))
    with executors(made, tmp_path, 2) as ran:
        # The interpreter rounds every result, the engine the state alone.
        check(made, Rows.of(PASTS), ran, 0.02)


def test_states_of_8_bits(tmp_path: Path) -> None:
    """A sequence that moves to another cache keeps its integers and scales."""
    made = case(model(heads=6, groups=2, width=8, options=OPTIONS[-1]))
    stored = Case(made.graph, made.weights, "i8")
    with executors(stored, tmp_path, 2) as ran:
        check(made, Rows.of(PASTS), ran, 0.05)


POSITIONS = """%i = iota {{size = T, start = P}}
  %f = cast %i {{dtype = f32}}
  %n = mul %f, 0.01
  %table = reshape %n {{shape = [{shape}, 1]}}
  %added = add %x, %table
  %r = mul %added, %w
  %h = add %held, 1.0
  return %r, %h"""


@pytest.mark.parametrize("shape", ["T", "1, T"])
def test_positions_of_each_sequence(shape: str, tmp_path: Path) -> None:
    """A table that has no axis of sequences meets one that has."""
    body, held = POSITIONS.format(shape=shape), {"held": "f32[B,4]"}
    made = case(two_layers(body, 20, {"w": "f32[20]"}, held))
    with executors(made, tmp_path, 2) as ran:
        check(made, Rows.of(PASTS), ran)


def test_recurrences(tmp_path: Path) -> None:
    body = """%p = mul %x, %w
  %d = sigmoid %p
  %a, %l = scan %x, %d {initial = %held, axis = 1}
  %r = tanh %a
  return %r, %l"""
    made = case(two_layers(body, 20, {"w": "f32[20]"}, {"held": "f32[B,20]"}))
    with executors(made, tmp_path, 2) as ran:
        check(made, Rows.of(PASTS), ran, 3e-5)


def test_random_lengths(tmp_path: Path) -> None:
    made = case(model(heads=4, groups=2, width=6, options="causal, window = 20, sinks = %14"))
    lengths = st.lists(st.integers(1, 80), min_size=1, max_size=6)
    with executors(made, tmp_path, 2) as ran:

        @settings(max_examples=40, deadline=None)
        @given(lengths, st.lists(st.integers(1, 4), min_size=1, max_size=3))
        def examine(pasts: list[int], steps: list[int]) -> None:
            check(made, Rows.of(pasts, steps), ran)

        examine()


def test_sequences_leave_come_back_and_fork(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    rows = Rows.of(PASTS, (1, 1, 1))
    expected = [rows.expected(made, row)[0] for row in range(len(PASTS))]
    steps = [[rows.parts(row)[step] for row in range(len(PASTS))] for step in range(3)]

    def near(found: Array, row: int, step: int) -> None:
        assert np.abs(found - expected[row][step][0]).max() < TOLERANCE

    with executors(made, tmp_path, 2) as ran:
        decode = ran["decode"]
        joined = rows.joined(ran)
        for row, found in enumerate(joined.run(np.concatenate(steps[0]))):
            near(found, row, 0)
        joined.keep([3, 0, 3])
        order = (3, 0, 3)
        assert joined.pasts == tuple(PASTS[row] + 1 for row in order)
        logits = joined.run(np.concatenate([steps[1][row] for row in order]))
        for found, row in zip(logits, order, strict=True):
            near(found, row, 1)
        third, first, _ = joined.split()
        # One of them alone, then both again, the other way round.
        logits, first = decode.run(steps[2][0], first)
        near(logits[0], 0, 2)
        again = decode.join([first, decoding(third)], [1, 1])
        assert again.pasts == (PASTS[0] + 3, PASTS[3] + 2)
        logits = again.run(np.concatenate([steps[2][3], steps[2][3]]))
        near(logits[1], 3, 2)


def test_states_of_several_sequences_and_of_numpy_are_joined(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    rows = Rows.of((9, 9, 30), (1, 2))
    with executors(made, tmp_path, 2) as ran:
        _, two = ran["prefill"].run(rows.tokens[:2, :9], None)
        _, one = ran["prefill"].run(rows.tokens[2:, :30], None)
        joined = ran["decode"].join([decoding(two), decoding(one.copy())], [2, 1])
        found = rows.together(joined)
        for row in range(3):
            for ours, theirs in zip(found, rows.expected(made, row)[0], strict=True):
                assert np.abs(ours[row] - theirs[0]).max() < TOLERANCE


def test_a_cache_grows_with_its_longest_sequence(tmp_path: Path) -> None:
    made = case(model(heads=2, groups=1, width=4, options="causal"))
    rows = Rows.of((60, 2), (30, 1))
    with executors(made, tmp_path, 2) as ran:
        check(made, rows, ran)

"""Captured decode steps whose caches drop or move rows: as halves they are attention windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hetc.errors import StateError
from hetc.ir.interpret import interpret
from hetc.ir.ops.source import Constant
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.passes.adopt_step import Step, adopt_step
from hetc.passes.step_positions import by_position
from tests.passes.test_adopt_step import GROWING, INPUTS, WRITTEN, weights

ROWS = 3
KEEPS = replace(INPUTS, keeps={"k": ROWS, "v": ROWS})
# A cache that grows and has all the rows that it keeps; the mask is that of the sequence's end.
FULL = (
    GROWING.replace("[1,1,P,4]", f"[1,1,{ROWS},4]")
    .replace("%v: f32[1,1,3,4]\n", "%v: f32[1,1,3,4], %size: bool[P,0]\n")
    .replace(
        "%11 = where %seen, 0.0",
        "%key = iota {size = 4}\n  %at_end = add %key, P-W3\n  %near = le %at_end, P\n"
        "  %11 = where %near, 0.0",
    )
    .replace("{scale = 0.5}", "{mask = %11, scale = 0.5}")
    .replace(
        "return %16, %9, %10, %15",
        "%17 = slice %9 {axis = 2, start = 1, stop = 4}\n"
        "  %18 = slice %10 {axis = 2, start = 1, stop = 4}\n  return %16, %17, %18, %15",
    )
)
# One that is written into, and full: all rows move up, and the new one takes the last place.
_MOVED = (
    "%most{0} = slice %{0} {{axis = 2, start = 1, stop = 6}}\n"
    "  %first{0} = slice %{0} {{axis = 2, start = 0, stop = 1}}\n"
    "  %moved{0} = concat [%most{0}, %first{0}] {{axis = 2}}\n"
    "  %last{0} = constant {{data = [-1], dtype = i64}}\n"
    "  %{1} = index_put %moved{0}, %6, [%last{0}] {{axes = [2]}}"
)
SHIFTED = WRITTEN.replace(
    "%9 = index_put %k, %6, [%8] {axes = [2]}", _MOVED.format("k", 9)
).replace("%10 = index_put %v, %6, [%8] {axes = [2]}", _MOVED.format("v", 10))


def window(step: Step) -> str:
    (line,) = (line for line in print_graph(step.decode).splitlines() if "= attention" in line)
    return line.partition("{")[2].partition("}")[0]


def assert_same(text: str, step: Step, rows: int) -> None:
    """Hold the half against the capture from when the cache is full, at every position."""
    captured, seeded = parse(text), np.random.default_rng(0)
    for past in range(rows, step.capacity):
        k, v = (seeded.normal(size=(1, 1, past, 4)).astype(np.float32) for _ in range(2))
        ids, at = np.array([[past % 9]]), np.array([[past]])
        given = {
            "ids": ids,
            "at": at,
            "length": np.array(past),
            "seen": np.ones((1, 1, 1, 6), bool),
        }
        given |= {"k": k[:, :, -rows:], "v": v[:, :, -rows:], "size": np.ones((past, 0), bool)}
        _, keys, _, logits = interpret(
            captured, [given[str(value.name)] for value in captured.inputs], weights
        )
        made = interpret(
            step.decode,
            [ids, np.array(past), k, v],
            lambda name: step.tables[name] if name in step.tables else weights(name),
        )
        np.testing.assert_allclose(made[0], logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made[1][:, :, -rows:], keys)


def test_a_full_window() -> None:
    step = adopt_step(parse(FULL), KEEPS, weights, 16)
    assert window(step) == "scale = 0.5, causal, window = 4"
    assert step.capacity == 8
    assert_same(FULL, step, ROWS)


def test_a_window_that_fills_is_the_same_half() -> None:
    filling = adopt_step(parse(GROWING), KEEPS, weights, 16)
    full = adopt_step(parse(FULL), KEEPS, weights, 16)
    assert print_graph(filling.decode) == print_graph(full.decode)
    assert list(filling.tables) == list(full.tables)


def test_rows_that_move_up() -> None:
    # Without the table of positions, to go on beyond the six rows.
    text = SHIFTED.replace("%1 = embedding %table, %at", "%1 = embedding %table, %low").replace(
        "%embed = weight", "%low = mul %at, 0\n  %embed = weight", 1
    )
    step = adopt_step(parse(text), INPUTS, weights, 16)
    assert window(step) == "scale = 0.5, causal, window = 6"
    assert step.capacity == 16
    assert_same(text, step, 6)


def test_a_mask_narrower_than_what_is_kept() -> None:
    narrow = FULL.replace("%near = le %at_end, P\n", "%near = gt %at_end, P-2\n")
    step = adopt_step(parse(narrow), KEEPS, weights, 16)
    assert window(step) == "scale = 0.5, causal, window = 2"
    assert_same(narrow, step, ROWS)


@pytest.mark.parametrize(
    ("text", "old", "new", "found"),
    [
        (
            FULL,
            "%17 = slice %9 {axis = 2, start = 1",
            "%17 = slice %9 {axis = 2, start = 2",
            "keeps",
        ),
        (FULL, "return %16, %17", "return %16, %9", "an output is"),
        (FULL, "%near = le %at_end, P\n", "%near = lt %at_end, P\n", "neither causal nor"),
        (SHIFTED, "data = [-1]", "data = [2]", "elsewhere than at the position"),
        (SHIFTED, "start = 1, stop = 6", "start = 0, stop = 5", "updates must broadcast"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, old: str, new: str, found: str) -> None:
    assert old in text
    with pytest.raises(StateError, match=found) as error:
        adopt_step(parse(text.replace(old, new)), KEEPS, weights, 16)
    assert error.value.code == "HETC-S040"


def test_attention_over_what_is_kept_is_refused() -> None:
    text = GROWING.replace("[1,1,P,4]", f"[1,1,{ROWS},4]").replace(
        "%12 = attention %6, %9, %10",
        "%17 = slice %9 {axis = 2, start = 1, stop = 4}\n"
        "  %18 = slice %10 {axis = 2, start = 1, stop = 4}\n  %12 = attention %6, %17, %18",
    )
    with pytest.raises(StateError, match="something else than a cache"):
        adopt_step(parse(text), KEEPS, weights, 16)


def test_a_cache_of_any_length_has_as_many_rows_as_are_needed() -> None:
    text = WRITTEN.replace("[1,1,6,4]", "[1,1,L,4]").replace("bool[1,1,1,6]", "bool[1,1,1,L]")
    assert adopt_step(parse(text), INPUTS, weights, 16).capacity == 8, "the table of positions"
    assert adopt_step(parse(text), INPUTS, weights, 7).capacity == 7


# Two heads, of which each adds to scores by how far a key is behind.
_BIASED = (
    WRITTEN.replace("[1,1,6,4]", "[1,2,6,4]")
    .replace("f32[4,4]", "f32[8,4]")
    .replace("%5 = reshape %4 {shape = [1, 1, 1, 4]}", "%5 = reshape %4 {shape = [1, 1, 2, 4]}")
    .replace(
        "%11 = where %seen, 0.0, -inf {dtype = f32}",
        "%key = iota {size = 6}\n  %keys = cast %key {dtype = f32}\n"
        "  %slopes = constant {data = [0.5, 0.25], dtype = f32}\n"
        "  %heads = reshape %slopes {shape = [1, 2, 1, 1]}\n  %added = mul %heads, %keys\n"
        "  %11 = where %seen, %added, -inf",
    )
    .replace(
        "%14 = reshape %13 {shape = [1, 1, 4]}",
        "%wide = reshape %13 {shape = [1, 1, 8]}\n  %14 = slice %wide {axis = 2, stop = 4}",
    )
)


def test_a_bias_by_distance_becomes_slopes() -> None:
    step = adopt_step(parse(_BIASED), INPUTS, biased_weights, 16)
    assert "slopes" in window(step)
    (slopes,) = (op for op in step.decode.ops if isinstance(op, Constant))
    assert slopes.data == (0.5, 0.25)
    captured, seeded = parse(_BIASED), np.random.default_rng(0)
    for past in range(step.capacity):
        k, v = (seeded.normal(size=(1, 2, 6, 4)).astype(np.float32) for _ in range(2))
        ids, seen = np.array([[past]]), (np.arange(6) <= past)[None, None, None]
        given = [ids, ids, np.array(past), seen, k, v]
        *_, logits = interpret(captured, given, biased_weights)
        made = interpret(
            step.decode,
            [ids, np.array(past), k[:, :, :past], v[:, :, :past]],
            lambda name: step.tables[name] if name in step.tables else biased_weights(name),
        )
        np.testing.assert_allclose(made[0], logits, rtol=1e-5, atol=1e-6)


def biased_weights(name: str) -> Array:
    matrix = weights(name)
    return np.concatenate([matrix, matrix + 1]) if name == "w" else matrix


def test_a_bias_that_is_none_of_distance_is_refused() -> None:
    text = _BIASED.replace(
        "%added = mul %heads, %keys", "%far = mul %keys, %keys\n  %added = mul %heads, %far"
    )
    with pytest.raises(StateError, match="not one for all heads"):
        adopt_step(parse(text), INPUTS, biased_weights, 16)


def test_what_is_added_for_a_mask_becomes_the_position() -> None:
    text = WRITTEN.replace("%seen: bool[1,1,1,6]", "%seen: f32[1,1,1,6]").replace(
        "%11 = where %seen, 0.0, -inf {dtype = f32}", "%11 = mul %seen, 1.0"
    )
    made = by_position(parse(text), INPUTS.counters, INPUTS.masks)
    assert [value.name for value in made.inputs] == ["ids", "k", "v", "size.P"]
    step = adopt_step(made, INPUTS, weights, 16)
    assert window(step) == "scale = 0.5, causal"

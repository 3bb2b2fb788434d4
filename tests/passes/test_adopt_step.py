"""A captured decode step becomes a decode half, or says what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.errors import StateError
from hetc.ir.interpret import interpret
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.passes.adopt_step import Step, StepInputs, adopt_step
from tests.golden import Golden

# One layer on a cache that is written into; 6 rows, of which the mask shows those written.
WRITTEN = """
graph @step(
  %ids: i64[1,1], %at: i64[1,1], %length: i64[], %seen: bool[1,1,1,6], %k: f32[1,1,6,4],
  %v: f32[1,1,6,4]
) {
  %embed = weight {name = "embed", type = f32[9,4]}
  %table = weight {name = "table", type = f32[8,4]}
  %w = weight {name = "w", type = f32[4,4]}
  %0 = embedding %embed, %ids
  %1 = embedding %table, %at
  %2 = add %0, %1
  %3 = reshape %2 {shape = [1, 4]}
  %4 = linear %3, %w
  %5 = reshape %4 {shape = [1, 1, 1, 4]}
  %6 = transpose %5 {perm = [0, 2, 1, 3]}
  %7 = iota {size = 1}
  %8 = add %7, %length
  %9 = index_put %k, %6, [%8] {axes = [2]}
  %10 = index_put %v, %6, [%8] {axes = [2]}
  %11 = where %seen, 0.0, -inf {dtype = f32}
  %12 = attention %6, %9, %10 {mask = %11, scale = 0.5}
  %13 = transpose %12 {perm = [0, 2, 1, 3]}
  %14 = reshape %13 {shape = [1, 1, 4]}
  %15 = linear %14, %embed
  %16 = add %length, 1
  return %16, %9, %10, %15
}
"""
INPUTS = StepInputs("ids", ("k", "v"), ("at", "length"), ("seen",))
# The same on a cache that grows.
GROWING = (
    WRITTEN.replace("[1,1,6,4]", "[1,1,P,4]")
    .replace("index_put %k, %6, [%8] {axes = [2]}", "concat [%k, %6] {axis = 2}")
    .replace("index_put %v, %6, [%8] {axes = [2]}", "concat [%v, %6] {axis = 2}")
    .replace("{mask = %11, scale", "{scale")
)


def weights(name: str) -> Array:
    sizes = {"embed": (9, 4), "table": (8, 4), "w": (4, 4)}
    seeded = np.random.default_rng(len(name))
    return seeded.normal(size=sizes[name]).astype(np.float32)


def adopted(text: str, capacity: int = 16, inputs: StepInputs = INPUTS) -> Step:
    return adopt_step(parse(text), inputs, weights, capacity)


def test_the_half_that_a_step_becomes(golden: Golden) -> None:
    golden("adopt_step.txt", print_graph(adopted(WRITTEN).decode))


def test_the_half_computes_what_the_step_does() -> None:
    step, captured = adopted(WRITTEN), parse(WRITTEN)
    seeded = np.random.default_rng(0)
    for past in range(step.capacity):
        k, v = (seeded.normal(size=(1, 1, 6, 4)).astype(np.float32) for _ in range(2))
        ids = np.array([[past]])
        seen = (np.arange(6) <= past)[None, None, None]
        following, keys, values, logits = interpret(
            captured, [ids, np.array([[past]]), np.array(past), seen, k, v], weights
        )
        made = interpret(
            step.decode,
            [ids, np.array(past), k[:, :, :past], v[:, :, :past]],
            lambda name: step.tables[name] if name in step.tables else weights(name),
        )
        np.testing.assert_allclose(made[0], logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made[1], keys[:, :, : past + 1])
        np.testing.assert_allclose(made[2], values[:, :, : past + 1])
        table = step.outputs[0]
        assert not isinstance(table, str)
        assert table[past] == following
    assert step.outputs[1:] == ("layer0.key.out", "layer0.value.out", "logits")


def test_the_smallest_of_what_bounds_positions_counts() -> None:
    assert adopted(WRITTEN).capacity == 6, "the rows of the cache"
    assert adopted(GROWING).capacity == 8, "the table of positions"
    assert adopted(GROWING, 5).capacity == 5


def test_a_window_is_found_by_its_mask() -> None:
    windowed = WRITTEN.replace(
        "%11 = where %seen, 0.0, -inf {dtype = f32}",
        "%key = iota {size = 6}\n  %oldest = sub %length, 3\n  %near = gt %key, %oldest\n"
        "  %both = and %seen, %near\n  %11 = where %both, 0.0, -inf {dtype = f32}",
    )
    assert "causal, window = 3" in print_graph(adopted(windowed).decode).replace("\n", " ")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            "%11 = where %seen, 0.0, -inf {dtype = f32}",
            "%key = iota {size = 6}\n  %far = mul %key, %key\n  %added = cast %far {dtype = f32}\n"
            "  %11 = where %seen, %added, -inf",
            "the mask adds something to scores",
        ),
        ("mask = %11, ", "", "rows of the cache that are not written yet"),
        ("[%8] {axes = [2]}", "[%7] {axes = [2]}", "elsewhere than at the position"),
        (
            "%12 = attention %6, %9",
            "%q = add %9, 1.0\n  %12 = attention %6, %q",
            "add reads a cache",
        ),
        ("return %16, %9, %10, %15", "return %16, %9, %9, %15", "not every cache"),
        (
            "%12 = attention %6, %9, %10",
            "%12 = attention %6, %9, %v",
            "something else than a cache",
        ),
    ],
)
def test_what_does_not_fit_is_refused(old: str, new: str, found: str) -> None:
    assert old in WRITTEN
    with pytest.raises(StateError, match=found) as error:
        adopted(WRITTEN.replace(old, new))
    assert error.value.code == "HETC-S040"

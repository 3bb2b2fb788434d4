"""Which configurations are compiled, and which are launched."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.triton.cost import BUCKETS, Resources, Space
from hetc.backends.triton.kernel import Kernel
from hetc.bundle.launches import Choice, Config
from hetc.errors import BackendError
from tests.backends.triton.aot.products import norm, product, tile

CONFIGS = [
    tile(bm, bn, bk, warps=warps, stages=stages)
    for bm in (16, 32, 64, 128, 256)
    for bn in (32, 64, 128, 256)
    for bk in (32, 64)
    for warps in (4, 8)
    for stages in (2, 3, 4)
]
GPUS = ("a100-80", "l40s", "h200", "b200")


def space(kernel: Kernel, target: str = "h200") -> Space:
    return Space(kernel, targets.load(target))


def chosen_for(rows: int, choices: tuple[Choice, ...]) -> Choice:
    return next(each for each in choices if each.rows is None or rows <= each.rows)


def area(config: Config) -> int:
    return config.constants["BM"] * config.constants["BN"]


@pytest.mark.parametrize("target", GPUS)
def test_a_few_are_compiled_and_all_of_them_fit(target: str) -> None:
    whole = space(product(*CONFIGS), target)
    picked = whole.worth_compiling(2)
    assert 3 <= len(picked) <= 2 * len(BUCKETS) + 1
    assert list(picked) == sorted(set(picked))
    for number in picked:
        assert whole.accumulators[number] <= 192
        shared = whole.kernel.work.tile(CONFIGS[number], 1).shared_bytes
        assert shared <= whole.limits.block_shared_bytes
    assert any(whole.accumulators[number] <= 64 for number in picked)
    assert len(whole.worth_compiling(4)) > len(picked)


@pytest.mark.parametrize("target", GPUS)
def test_more_rows_take_larger_tiles(target: str) -> None:
    choices = choose(space(product(*CONFIGS), target))
    # Between these, a wave of blocks more can be worth smaller tiles.
    chosen = [chosen_for(rows, choices) for rows in (16, 256, 8192, 10**6)]
    areas = [area(CONFIGS[choice.config]) for choice in chosen]
    assert areas == sorted(areas)
    assert areas[0] < areas[-1]
    # Few rows are no reason to compute with many.
    assert CONFIGS[choices[0].config].constants["BM"] <= 32


def test_of_those_in_danger_of_spilling_one_is_tried_for_a_bucket() -> None:
    daring = [tile(128, 256, 64, warps=8, stages=stages) for stages in (2, 3, 4)]
    slow = tile(64, 64, 32)
    whole = space(product(*daring, slow))
    # Without the rule, the three would be the fastest for many rows.
    assert whole.rank((8192,), range(4), {})[3] == 3
    assert whole.worth_compiling(2) == (2, 3)


def test_one_that_never_spills_is_always_tried() -> None:
    large = [tile(128, 192, 64, warps=8, stages=stages) for stages in (2, 3)]
    whole = space(product(*large, tile(64, 32, 32, warps=1), n=3 * 2**14))
    assert whole.accumulators == (96, 96, 64)
    assert whole.rank((8192,), range(3), {})[-1] == 2
    assert 2 in whole.worth_compiling(1)


def test_a_kernel_without_accumulators_has_choices_too() -> None:
    rows = space(norm())
    assert rows.worth_compiling(2) == (0, 1)
    assert [choice.rows for choice in choose(rows)][-1] is None


def test_a_pipeline_that_triton_did_not_make_is_priced_too() -> None:
    whole = space(product(tile(64, 64, 32)))
    choices = whole.choose({0: Resources(40, 0)})
    assert [choice.rows for choice in choices] == [None]


def test_choices_cover_all_rows_in_order() -> None:
    choices = choose(space(product(*CONFIGS)))
    limits = [choice.rows for choice in choices]
    assert limits[-1] is None
    assert limits[:-1] == sorted(limit for limit in limits if limit is not None)
    assert all(one.config != next_.config for one, next_ in pairwise(choices))
    assert "bound by" in choices[0].why


def test_a_wave_of_blocks_more_wants_smaller_tiles() -> None:
    """1,536 rows are 192 large tiles, two waves on 132 multiprocessors as the 256 of 2,048 rows."""
    configs = (tile(128, 256, 64, warps=8, stages=4), tile(128, 128, 64, warps=4, stages=3))
    kernel = space(product(*configs, n=4096, k=14336))
    choices = kernel.choose({0: Resources(225, 196640), 1: Resources(235, 98328)})
    assert [chosen_for(rows, choices).config for rows in (1024, 1536, 2048)] == [0, 1, 0]


def test_what_was_compiled_decides() -> None:
    """Of two equals the one that left room for a second block is launched."""
    configs = (tile(128, 128, 64, warps=8), tile(128, 128, 64, warps=8))
    kernel = space(product(*configs, k=512))
    cramped, roomy = Resources(230, 96 * 1024), Resources(100, 96 * 1024)
    assert kernel.choose({0: cramped, 1: roomy})[-1].config == 1
    assert kernel.choose({0: roomy, 1: cramped})[-1].config == 0
    spills = dataclasses.replace(roomy, spill_bytes=8)
    assert {choice.config for choice in kernel.choose({0: spills, 1: roomy})} == {1}


@given(
    rows=st.integers(1, 100_000),
    number=st.integers(0, len(CONFIGS) - 1),
    target=st.sampled_from(GPUS),
)
def test_estimates_are_times_and_more_rows_take_no_less(
    rows: int, number: int, target: str
) -> None:
    whole = space(product(*CONFIGS), target)
    estimate = whole.estimate(CONFIGS[number], rows)
    more = whole.estimate(CONFIGS[number], 2 * rows)
    if estimate is None:
        assert more is None
        return
    assert more is not None
    assert 0 < estimate.seconds <= more.seconds
    # No launch is faster than the arithmetic of the data sheet.
    flops = estimate.blocks * whole.kernel.work.tile(CONFIGS[number], rows).flops
    assert estimate.seconds > flops / whole.target.peak_rate("bf16")


def test_a_target_without_units_is_told() -> None:
    device = dataclasses.replace(targets.load("h200").device, units=None)
    with pytest.raises(BackendError, match="how many multiprocessors"):
        Space(product(), targets.Target(device)).worth_compiling(2)


def choose(whole: Space) -> tuple[Choice, ...]:
    """Choices as if all that is worth it had compiled to what the model guesses."""
    resources = {}
    for number in whole.worth_compiling(2):
        guess = whole.kernel.work.tile(whole.kernel.configs[number], 1)
        resources[number] = Resources(min(255, guess.accumulators + 64), guess.shared_bytes)
    return whole.choose(resources)

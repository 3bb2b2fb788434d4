"""Plans of the planner, executed tile by tile, give the logits of the reference interpreter."""

from __future__ import annotations

from collections import Counter

import pytest

from hetc.backends.dataflow.interpret import PlanCheck, verify_plan
from hetc.backends.dataflow.schema import Plan, Request
from hetc.ir.types import Array
from tests.backends.dataflow.conftest import TinyModels
from tests.backends.dataflow.tiny_models import PROMPT, STEPS, Made, small_tiles

TOLERANCE = 1e-4
FAMILIES = ("llama", "gemma2", "mixtral", "gpt_oss", "deepseek_v3", "lfm2")


@pytest.mark.parametrize("target", ["grid-8x8", "grid-8x8:2", "sn40l:2", "grid-8x8:4", "sn40l:4"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_reference(
    tiny_models: TinyModels, family: str, batch: int, target: str
) -> None:
    model = tiny_models(family, batch)
    for request in (Request(), small_tiles(batch)):
        error = model.largest_error(model.run(model.made(target, request)))
        assert error <= TOLERANCE


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "gemma3_text", "qwen3_moe"])
def test_other_families(tiny_models: TinyModels, family: str) -> None:
    """Turned matrices, looked-up positions, ALiBi, layers of several kinds, wide routers."""
    model = tiny_models(family, 1)
    assert model.largest_error(model.run(model.made("grid-8x8:2"))) <= TOLERANCE


@pytest.mark.parametrize("target", ["grid-8x8", "sn40l:2", "sn40l:4"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bloom", "gemma3_text"])
def test_row_groups_follow_each_other(tiny_models: TinyModels, family: str, target: str) -> None:
    """Sequences one behind the other, through weights that stay and states in parts."""
    model = tiny_models(family, 6)
    for groups, prefetch in ((2, True), (6, True), (3, False)):
        made = model.made(target, Request(row_groups=groups, prefetch=prefetch))
        assert {block.row_groups for block in made.plan.blocks if block.repeat > 1} == {groups}
        assert model.largest_error(model.run(made)) <= TOLERANCE


def test_plans_cover_what_this_is_about(tiny_models: TinyModels) -> None:
    """Loops, prefetch over iterations, several sections, split K, rings and chosen experts."""
    made = tiny_models("gpt_oss", 1).made("sn40l:2")
    (loop,) = [block for block in made.plan.blocks if block.repeat > 1]
    assert {issue.ahead for issue in loop.issue} == {0, 1}
    assert {append.ring for append in loop.appends} == {None, 7}
    assert {stream.kind for stream in loop.streams} == {"weight", "state", "expert", "lookup"}
    assert PROMPT < 7 < PROMPT + STEPS
    tiled = tiny_models("llama", 1).made("grid-8x8", small_tiles(1)).plan
    assert len(tiled.sections) > 1
    assert {stage.split_k for block in tiled.blocks for stage in block.stages} == {1, 3}


@pytest.mark.parametrize(
    "request_without",
    [
        Request(looping=False),
        Request(prefetch=False),
        Request(overlap=False),
        Request(fused=False),
    ],
    ids=["looping", "prefetch", "overlap", "fused"],
)
def test_without_a_technique(tiny_models: TinyModels, request_without: Request) -> None:
    model = tiny_models("mixtral", 1)
    made = model.made("sn40l:2", request_without)
    assert model.largest_error(model.run(made)) <= TOLERANCE


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt_oss"])
def test_matrices_in_two_tiers(tiny_models: TinyModels, family: str, share: float) -> None:
    model = tiny_models(family, 3)
    for request in (Request(), small_tiles(3)):
        made = model.made("sn40l:2", request, main_memory=share)
        assert {item.tier for item in made.plan.memory} == {"hbm", "ddr"}
        assert model.largest_error(model.run(made)) <= TOLERANCE


def test_a_run_starts_again_with_another_state(tiny_models: TinyModels) -> None:
    model = tiny_models("gpt_oss", 1)
    run = model.run(model.made("sn40l:2"))
    model.largest_error(run)
    run.load_state(model.states, PROMPT)
    assert model.largest_error(run) <= TOLERANCE


def test_a_run_starts_from_nothing(tiny_models: TinyModels) -> None:
    model = tiny_models("llama", 1)
    run = model.run(model.made("sn40l:2"))
    run.load_state({name: state[:, :, :0] for name, state in model.states.items()}, 0)
    found = [run.step(model.tokens[:, at : at + 1]) for at in range(PROMPT + 1)]
    assert abs(found[-1][:, 0] - model.logits[:, 0]).max() <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_bring_the_bytes_that_the_plan_says(tiny_models: TinyModels, family: str) -> None:
    model = tiny_models(family, 1)
    made = model.made("sn40l:2")
    run = model.run(made)
    run.step(model.new_tokens[:, :1])
    assert run.bytes_taken == bytes_of_a_token(made.plan)


def bytes_of_a_token(plan: Plan) -> Counter[str]:
    """For one sequence also the experts are as many as expected."""
    return Counter(
        {
            stream.id: stream.bytes * block.repeat
            for block in plan.blocks
            for stream in block.streams
        }
    )


def test_verify_finds_the_first_divergence(tiny_models: TinyModels) -> None:
    model = tiny_models("llama", 3)
    made = model.made("sn40l:2")
    wrong = model.logits.copy()
    wrong[0, 2:, 5] += 1.0

    def check(made: Made, expected: Array) -> PlanCheck:
        return verify_plan(
            made.plan,
            made.graph,
            model.planned.lowered.weights,
            model.states,
            model.new_tokens,
            expected,
            past=PROMPT,
            tolerance=TOLERANCE,
        )

    found = check(made, model.logits)
    assert found.ok
    assert found.max_abs_error <= TOLERANCE
    assert (found.same_top, found.rows) == (3 * STEPS, 3 * STEPS)
    found = check(made, wrong)
    assert found.first_divergence == PROMPT + 2
    assert found.max_abs_error == pytest.approx(1.0, abs=TOLERANCE)

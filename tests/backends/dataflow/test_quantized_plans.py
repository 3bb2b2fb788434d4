"""Plans of matrices in groups of integers: they stream as they are stored, behind their scales."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hetc.backends.dataflow.lint import lint
from hetc.backends.dataflow.schema import Request
from hetc.driver import CompileOptions
from hetc.driver.spatial import plan_spatially
from hetc.errors import BackendError
from hetc.passes.workload import Workload
from hetc.targets import load
from tests.backends.dataflow.tiny_models import PROMPT, Subject, small_tiles, subject_of
from tests.driver.models import build, save
from tests.frontends.gguf_models import llama_tensors, of_every_kind, write_gguf
from tests.frontends.sources_models import tiny_config, tiny_model

TOLERANCE = 1e-4
Subjects = Callable[[int], Subject]


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """`llamas(batch)`: a Llama from a file that has all of GGUF's kinds."""
    path = tmp_path_factory.mktemp("quantized") / "m.gguf"
    sizes = {"head_dim": 64, "hidden_size": 256, "intermediate_size": 512}
    model = tiny_model(tiny_config("llama", **sizes))
    write_gguf(path, llama_tensors(model), config=model.config, kind=of_every_kind)
    options = CompileOptions(prefill="h200", decode="sn40l", dtype="fp32")
    return cache(lambda batch: subject_of(path, batch, options))


@pytest.mark.parametrize("target", ["grid-8x8", "sn40l:2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_those_of_the_reference(llamas: Subjects, batch: int, target: str) -> None:
    model = llamas(batch)
    for request in (Request(), small_tiles(batch)):
        error = model.largest_error(model.run(model.made(target, request)))
        assert error <= TOLERANCE


def test_row_groups_pass_what_stays(llamas: Subjects) -> None:
    model = llamas(4)
    made = model.made("sn40l:2", Request(row_groups=2))
    assert {block.row_groups for block in made.plan.blocks if block.repeat > 1} == {2}
    assert model.largest_error(model.run(made)) <= TOLERANCE


def test_matrices_in_two_tiers(llamas: Subjects) -> None:
    model = llamas(1)
    made = model.made("sn40l:2", main_memory=0.6)
    assert len({item.tier for item in made.plan.memory if item.use == "matrix"}) == 2
    assert model.largest_error(model.run(made)) <= TOLERANCE


@pytest.mark.parametrize(("target", "batch"), [("sn40l", 1), ("sn40l:2", 4)])
def test_plans_lint_and_stream_what_is_stored(llamas: Subjects, target: str, batch: int) -> None:
    machine, decode = load(target), llamas(1).planned.outlined["decode"]
    spatial = plan_spatially(
        decode, machine, Workload(batch, PROMPT, 8), Request(place_moves=2_000)
    )
    assert not lint(spatial.plan, machine, spatial.sharded.graph)
    (loop,) = (block for block in spatial.plan.blocks if block.repeat > 1)
    brought = {name: s for s in loop.streams if s.kind == "weight" for name in s.tensors}
    (up,) = (name for name in brought if name.endswith("up_proj.weight.int4"))
    assert brought[up].id.endswith(".w")
    assert brought[up.replace("int4", "scale")].id.endswith(".v")
    # Two numbers in a byte, over the sockets; gate is stored in bytes, and streams by itself.
    assert brought[up].tensors == (up,)
    assert brought[up].bytes == 512 * 256 // 2 // machine.count


def test_experts_in_groups_are_refused(tmp_path: Path) -> None:
    source = save(build("qwen3_moe", hidden_size=64, moe_intermediate_size=32), tmp_path / "model")
    model = subject_of(source, 1, CompileOptions(decode="sn40l", quantize="int8"))
    with pytest.raises(BackendError) as refused:
        model.made("grid-8x8")
    assert refused.value.code == "HETC-E036"

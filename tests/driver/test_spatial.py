"""Plans of whole models: every family on several machines lints, is deterministic and obeys
requests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from hetc.backends.dataflow.lint import lint
from hetc.backends.dataflow.plan_file import plan_bytes, read_plan
from hetc.backends.dataflow.schema import Pin, Request, Stage, StageRequest, Tiling
from hetc.backends.dataflow.simulate import simulate, speeds_of
from hetc.driver import CompileOptions
from hetc.driver.lower import lower
from hetc.driver.policy import Policy
from hetc.driver.spatial import Spatial, plan_spatially
from hetc.errors import BackendError, InputError, PlanError, TargetError
from hetc.frontends.open_model import open_model
from hetc.ir.graph import Graph
from hetc.ir.text import parse
from hetc.passes.outline_layers import outline_layers
from hetc.passes.simplify import simplify
from hetc.passes.workload import Workload
from hetc.targets import load
from tests.driver.models import build, save

QUICK = Request(place_moves=2_000)
FAMILIES = ("llama", "gemma2", "mixtral", "gpt_oss", "deepseek_v3", "bloom", "gpt2", "lfm2")


@cache
def decode(family: str) -> Graph:
    with TemporaryDirectory() as folder:
        model = open_model(save(build(family), Path(folder) / family))
        return outline_layers(simplify(lower(model, CompileOptions(), Policy()).program.decode))


def planned(
    family: str = "llama", target: str = "sn40l:2", batch: int = 1, request: Request = QUICK
) -> Spatial:
    return plan_spatially(decode(family), load(target), Workload(batch, 40, 8), request)


def stages(spatial: Spatial) -> dict[str, Stage]:
    return {stage.name: stage for block in spatial.plan.blocks for stage in block.stages}


def test_the_fastest_number_of_row_groups_is_taken() -> None:
    """None for one sequence, some where a batch is bound by its chain of stages, and never worse
    than all sequences together."""
    assert groups_of(planned(batch=1)) == {1}
    chosen = planned(batch=16)
    assert groups_of(chosen) > {1}
    whole = planned(batch=16, request=msgspec.structs.replace(QUICK, row_groups=1))
    assert groups_of(whole) == {1}
    assert chosen.simulated.cycles < whole.simulated.cycles


def test_what_hangs_on_all_sequences_passes_together() -> None:
    """The experts that are read are those of the whole batch."""
    assert groups_of(planned("mixtral", batch=16)) == {1}


def test_row_groups_as_asked() -> None:
    spatial = planned(batch=8, request=msgspec.structs.replace(QUICK, row_groups=2))
    assert groups_of(spatial) == {1, 2}
    assert spatial.plan.request.row_groups == 2
    assert not [finding for finding in spatial.findings if finding.severity == "error"]


@pytest.mark.parametrize(
    ("family", "groups", "found"),
    [
        ("llama", 3, "3 groups of 8 sequences"),
        ("llama", 0, "0 groups of 8 sequences"),
        ("mixtral", 2, "no loop whose stages, and what stays in them, are on the chip together"),
    ],
)
def test_row_groups_that_cannot_be(family: str, groups: int, found: str) -> None:
    with pytest.raises(BackendError) as refused:
        planned(family, batch=8, request=Request(row_groups=groups))
    assert (refused.value.code, refused.value.found) == ("HETC-E035", found)


def groups_of(spatial: Spatial) -> set[int]:
    return {block.row_groups for block in spatial.plan.blocks}


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_of_every_family_lint(family: str) -> None:
    for target, batch in (("sn40l", 1), ("sn40l:4", 3), ("sn50:2", 16)):
        spatial = planned(family, target, batch)
        errors = [finding for finding in spatial.findings if finding.severity == "error"]
        assert not errors, (target, batch, errors[:3])
        assert all(check.ok for check in spatial.plan.checks if check.code != "HETC-L281")
        assert 0 < spatial.simulated.mbu <= spatial.simulated.mbu_bound


def test_the_rows_of_a_matrix_are_those_of_its_product() -> None:
    """GPT-2 stores [K, N], 32 by 48 on a socket: cut along K, it is all there but not in rows."""
    spatial = planned("gpt2")
    (whole,) = (item for item in spatial.plan.memory if item.tensor == "attn.c_attn.weight")
    assert whole.rows == (0, 48)
    along_k = msgspec.structs.replace(whole, rows=(0, 32))
    memory = tuple(along_k if item is whole else item for item in spatial.plan.memory)
    plan = msgspec.structs.replace(spatial.plan, memory=memory)
    findings = lint(plan, load("sn40l:2"), spatial.sharded.graph)
    found = {item.code for item in findings if "c_attn.weight" in item.place}
    assert found >= {"HETC-L253", "HETC-L254"}


@pytest.mark.parametrize("target", ["grid-8x8", "plasticine", "wormhole", "blackhole:2"])
def test_plans_for_every_grid_lint(target: str) -> None:
    spatial = planned("llama", target)
    assert [finding for finding in spatial.findings if finding.severity == "error"] == []


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_the_event_heap_times_a_plan_alike(family: str) -> None:
    plan, speeds = planned(family).plan, speeds_of(load("sn40l:2"))
    longest, events = (simulate(plan, speeds, mode=mode).cycles for mode in ("maxplus", "heap"))
    assert longest == pytest.approx(events, rel=1e-9)


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (plan_bytes(planned("gpt_oss", "sn40l:4", 3).plan) for _ in range(2))
    assert first == second
    assert read_plan(first, "here") == planned("gpt_oss", "sn40l:4", 3).plan


def test_a_layer_is_planned_once_however_often_it_is_repeated() -> None:
    (loop,) = (block for block in planned().plan.blocks if block.repeat > 1)
    assert len(loop.calls) == loop.repeat == 2
    weights = [item for item in planned().plan.memory if item.block == loop.id]
    assert weights
    assert all(item.count == 2 and item.stride >= item.bytes for item in weights)


def test_what_a_user_fixes_stays() -> None:
    tiling = Tiling(outputs=32, inputs=16, rows=1)
    fixed = (
        StageRequest(stage="mlp.up_proj*", lanes=4, split_k=2, tiling=tiling),
        StageRequest(stage="mlp.down_proj", lanes=3, depth_bytes=1024),
    )
    pins = (Pin(unit="b1.s0.w0", site=(5, 7)),)
    request = msgspec.structs.replace(QUICK, stages=fixed, pins=pins, seed=3)
    spatial = planned(request=request)
    assert spatial.plan.request == request
    assert not [finding for finding in spatial.findings if finding.severity == "error"]
    found = stages(spatial)
    up = found["mlp.up_proj+gate_proj"]
    assert (up.units.lanes, up.split_k, up.tiling) == (4, 2, tiling)
    assert found["mlp.down_proj"].units.lanes == 3
    streams = {stream.id: stream for block in spatial.plan.blocks for stream in block.streams}
    (down,) = (streams[name] for name in found["mlp.down_proj"].streams)
    assert down.depth_bytes == 1024
    assert down.why == "as requested"
    assert spatial.plan.sections[0].sites["b1.s0.w0"] == (5, 7)


def test_each_technique_saves_time() -> None:
    def tpot(**off: bool) -> float:
        request = msgspec.structs.replace(QUICK, **off)
        return planned("llama", "sn40l:2", request=request).simulated.tpot_us

    best = tpot()
    assert best <= tpot(overlap=False)
    assert best < tpot(prefetch=False) < tpot(looping=False) < tpot(fused=False)


def test_what_exceeds_the_main_memory_streams_from_the_next(tmp_path: Path) -> None:
    small = _with_memory(tmp_path, hbm=40_000, ddr=10_000_000)
    spatial = plan_spatially(decode("llama"), load(small), Workload(1, 40, 8), QUICK)
    assert not [finding for finding in spatial.findings if finding.severity == "error"]
    tiers = {item.tier for item in spatial.plan.memory}
    assert tiers == {"hbm", "ddr"}
    roomy = plan_spatially(decode("llama"), load("sn40l"), Workload(1, 40, 8), QUICK)
    assert spatial.simulated.tpot_us > roomy.simulated.tpot_us


def test_a_machine_that_is_too_small_says_what_is_missing(tmp_path: Path) -> None:
    small = _with_memory(tmp_path, hbm=40_000, ddr=40_000)
    with pytest.raises(BackendError, match="one socket cannot hold its part") as refused:
        plan_spatially(decode("llama"), load(small), Workload(1, 40, 8), QUICK)
    assert refused.value.code == "HETC-E031"
    assert "GB of weights" in refused.value.found


CHANGED_OUTSIDE = """
graph @layer0(%x: f32[B,T,8], %weight: f32[8,8], %seen: f32[B,T,8]) {
  %0 = linear %x, %weight
  %1 = add %0, %seen
  return %1
}

graph @decode(%tokens: i64[B,T], %past: i64[], %seen0: f32[B,T,8], %seen1: f32[B,T,8])
    -> (logits: f32[B,T,16], seen0.out: f32[B,T,8], seen1.out: f32[B,T,8]) {
  %0 = weight {name = "embed", type = f32[16,8]}
  %1 = embedding %0, %tokens
  %2 = weight {name = "layers.0", type = f32[8,8]}
  %3 = call @layer0(%1, %2, %seen0)
  %4 = weight {name = "layers.1", type = f32[8,8]}
  %5 = call @layer0(%3, %4, %seen1)
  %6 = linear %5, %0
  %7 = add %seen0, %3
  %8 = add %seen1, %5
  return %6, %7, %8
}
"""


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (Request(stages=(StageRequest(stage="*"), StageRequest(stage="mlp.upproj"))), "mlp.upproj"),
        (Request(pins=(Pin(unit="b9.s0.w0", site=(0, 0)),)), "b9.s0.w0"),
    ],
)
def test_a_request_about_nothing_is_refused(request_: Request, found: str) -> None:
    with pytest.raises(InputError, match="does not have") as refused:
        planned(request=request_)
    assert (refused.value.code, refused.value.found) == ("HETC-L003", found)
    names = {name for stage in stages(planned()).values() for name in (stage.id, stage.name)}
    assert names.issuperset(refused.value.expected.removesuffix(", ...").split(", "))


def test_a_state_that_changes_outside_of_its_layer_is_refused() -> None:
    with pytest.raises(BackendError, match="changed outside of the layer") as refused:
        plan_spatially(parse(CHANGED_OUTSIDE), load("grid-8x8"), Workload(1, 40, 8), QUICK)
    assert refused.value.code == "HETC-E034"
    assert refused.value.found == "add makes seen0 in b3 (decode)"


def test_a_target_without_a_grid_is_refused() -> None:
    with pytest.raises(TargetError, match="a spatial plan needs a target with a grid"):
        planned(target="h200")


def test_a_pin_outside_the_grid_is_refused() -> None:
    pins = (Pin(unit="b1.s0.w0", site=(500, 7)),)
    with pytest.raises(PlanError) as refused:
        planned(request=msgspec.structs.replace(QUICK, pins=pins))
    assert refused.value.code == "HETC-D111"


def _with_memory(folder: Path, *, hbm: int, ddr: int) -> str:
    """A file of an SN40L whose memories are this small."""
    text = (Path(__file__).parents[2] / "hetc/targets/sn40l.toml").read_text("utf-8")
    text = text.replace("value = 68719476736", f"value = {hbm}")
    text = text.replace("value = 1649267441664", f"value = {ddr}")
    path = folder / "small.toml"
    path.write_text(text, "utf-8")
    return str(path)

"""`hetc simulate` of a bundle's plan, and of the ideal plan of a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hetc.report.plan_simulation import plan_simulation_lines
from hetc.report.simulation import simulation_lines
from tests.cli.conftest import Hetc
from tests.cli.test_simulate import REQUEST
from tests.golden import Golden

FLOW = (*REQUEST, "--decode", "sn40l:2")


def test_a_plan_in_words(bundle: Path, bundle_plan: Path, hetc: Hetc, golden: Golden) -> None:
    ran = hetc("simulate", bundle, "--sensitivity")
    assert (ran.code, ran.err) == (0, "")
    golden("simulate_plan.txt", ran.out)
    alone = hetc("simulate", bundle_plan, "--sensitivity").out
    assert alone.splitlines()[1:] == ran.out.splitlines()[1:]
    assert alone.startswith("plan.json    graph ")


def test_the_cycles_of_a_plan_add_up(bundle_plan: Path, hetc: Hetc) -> None:
    told = hetc("simulate", bundle_plan, "--json").json
    assert told["simulated"] is True
    assert told["calibrated"] is False
    for stage in told["stages"]:
        parts = [stage[kind] for kind in ("busy", "stalled", "starved", "idle")]
        assert sum(parts) == pytest.approx(1)
        assert min(parts) >= 0
    for queue in told["queues"]:
        if queue["bytes_read"]:
            waits = queue["waits_for_room"] + queue["waits_for_order"]
            assert queue["busy"] + waits == pytest.approx(1)
    assert told["energy_j"] == pytest.approx(625 * told["tpot_s"])


def test_a_plan_is_timed_in_three_ways(bundle_plan: Path, hetc: Hetc) -> None:
    longest, events, closed = (
        hetc("simulate", bundle_plan, "--mode", mode, "--json").json
        for mode in ("maxplus", "heap", "analytic")
    )
    assert events["tpot_s"] == pytest.approx(longest["tpot_s"], rel=1e-9)
    assert closed["tpot_s"] == pytest.approx(longest["analytic_tpot_s"], rel=1e-9)
    assert [found["simulated"] for found in (longest, events, closed)] == [True, True, False]
    assert "by the closed form" in hetc("simulate", bundle_plan, "--mode", "analytic").out


def test_a_trace_has_a_lane_for_every_stage(bundle_plan: Path, hetc: Hetc, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    told = hetc("simulate", bundle_plan, "--trace", first, "--json").json
    text = hetc("simulate", bundle_plan, "--trace", second).out
    assert first.read_bytes() == second.read_bytes()
    assert told["trace"] == {"path": str(first), "bytes": first.stat().st_size}
    assert f"trace       {second}" in text
    events = json.loads(first.read_text(encoding="utf-8"))["traceEvents"]
    lanes = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    stages = [stage["id"] for stage in told["stages"]]
    assert [lane for lane in lanes if lane in stages] == stages
    assert sorted(tmp_path.iterdir()) == [first, second], "nothing half-written is left"


def test_a_trace_that_cannot_be_written(bundle_plan: Path, hetc: Hetc, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "such" / "file"):
        ran = hetc("simulate", bundle_plan, "--trace", path)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("error[HETC-U014]: the file cannot be written\n")
    assert list(tmp_path.iterdir()) == []


def test_a_model_has_an_ideal_plan(model: Path, hetc: Hetc, golden: Golden) -> None:
    told = hetc("simulate", model, *FLOW, "--techniques", "--sensitivity", "--json").json
    golden("simulate_ideal.txt", "\n".join(simulation_lines(told)))
    everything, *others = told["techniques"]
    assert everything["tpot_s"] == told["plan"]["tpot_s"]
    assert all(one["ratio"] >= 1 for one in others)
    effects = [abs(one["tpot_s_at_high"] - one["tpot_s_at_low"]) for one in told["sensitivity"]]
    assert effects == sorted(effects, reverse=True)
    assert told["not_varied"] == []


def test_an_ideal_plan_takes_what_a_placed_one_takes_whatever_is_calibrated(
    model: Path, bundle: Path, hetc: Hetc
) -> None:
    placed = hetc("simulate", bundle, "--json").json
    request = ("--prompt-tokens", 32, "--new-tokens", 32, "--calibrated", "sambaflow")
    told = hetc("simulate", model, *request, "--json").json
    assert told["calibrated"] == ["sambaflow"]
    assert {name: placed[name] for name in told["plan"]} == told["plan"]


def test_a_prediction_outlives_its_plan(model: Path, hetc: Hetc) -> None:
    ran = hetc("simulate", model, *FLOW, "--batch", 10**8)
    assert (ran.code, ran.err) == (0, "")
    assert "plan        none: one socket cannot hold its part of the model (HETC-E031)" in ran.out


def test_no_look_without_a_plan(model: Path, hetc: Hetc, tmp_path: Path) -> None:
    trace = tmp_path / "token.json"
    ran = hetc("simulate", model, *REQUEST, "--decode", "h100", "--trace", trace)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error[HETC-U016]: there is no plan to look into: ")
    assert not trace.exists()


def test_options_of_the_other_kind(bundle: Path, hetc: Hetc) -> None:
    ran = hetc("simulate", bundle, "--calibrated", "sambaflow", "--techniques")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error[HETC-U015]: these options do not fit a plan, which is decided already\n"
        f"  at {bundle}\n"
        "  found: --calibrated, --techniques\n"
        "  do: leave them out, or simulate the model with them\n"
    )


def test_a_bundle_without_a_plan(model: Path, hetc: Hetc, tmp_path: Path) -> None:
    assert hetc("compile", model, "-o", tmp_path / "gpu", "--decode", "h200").code == 0
    ran = hetc("simulate", tmp_path / "gpu")
    assert (ran.code, ran.out, ran.err.split(":")[0]) == (2, "", "error[HETC-U012]")


def test_long_tables_show_the_busiest_stages(bundle_plan: Path, hetc: Hetc) -> None:
    found = hetc("simulate", bundle_plan, "--json").json
    several = 40 // len(found["stages"]) + 1
    found["stages"] = [
        stage | {"id": f"x{copy}.{stage['id']}"}
        for copy in range(several)
        for stage in found["stages"]
    ]
    count = len(found["stages"])
    short = plan_simulation_lines(found)
    assert sum(line.startswith("x") for line in short) == 20
    assert any(line.startswith(f"{count - 20} stages more, each active") for line in short)
    every = plan_simulation_lines(found, every_stage=True)
    assert sum(line.startswith("x") for line in every) == count

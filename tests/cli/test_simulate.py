"""`hetc simulate`: the table, the object, and what both say of themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.cli.conftest import Hetc
from tests.driver.models import CONTEXT
from tests.golden import Golden

REQUEST = ("--prompt-tokens", 32, "--new-tokens", 9)
SIMULATED = (*REQUEST, "--prefill", "h100", "--decode", "sn40l:2", "--calibrated", "sambaflow")


def test_a_pair_beside_each_of_its_devices(model: Path, hetc: Hetc, golden: Golden) -> None:
    pair = ("--prefill", "grid-8x8:4", "--decode", "grid-8x8", "--batch", 3)
    ran = hetc("simulate", model, *REQUEST, *pair)
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.splitlines()) <= 12
    golden("simulate.txt", ran.out)


def test_the_object_adds_up(model: Path, hetc: Hetc) -> None:
    told = hetc("simulate", model, *SIMULATED, "--json").json
    assert [machine["name"] for machine in told["machines"]] == [
        "h100 → sn40l:2",
        "h100",
        "sn40l:2",
    ]
    pair, gpu, flow = told["machines"]
    assert {key: told[key] for key in pair} == pair, "the machine that was asked for is the object"
    assert (pair["ttft_s"], pair["tpot_s"]) == (gpu["ttft_s"], flow["tpot_s"])
    assert told["handoff_s"] > 0 == gpu["handoff_s"]
    for machine in told["machines"]:
        decode = 8 * machine["tpot_s"]
        assert machine["total_s"] == pytest.approx(
            machine["ttft_s"] + machine["handoff_s"] + decode
        )
        assert machine["decode_tokens_per_s"] == pytest.approx(1 / machine["tpot_s"])
        for phase, name in (("prefill", "ttft_s"), ("decode", "tpot_s")):
            assert math.fsum(machine["effects"][phase].values()) == pytest.approx(machine[name])


def test_every_machine_says_where_its_constants_are_from(model: Path, hetc: Hetc) -> None:
    told = hetc("simulate", model, *SIMULATED, "--json").json
    assert [machine["calibrated"] for machine in told["machines"]] == [
        *(["sambaflow"], [], ["sambaflow"])
    ]
    assert all(machine["estimated"] is True for machine in told["machines"])
    (calibration,) = told["calibrations"]
    assert calibration["target"] == "sn40l:2"
    assert 1 <= len(calibration["constants"]) <= 2
    text = hetc("simulate", model, *SIMULATED).out
    assert "no time was measured; sn40l:2 calibrated for sambaflow (" in text
    plain = hetc("simulate", model, *REQUEST, "--json").json
    assert plain["calibrations"] == plain["calibrated"] == []
    assert "nothing calibrated" in hetc("simulate", model, *REQUEST).out


def test_one_device_alone(model: Path, hetc: Hetc) -> None:
    alone = ("--prefill", "h100", "--decode", "h100")
    told = hetc("simulate", model, *REQUEST, *alone, "--json").json
    assert [machine["name"] for machine in told["machines"]] == ["h100"]
    assert told["handoff_s"] == 0
    assert told["plan"] is None
    assert told["plan_reason"]["code"] == "HETC-T013"
    text = hetc("simulate", model, *REQUEST, *alone).out
    assert "hand-off" not in text
    assert "plan" not in text, "a device without a grid has none, and that is no news"


def test_narrow_formats_take_less(model: Path, hetc: Hetc) -> None:
    narrow = ("--weights", "f8", "--weights", "*.mlp.*=f4", "--kv", "f8")
    wide = hetc("simulate", model, *REQUEST, "--json").json
    told = hetc("simulate", model, *REQUEST, *narrow, "--json").json
    assert told["workload"]["weights"] == ["f8", "*.mlp.*=f4"]
    assert (told["plan"], told["plan_reason"]["code"]) == (None, "HETC-U017")
    assert told["handoff_bytes"] < wide["handoff_bytes"]
    assert told["effects"]["decode"]["weights"] < wide["effects"]["decode"]["weights"]
    assert "weights f8, weights *.mlp.*=f4, KV f8" in hetc("simulate", model, *REQUEST, *narrow).out


def test_a_request_longer_than_the_model_can(model: Path, hetc: Hetc) -> None:
    ran = hetc("simulate", model, "--prompt-tokens", 1 << 20)
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-U011]")
    assert ran.out == ""


def test_the_usual_request_is_what_the_model_holds(model: Path, tmp_path: Path, hetc: Hetc) -> None:
    told = hetc("simulate", model, "--json").json["workload"]
    assert told["prompt_tokens"] + told["new_tokens"] <= CONTEXT
    compiled = hetc("inspect", model, "--json").json["workload"]
    assert {name: compiled[name] for name in ("prompt_tokens", "new_tokens")} == {
        name: told[name] for name in ("prompt_tokens", "new_tokens")
    }
    asked = hetc("compile", model, "-o", tmp_path / "bundle", "--prompt-tokens", CONTEXT)
    assert (asked.code, asked.err.split(":")[0]) == (2, "error[HETC-U011]")
    assert not (tmp_path / "bundle").exists()

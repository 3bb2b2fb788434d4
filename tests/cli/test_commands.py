"""Every command on a real, tiny model."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from hetc import driver
from hetc.errors import Reason
from tests.cli.conftest import Hetc

IR = "graph @f(%x: f32[B,4]) -> (y: f32[B,4]) {\n  %0 = add %x, 0.0\n  return %0\n}\n"


def test_compile_prints_the_summary(model: Path, hetc: Hetc, tmp_path: Path) -> None:
    path = tmp_path / "out"
    ran = hetc("compile", model, "-o", path, "--prompt-tokens", 8, "--new-tokens", 4)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[0].startswith("tiny-llama")
    assert "at 8 tokens" in ran.out
    assert lines[-1].endswith(f"→ {path}/")
    assert ran.err == "", "no progress in a pipe"
    again = hetc("compile", model, "-o", path)
    assert again.code == 2, "a bundle is not replaced unasked"
    assert hetc("compile", model, "-o", path, "--overwrite").code == 0


def test_compile_json(model: Path, hetc: Hetc, tmp_path: Path) -> None:
    ran = hetc("compile", model, "-o", tmp_path / "out", "--dtype", "fp16", "--json")
    assert ran.json["kind"] == "runnable"
    assert ran.json["model"]["dtype"] == "f16"
    size = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    manifest = (tmp_path / "out" / "manifest.json").stat().st_size
    assert ran.json["bytes"] == size - manifest
    assert all(seconds >= 0 for seconds in ran.json["seconds"].values())


@pytest.mark.parametrize("by", ["op", "layer", "phase"])
def test_inspect_a_bundle(by: str, bundle: Path, hetc: Hetc) -> None:
    ran = hetc("inspect", bundle, "--by", by)
    assert ran.code == 0
    wanted = {"op": "layers.0-1.", "layer": "model.layers.0", "phase": "weights and state"}
    assert wanted[by] in ran.out
    assert "prefill" in ran.out
    assert "decode" in ran.out


def test_inspect_a_model_shows_what_its_bundle_shows(model: Path, bundle: Path, hetc: Hetc) -> None:
    from_model, from_bundle = hetc("inspect", model, "--json"), hetc("inspect", bundle, "--json")
    assert from_model.json["ops"] == from_bundle.json["ops"]
    assert from_model.json["cut"] == from_bundle.json["cut"]


def test_inspect_with_other_targets(model: Path, bundle: Path, hetc: Hetc) -> None:
    ran = hetc("inspect", model, "--decode", "grid-8x8", "--json")
    assert ran.json["targets"] == {"prefill": "h200", "decode": "grid-8x8"}
    ran = hetc("inspect", bundle, "--decode", "grid-8x8")
    assert ran.code == 2
    assert "HETC-U005" in ran.err
    assert "--decode" in ran.err


def test_inspect_one_op(bundle: Path, hetc: Hetc) -> None:
    name = "layers.1.mlp.down_proj"
    rows = hetc("inspect", bundle, "--op", name, "--json").json["ops"]
    assert [row["phase"] for row in rows] == ["prefill", "decode"]
    assert {row["name"] for row in rows} == {f"model.{name}"}
    assert f"prefill: model.{name}" in hetc("inspect", bundle, "--op", name).out


def test_inspect_groups(bundle: Path, hetc: Hetc) -> None:
    made = hetc("inspect", bundle, "--by", "layer", "--json").json
    counted = sum(group["ops"] * group["count"] for group in made["groups"])
    assert counted == len(made["ops"])
    made = hetc("inspect", bundle, "--by", "phase", "--json").json
    assert [group["name"] for group in made["groups"]] == ["prefill", "decode"]


def test_explain(bundle: Path, hetc: Hetc) -> None:
    ran = hetc("explain", bundle, "layers.1.mlp.down_proj")
    assert ran.code == 0
    assert "why       HETC-P1" in ran.out
    assert hetc("explain", bundle, "cut").out.startswith("cut   h200 and sn40l over pcie5\n")
    ran = hetc("explain", bundle, "layers.1.mlp.down_prj")
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-U030]")


def test_run_streams_text_and_ends_with_timings(bundle: Path, hetc: Hetc) -> None:
    ran = hetc("run", bundle, "-p", "w5 w9 w7", "-n", 6, "--ignore-eos")
    assert ran.code == 0
    assert "6 new tokens" in ran.err
    assert "3 prompt tokens" in ran.err or "4 prompt tokens" in ran.err
    told = hetc("run", bundle, "-p", "w5 w9 w7", "-n", 6, "--ignore-eos", "--json").json
    assert ran.out == told["text"] + "\n"
    assert len(told["token_ids"]) == told["new_tokens"] == 6


def test_run_executors_agree(bundle: Path, hetc: Hetc) -> None:
    arguments = ("run", bundle, "--tokens", "5,9,7", "-n", 5, "--ignore-eos", "--json")
    onnx = hetc(*arguments, "--executor", "onnx").json
    reference = hetc(*arguments, "--executor", "reference").json
    assert onnx["executors"] == {"prefill": "onnx", "decode": "onnx"}
    assert reference["executors"] == {"prefill": "reference", "decode": "reference"}
    assert onnx["token_ids"] == reference["token_ids"]


def test_run_reads_stdin(bundle: Path, hetc: Hetc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w5 w9 w7\n")))
    piped = hetc("run", bundle, "-p", "-", "-n", 4, "--ignore-eos").out
    assert piped == hetc("run", bundle, "-p", "w5 w9 w7", "-n", 4, "--ignore-eos").out


def test_run_with_a_seed(bundle: Path, hetc: Hetc) -> None:
    arguments = ("run", bundle, "-p", "w5", "-n", 8, "--ignore-eos", "--temperature", 2, "--json")
    first, second, other = (hetc(*arguments, "--seed", seed).json for seed in (1, 1, 2))
    assert first["token_ids"] == second["token_ids"] != other["token_ids"]


def test_run_says_which_executor_was_passed_over(
    bundle: Path, hetc: Hetc, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = driver.load

    def without_onnx(path: Path, *, executor: str | None = None) -> object:
        loaded = load(path, executor="reference")
        loaded.fallbacks = (Reason("HETC-R002", "it is not here", at="onnx"),)
        return loaded

    monkeypatch.setattr(driver, "load", without_onnx)
    ran = hetc("run", bundle, "-p", "w5", "-n", 2)
    assert "note: an executor was passed over: HETC-R002 at onnx: it is not here" in ran.err
    assert len(hetc("run", bundle, "-p", "w5", "-n", 2, "--json").json["fallbacks"]) == 1


def test_a_bundle_without_a_tokenizer_takes_and_gives_token_ids(
    model: Path, hetc: Hetc, tmp_path: Path
) -> None:
    plain = shutil.copytree(model, tmp_path / "plain")
    for file in plain.glob("token*"):
        file.unlink()
    assert hetc("compile", plain, "-o", tmp_path / "out").code == 0
    ran = hetc("run", tmp_path / "out", "--tokens", "5,9,7", "-n", 3, "--ignore-eos")
    assert len([int(item) for item in ran.out.split(",")]) == 3
    ran = hetc("run", tmp_path / "out", "-p", "w5")
    assert ran.code == 2
    assert "error[HETC-R030]:" in ran.err


def test_a_plan_is_inspected_and_not_run(model: Path, hetc: Hetc, tmp_path: Path) -> None:
    folder = tmp_path / "config-alone"
    folder.mkdir()
    shutil.copy(model / "config.json", folder)
    ran = hetc("compile", folder, "-o", tmp_path / "plan")
    assert "a plan: no weights" in ran.out
    assert hetc("inspect", tmp_path / "plan").code == 0
    ran = hetc("run", tmp_path / "plan", "--tokens", "1")
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-R001]")
    assert hetc("verify", tmp_path / "plan").code == 0


def test_verify(bundle: Path, hetc: Hetc, tmp_path: Path) -> None:
    ran = hetc("verify", bundle)
    assert ran.code == 0
    assert "FAILED" not in ran.out
    told = hetc("verify", bundle, "--json").json
    assert told["ok"]
    assert told["first_divergence"] is None
    assert told["max_abs_error"] < 1e-3
    spoilt = shutil.copytree(bundle, tmp_path / "spoilt")
    with (spoilt / "decode" / "graph.hetc").open("ab") as file:
        file.write(b"\n")
    ran = hetc("verify", spoilt)
    assert ran.code == 1
    assert "FAILED" in ran.out
    assert "decode/graph.hetc" in ran.out
    ran = hetc("verify", spoilt, "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)


def test_verify_against_the_model(bundle: Path, model: Path, hetc: Hetc) -> None:
    told = hetc("verify", bundle, "--against", model, "--json").json
    assert told["ok"]
    assert len(told["checks"]) == 3
    assert told["max_abs_error"] < 1e-3


def test_opt(hetc: Hetc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "graph.hetc"
    file.write_text(IR, encoding="utf-8")
    ran = hetc("opt", file, "-p", "simplify")
    assert ran.code == 0
    assert "add" not in ran.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ran.out.encode())))
    assert hetc("opt", "-", "-p", "simplify").out == ran.out, "what comes out can go in"
    ran = hetc("opt", file, "-p", "simplfy")
    assert (ran.code, "simplify" in ran.err) == (2, True)
    file.write_text("graph nonsense", encoding="utf-8")
    assert hetc("opt", file, "-p", "simplify").code == 2


def test_targets(hetc: Hetc, tmp_path: Path) -> None:
    listed = hetc("targets", "list")
    assert "NVIDIA H200" in listed.out
    assert "ethernet400" in listed.out
    assert "data sheet" in hetc("targets", "show", "h200:2").out
    assert hetc("targets", "show", "h200:2", "--json").json["count"] == 2
    good = Path(driver.__file__).parents[1] / "targets" / "grid-8x8.toml"
    assert hetc("targets", "check", good).code == 0
    bad = tmp_path / "bad.toml"
    bad.write_text(good.read_text("utf-8").replace('"dataflow"', '"flow"'), "utf-8")
    ran = hetc("targets", "check", bad)
    assert ran.code == 1
    assert "HETC-T0" in ran.out
    told = hetc("targets", "check", bad, "--json").json
    assert not told["ok"]
    assert told["problems"][0]["code"].startswith("HETC-T0")


def test_doctor(hetc: Hetc) -> None:
    ran = hetc("doctor")
    assert ran.code == 0
    assert "onnxruntime" in ran.out

"""`hetc lint` on the plan of a bundle, on plan files, and on what is no plan."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Hetc


def test_the_plan_of_a_bundle(hetc: Hetc, bundle: Path) -> None:
    done = hetc("lint", bundle)
    assert done.code == 0
    assert "no findings" in done.out


def test_a_plan_that_was_tampered_with(hetc: Hetc, bundle: Path, tmp_path: Path) -> None:
    plan = json.loads((bundle / "decode/plan.json").read_text("utf-8"))
    plan["memory"][0]["offset"] += 2**40
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan), "utf-8")
    done = hetc("lint", path)
    assert done.code == 1
    assert "error[HETC-L250]" in done.out


def test_what_is_no_plan(hetc: Hetc, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": "hetc.plan/2", "surprise": 1}', "utf-8")
    done = hetc("lint", path)
    assert done.code == 2
    assert "HETC-L001" in done.err
    assert "surprise" in done.err


def test_a_plan_of_another_version(hetc: Hetc, bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "decode/plan.json").read_text("utf-8")
    path = tmp_path / "plan.json"
    path.write_text(text.replace('"hetc.plan/2"', '"hetc.plan/9"'), "utf-8")
    done = hetc("lint", path)
    assert done.code == 2
    assert "HETC-L002" in done.err


def test_a_file_that_is_not_there(hetc: Hetc, tmp_path: Path) -> None:
    done = hetc("lint", tmp_path / "nowhere.json")
    assert done.code == 2
    assert "HETC-L001" in done.err

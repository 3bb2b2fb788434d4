"""docs/cli.md documents every field of every object, and none that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Hetc
from tests.cli.test_commands import IR
from tests.cli.test_simulate import SIMULATED

BENCHED = ("--prompt", 4, "--context", 3, "--batch", 2, "--repeats", 1, "--steps", 1)
PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def documented(heading: str) -> dict[str, bool]:
    """Path of a field -> whether it is always there, from the table under `heading`."""
    parts = HEADING.split(PAGE.read_text(encoding="utf-8"))
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    text = text.partition("\n## ")[0]
    fields: dict[str, bool] = {}
    for row in re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", row[0]):
            fields[path] = "(optional)" not in row[1]
    assert fields
    return fields


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The path of every leaf; an empty or missing part ends where it is."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from paths(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list) and value:
        for item in value:
            yield from paths(item, f"{at}[]")
    else:
        yield at


def matches(path: str, field: str, value_ends_early: bool) -> bool:
    if field.endswith("*"):
        return path.startswith(field[:-1]) or field.startswith(path)
    return path == field or (
        value_ends_early and re.match(rf"{re.escape(path)}[.\[]", field) is not None
    )


def check(heading: str, value: dict[str, Any]) -> None:
    fields = documented(heading)
    found = set(paths(value))
    for path in found:
        assert any(matches(path, field, True) for field in fields), f"{path} is not documented"
    for field, always in fields.items():
        assert not always or any(matches(path, field, True) for path in found), f"no {field}"


def test_documented_fields(
    hetc: Hetc,
    model: Path,
    bundle: Path,
    plan_file: Path,
    other_plan_file: Path,
    tmp_path: Path,
) -> None:
    ir = tmp_path / "graph.hetc"
    ir.write_text(IR, encoding="utf-8")
    looks = ("--techniques", "--sensitivity", "--trace", tmp_path / "token.json")
    commands: dict[str, tuple[object, ...]] = {
        "hetc compile": (model, "-o", tmp_path / "out"),
        "hetc explain": (bundle, "cut"),
        "hetc run": (bundle, "-p", "w5", "-n", 2, "--ignore-eos"),
        "hetc verify": (bundle,),
        "hetc lint": (bundle,),
        "hetc simulate": (model, *SIMULATED, *looks),
        "hetc plot": (plan_file, "-o", tmp_path / "pictures"),
        "hetc export": (plan_file, "--format", "csv", "-o", tmp_path / "tables"),
        "hetc diff": (plan_file, other_plan_file),
        "hetc targets list": (),
        "hetc targets show": ("h200",),
        "hetc targets check": (Path("hetc/targets/grid-8x8.toml").resolve(),),
        "hetc opt": (ir, "-p", "simplify"),
        "hetc doctor": (),
        "hetc bench": (bundle, *BENCHED),
    }
    for name, arguments in commands.items():
        check(f"`{name} --json`", hetc(*name.split()[1:], *arguments, "--json").json)


def test_documented_fields_of_a_simulated_plan(
    hetc: Hetc, bundle_plan: Path, tmp_path: Path
) -> None:
    looks = ("--sensitivity", "--trace", tmp_path / "token.json")
    check("`hetc simulate PLAN --json`", hetc("simulate", bundle_plan, *looks, "--json").json)


@pytest.mark.parametrize("by", ["op", "layer", "phase"])
def test_documented_fields_of_inspect(by: str, hetc: Hetc, model: Path, bundle: Path) -> None:
    for source in (model, bundle):
        made = hetc("inspect", source, "--by", by, "--json").json
        check("`hetc inspect --json`", made)
        page = PAGE.read_text(encoding="utf-8")
        for group in made["groups"]:
            assert f"(`{', '.join(group)}`)" in page


def test_documented_fields_of_an_error(hetc: Hetc) -> None:
    check("Error object", hetc("compil", "--json").json)


def test_every_command_of_the_page_is_checked() -> None:
    headings = HEADING.findall(PAGE.read_text(encoding="utf-8"))
    assert len(headings) == len(set(headings)) == 20


def test_documented_fields_of_tune(
    hetc: Hetc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    from hetc.runtime.cuda.driver import Driver
    from tests.runtime.cuda.stub_driver import StubBindings
    from tests.runtime.cuda.toy_plan import TOY_KERNELS, write_toy

    stub = Driver(StubBindings(TOY_KERNELS))
    monkeypatch.setattr("hetc.runtime.cuda.device.open_driver", lambda: stub)
    path = write_toy(tmp_path / "toy")
    check("`hetc tune --json`", hetc("tune", path, "--json").json)
    shown = hetc("tune", path).out
    assert "Stub H200 · sm_90 · CUDA 13.0" in shown
    assert "embed-1" in shown

"""Every command on a model without phases: it works, or says in one error why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Hetc
from tests.cli.test_documented_json import check
from tests.driver.whole_models import CASES, Case

CASE: Case = CASES["mlp"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "mlp.pt2"
    torch.export.save(CASE.export(CASE.module()), path)
    return path


@pytest.fixture
def whole(hetc: Hetc, source: Path) -> Path:
    """Its bundle, compiled by the first test that asks."""
    path = source.parent / "bundle"
    if not path.exists():
        assert hetc("compile", source, "-o", path).code == 0
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, allow_pickle=False, x=CASE.inputs(3)["x"].numpy())
    return path


def test_compile_says_why(hetc: Hetc, source: Path, tmp_path: Path) -> None:
    ran = hetc("compile", source, "-o", tmp_path / "out")
    assert ran.code == 0
    assert "no phases   HETC-I205: no input is tokens, but x float32[*,16]" in ran.out
    assert "verified    compiled graph = imported graph" in ran.out
    check("`hetc compile --json`", {**_with_a_workload(hetc, source, tmp_path)})


def _with_a_workload(hetc: Hetc, source: Path, folder: Path) -> dict[str, object]:
    """The object of a compile; the page lists the fields of a workload, of which here are none."""
    found = hetc("compile", source, "-o", folder / "json", "--json").json
    assert found["workload"] is None
    assert found["contract_sha256"] is None
    assert found["forward"]["reason"].startswith("HETC-I205")
    workload = dict.fromkeys(("batch", "context", "prompt_tokens", "new_tokens"))
    return found | {"workload": workload, "forward": None}


@pytest.mark.parametrize("by", ["op", "layer", "phase"])
def test_inspect_shows_the_same_of_model_and_bundle(
    by: str, hetc: Hetc, source: Path, whole: Path
) -> None:
    shown = [hetc("inspect", path, "--by", by).out for path in (source, whole)]
    tables = [text.partition("\n\n")[2] for text in shown]
    assert tables[0] == tables[1]
    assert "forward" in tables[0]
    found = hetc("inspect", whole, "--by", by, "--json").json
    assert found["workload"] == {"sizes": {"N0": 1}}
    assert {op["phase"] for op in found["ops"]} == {"forward"}
    assert found["model"]["no_phases"].startswith("HETC-I205")
    assert list(found["cut"]["phase_seconds"]) == ["forward"]


def test_explain(hetc: Hetc, whole: Path) -> None:
    ran = hetc("explain", whole, "cut")
    assert ran.code == 0
    assert "hand-off" not in ran.out
    assert "forward" in ran.out
    ran = hetc("explain", whole, "0")
    assert "forward: 0   linear on " in ran.out
    assert hetc("explain", whole, "nothing").code == 2


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_run(suffix: str, hetc: Hetc, whole: Path, inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out.{suffix}"
    ran = hetc("run", whole, "--inputs", inputs, "-o", output)
    assert ran.code == 0
    assert "float32[3,4]" in ran.out
    again = tmp_path / "again.npz"
    assert hetc("run", whole, "--inputs", inputs, "-o", again, "--executor", "reference").code == 0
    if suffix == "npz":
        given, module = CASE.inputs(3), CASE.module()
        (expected,) = CASE.expected(module, given)
        for path in (output, again):
            with np.load(path) as file:
                np.testing.assert_allclose(file[file.files[0]], expected, atol=1e-5)
    check("`hetc run --inputs --json`", hetc("run", whole, "--inputs", inputs, "--json").json)


def test_verify(hetc: Hetc, whole: Path, source: Path) -> None:
    ran = hetc("verify", whole, "--against", source)
    assert ran.code == 0, ran.out
    assert ran.out.count("  ok  ") == 3
    check("`hetc verify --json`", hetc("verify", whole, "--json").json)
    assert hetc("verify", whole, "--through", "plan").code == 1


def test_plot_and_diff(hetc: Hetc, whole: Path, tmp_path: Path) -> None:
    assert hetc("plot", whole, "-o", tmp_path / "pictures").code == 0
    names = [path.name for path in (tmp_path / "pictures").iterdir()]
    assert names == ["roofline-forward.svg"]
    assert hetc("diff", whole, whole).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--tokens", "1,2"),
        ("run", "-p", "text"),
        ("bench",),
        ("tune",),
        ("lint",),
        ("simulate",),
        ("export", "--format", "csv", "-o", "nowhere"),
    ],
)
def test_what_needs_phases(command: tuple[str, ...], hetc: Hetc, whole: Path) -> None:
    name, *options = command
    ran = hetc(name, whole, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error[HETC-B017]: this bundle has no phases")
    assert "Traceback" not in ran.err


def test_simulate_of_a_model_that_has_none(hetc: Hetc, source: Path) -> None:
    ran = hetc("simulate", source)
    assert ran.code == 2
    assert ran.err.startswith("error[HETC-U019]")


def test_inputs_that_cannot_be_read(hetc: Hetc, whole: Path, tmp_path: Path) -> None:
    pickled, text, other = tmp_path / "in.npz", tmp_path / "a.safetensors", tmp_path / "in.txt"
    np.savez(pickled, x=np.array([object()]))
    text.write_bytes(b"no tensors")
    other.write_text("1 2 3")
    for path in (pickled, text, other):
        ran = hetc("run", whole, "--inputs", path)
        assert ran.code == 2
        assert ran.err.startswith("error[HETC-I016]"), path
    assert hetc("run", whole, "-o", tmp_path / "out.npz").err.startswith("error[HETC-U006]")


def test_a_bundle_with_phases_takes_no_inputs(hetc: Hetc, bundle: Path, inputs: Path) -> None:
    ran = hetc("run", bundle, "--inputs", inputs)
    assert ran.code == 2
    assert ran.err.startswith("error[HETC-B018]")

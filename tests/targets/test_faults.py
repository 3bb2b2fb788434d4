"""Every fault of a target file gets its own error, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hetc import targets
from hetc.errors import TargetError
from hetc.targets.files import shipped_files
from tests.golden import Golden

GOOD = shipped_files()["grid-8x8"].read_text("utf-8")
FICTIONAL = 'source = "fictional, chosen for tests"'

# name of the fault -> (text in the good file, what stands there instead)
FAULTS = {
    "unknown key": ("main_memory =", "main_memry ="),
    "unknown tier key": ("[memory.hbm]", "[memory.hbm]\nlatency = 3"),
    "unknown number key": ("{ value = 8388608,", "{ value = 8388608, sauce = 1,"),
    "unknown format": ("bf16 = {", "bf17 = {"),
    "unknown assumption": ("[assumption.launch_us]", "[assumption.lunch_us]"),
    "unknown kind": ('kind = "dataflow"', 'kind = "fpga"'),
    "bad name": ('name = "grid-8x8"', 'name = "Grid 8x8"'),
    "number without value": ("{ value = 8388608, unit", "{ unit"),
    "bare number": ('power_w = { value = 10, unit = "W", ' + FICTIONAL + " }", "power_w = 10"),
    "text for a number": ("{ value = 8388608,", '{ value = "8 MiB",'),
    "truth for a number": ("{ value = 8388608,", "{ value = true,"),
    "not a number": ("{ value = 8388608,", "{ value = nan,"),
    "endless integer": ("{ value = 8388608,", "{ value = 1" + 400 * "0" + ","),
    "gigabytes": ('{ value = 64e9, unit = "B/s"', '{ value = 64, unit = "GB/s"'),
    "no source": ('{ value = 8388608, unit = "B", ' + FICTIONAL, '{ value = 8388608, unit = "B"'),
    "empty source": (
        '{ value = 8388608, unit = "B", ' + FICTIONAL,
        '{ value = 8388608, source = " "',
    ),
    "range without reason": ("{ value = 8388608,", "{ value = 8388608, range = [1, 9e9],"),
    "assumption without range": ("range = [0.5, 0.5]\n", ""),
    "outside its range": ("range = [0.5, 0.5]", "range = [0.6, 0.9]"),
    "range of three": ("range = [0.5, 0.5]", "range = [0.5, 0.5, 0.5]"),
    "fraction above 1": ("value = 0.5\nrange = [0.5, 0.5]", "value = 1.5\nrange = [1, 2]"),
    "negative bytes": ("{ value = 8388608,", "{ value = -8388608,"),
    "part of a byte": ("{ value = 8388608,", "{ value = 8388608.5,"),
    "main memory is no tier": ('main_memory = "hbm"', 'main_memory = "dram"'),
    "unknown link": ('host = "pcie4"', 'host = "pcie44"'),
    "too many units": ("compute_units = { value = 32,", "compute_units = { value = 33,"),
    "unknown topology": ('topology = "mesh"', 'topology = "hypercube"'),
    "reconfiguration without range": (", range = [10, 10], why", ", source"),
    "grid on a gpu": ('kind = "dataflow"', 'kind = "gpu"'),
    "section launch left out": ("assumption.section_launch_us", "assumption.step_us"),
    "all-reduce left out": ("assumption.all_reduce_us", "assumption.step_us"),
    "section of a gpu": ('kind = "dataflow"', 'kind = "gpu"\nsection = "layer"'),
    "unknown section": ('kind = "dataflow"', 'kind = "dataflow"\nsection = "model"'),
    "calibration of nothing": ("[rate]", '[calibration.x]\nrows = "1"\nconstants = {}\n[rate]'),
    "calibration of three": (
        "[rate]",
        "\n".join(
            ["[calibration.x]", 'rows = "1"']
            + [
                f'constants.{name} = {{ value = 1, range = [0, 2], why = "x" }}'
                for name in ("launch_us", "step_us", "sequence_us")
            ]
            + ["[rate]"]
        ),
    ),
    "integer too long to print": ("{ value = 8388608,", "{ value = 0x" + 5000 * "f" + ","),
    "schema of the future": ('kind = "dataflow"', 'kind = "dataflow"\nschema = "hetc.target/2"'),
    "not TOML": ("[rate]", "[rate"),
    "memory is a list": ("[memory.hbm]", "[[memory.hbm]]"),
}

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "chip.toml"
        file.write_text(text, "utf-8")
        return file

    return write


def test_the_good_file_is_good(write: Write) -> None:
    assert targets.check(write(GOOD)) == []
    assert targets.load(write(GOOD)) == targets.load("grid-8x8")


def test_every_fault_has_its_error(write: Write, golden: Golden, tmp_path: Path) -> None:
    parts = []
    for name, (text, instead) in FAULTS.items():
        assert text in GOOD, name
        problems = targets.check(write(GOOD.replace(text, instead, 1)))
        assert problems, name
        parts += [f"# {name}", *(problem.render() for problem in problems), ""]
    golden("faults.txt", "\n".join(parts).replace(str(tmp_path), "FOLDER"))


def test_loading_stops_at_the_first_problem_and_counts_the_others(write: Write) -> None:
    file = write(GOOD.replace('unit = "B/s"', 'unit = "GB/s"'))
    problems = targets.check(file)
    assert len(problems) > 2
    assert {problem.code for problem in problems} == {"HETC-T006"}
    with pytest.raises(TargetError) as caught:
        targets.load(file)
    assert caught.value.code == "HETC-T006"
    assert f"{len(problems) - 1} more: hetc targets check" in caught.value.do


def test_an_empty_file_lists_every_missing_key(write: Write) -> None:
    missing = {problem.at for problem in targets.check(write(""))}
    assert missing == {"name", "title", "kind", "main_memory", "memory", "rate", "assumption"}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a = " + b"[" * 20_000, b"\x00"])
def test_bytes_that_are_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "chip.toml"
    file.write_bytes(content)
    (problem,) = targets.check(file)
    assert problem.code == "HETC-T002"
    with pytest.raises(TargetError, match="HETC-T002"):
        targets.load(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path, Path("null\0byte.toml")):
        (problem,) = targets.check(path)
        assert problem.code == "HETC-T002"

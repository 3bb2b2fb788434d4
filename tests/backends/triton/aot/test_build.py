"""Kernels of a half: entries of the launch plan, files beside it, and what was dropped."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hetc import targets
from hetc.backends.triton.build import BuildOptions, Built, build_kernels
from hetc.backends.triton.cubin import read_notes
from hetc.bundle import launches
from hetc.errors import BackendError, InternalError
from tests.backends.triton.aot.products import (
    SMALL,
    SPILLING,
    TALL,
    ProductWork,
    norm,
    product,
    tile,
)
from tests.golden import Golden

pytest.importorskip("triton")

ROOT = Path(__file__).parents[4]
# The model thinks that it needs a quarter of the registers that it needs.
UNDERRATED = product(SMALL, SPILLING, n=256, k=512, work=ProductWork(256, 512, registers_told=0.25))
DIGEST = """
import hashlib
from tests.backends.triton.aot.test_build import digest, half

if __name__ == "__main__":
    print(digest(half()))
"""


def half() -> Built:
    """A small half for two architectures, one of them named by two targets."""
    kernels = [UNDERRATED, norm(), UNDERRATED]
    machines = [targets.load(name) for name in ("a100-80", "h200", "h100")]
    return build_kernels(kernels, machines)


def digest(built: Built) -> str:
    whole = hashlib.sha256(msgspec.json.encode(built.kernels))
    for name, content in built.files.items():
        whole.update(name.encode() + content)
    return whole.hexdigest()


@pytest.fixture(scope="module")
def built() -> Built:
    pytest.importorskip("triton")
    return half()


def test_a_kernel_is_built_once_for_each_architecture(built: Built) -> None:
    assert list(built.kernels) == [UNDERRATED.id, norm().id]
    for name, kernel in built.kernels.items():
        assert {build.arch for build in kernel.builds} == set(kernel.choices) == {"sm_80", "sm_90"}
        assert kernel.source == f"prefill/kernels/{name}.py"
        names = {"N", "K", "BM", "BN", "BK"} if name == UNDERRATED.id else {"WIDTH"}
        assert all(set(config.constants) == names for config in kernel.configs)
        for choices in kernel.choices.values():
            assert choices[-1].rows is None
        for build in kernel.builds:
            assert build.cubin == f"prefill/kernels/{name}.{build.arch}.{build.config}.cubin"
            assert build.threads == 32 * kernel.configs[build.config].warps
            notes = read_notes(built.files[build.cubin], build.cubin)
            assert (notes.symbol, notes.threads) == (kernel.symbol, build.threads)
            assert notes.registers == build.registers
        built_configs = {(build.arch, build.config) for build in kernel.builds}
        chosen = {(a, each.config) for a, choices in kernel.choices.items() for each in choices}
        assert chosen <= built_configs
    named = {file for kernel in built.kernels.values() for file in (kernel.source, *cubins(kernel))}
    assert named == set(built.files)
    assert built.files[f"prefill/kernels/{norm().id}.py"].decode() == norm().source
    assert built.ptxas.startswith("12.")


def test_what_spills_is_dropped_and_said(built: Built, golden: Golden) -> None:
    assert {build.config for build in built.kernels[UNDERRATED.id].builds} == {0}
    # How many bytes depends on the version of ptxas.
    golden("dropped", re.sub(r"\d+ bytes", "N bytes", "\n".join(map(str, built.dropped))))


def test_entries_are_read_back(built: Built) -> None:
    text = msgspec.json.encode(built.kernels)
    assert msgspec.json.decode(text, type=dict[str, launches.Kernel]) == built.kernels


def test_equal_input_gives_equal_bytes(built: Built, tmp_path: Path) -> None:
    script = tmp_path / "digest.py"
    script.write_text(DIGEST, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONHASHSEED": "11", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest(built)


def test_a_kernel_of_which_nothing_is_left_is_told(golden: Golden) -> None:
    told = []
    # Too much shared memory, as the model sees at once, or only what was compiled shows.
    huge = tile(128, 64, 256, warps=8, stages=6)
    for part in (1.0, 0.3):
        kernel = product(huge, n=256, k=4096, work=ProductWork(256, 4096, shared_told=part))
        with pytest.raises(BackendError) as caught:
            build_kernels([kernel], [targets.load("h200")])
        told.append(caught.value.render())
    golden("nothing_left", re.sub(r"needs \d+", "needs N", "\n\n".join(told)))


def test_kernels_of_one_id_have_one_space() -> None:
    with pytest.raises(InternalError, match="HETC-Z031"):
        build_kernels([product(SMALL), product(TALL)], [targets.load("h200")])


@pytest.mark.slow
def test_a_large_space_on_many_targets() -> None:
    space = [
        tile(bm, bn, 64, warps=warps, stages=stages)
        for bm in (16, 64, 128)
        for bn in (64, 128, 256)
        for warps in (4, 8)
        for stages in (3, 4)
    ]
    machines = [targets.load(name) for name in ("a100-80", "l40s", "h200", "b200", "b300")]
    made = build_kernels([product(*space)], machines, BuildOptions(top=3))
    (kernel,) = made.kernels.values()
    assert set(kernel.choices) == {"sm_80", "sm_89", "sm_90", "sm_100", "sm_103"}
    assert all(build.spill_bytes == 0 for build in kernel.builds)


def cubins(kernel: launches.Kernel) -> list[str]:
    return [build.cubin for build in kernel.builds]

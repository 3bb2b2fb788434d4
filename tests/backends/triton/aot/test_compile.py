"""Kernels become cubins: the same bytes anywhere, and one error where they do not."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hetc.backends.triton import compile as ahead
from hetc.backends.triton import worker
from hetc.backends.triton.compile import Cubin, Job, compile_kernels
from hetc.errors import BackendError, MissingDependency
from tests.backends.triton.aot.conftest import ARCHES
from tests.backends.triton.aot.products import NORM, PRODUCT, SMALL, TALL, norm, product, tile
from tests.golden import Golden

pytest.importorskip("triton")

ROOT = Path(__file__).parents[4]
DIGESTS = """
import hashlib, json
from hetc.backends.triton.compile import Job, compile_kernels
from tests.backends.triton.aot.products import SMALL, norm, product

if __name__ == "__main__":
    jobs = [Job(product(), SMALL, arch) for arch in ("sm_80", "sm_90", "sm_100")]
    jobs.append(Job(norm(), norm().configs[0], "sm_90"))
    made = compile_kernels(jobs, workers=2)
    print(json.dumps([hashlib.sha256(each.data).hexdigest() for each in made]))
"""


def test_a_cubin_says_what_a_launch_needs(cubins: Mapping[str, Cubin]) -> None:
    for arch in ARCHES:
        made = cubins[f"product {arch}"]
        assert made.threads == 128
        assert 8 * 1024 <= made.shared_bytes <= 28 * 1024
        assert 32 <= made.registers <= 128
        assert made.spill_bytes == made.scratch_bytes == 0
        # 64 columns of 32 bits hold 128 rows of accumulators.
        assert made.tmem_columns == (64 if arch == "sm_100" else 0)
        # What CUDA 13 compiles, drivers of CUDA 12 do not load.
        assert made.ptxas.startswith("12.")
    assert cubins["spilling sm_90"].spill_bytes > 0


def test_bytes_depend_on_nothing_around(cubins: Mapping[str, Cubin], tmp_path: Path) -> None:
    """Another process and folder, another seed of hashes, variables that change Triton."""
    script = tmp_path / "digests.py"
    script.write_text(DIGESTS, encoding="utf-8")
    foreign = {
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": str(ROOT),
        "TRITON_INTERPRET": "1",
        "TRITON_DISABLE_LINE_INFO": "0",
        "DISABLE_PTXAS_OPT": "1",
        "TRITON_DEFAULT_FP_FUSION": "0",
    }
    found = subprocess.run(
        [sys.executable, script],
        env=os.environ | foreign,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    names = (*(f"product {arch}" for arch in ARCHES), "norm sm_90")
    expected = [hashlib.sha256(cubins[name].data).hexdigest() for name in names]
    assert json.loads(found.stdout) == expected
    assert not any(b"/hetc" in cubins[name].data for name in names)


def test_answers_come_in_the_order_of_the_jobs() -> None:
    configs = [TALL, SMALL, TALL, SMALL]
    told: list[tuple[int, int]] = []
    made = compile_kernels(
        [Job(product(n=256, k=64), config, "sm_80") for config in configs],
        workers=2,
        progress=lambda done, of: told.append((done, of)),
    )
    assert made[0] == made[2] != made[1] == made[3]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert compile_kernels([]) == []


def test_a_kernel_that_does_not_compile_is_told(
    golden: Golden, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first of several jobs that fail, whichever ends first; nothing else is printed."""
    wrong = {
        "an import": PRODUCT.replace("import triton\n", "import triton.nothing\n"),
        "a killed compiler": PRODUCT
        + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "parameters": PRODUCT.replace("x, w, out, rows", "w, x, out, rows"),
    }
    told = []
    for source in wrong.values():
        jobs = [Job(product(source=each), SMALL, "sm_80") for each in (PRODUCT, source, "import x")]
        told.append(failure(jobs).render())
    golden("compile_errors", "\n\n".join(told))
    assert capfd.readouterr() == ("", "")


def test_what_triton_finds_is_told() -> None:
    wrong = product(source=PRODUCT.replace("tl.dot(a, b", "tl.dot(a, c"))
    assert "c is not defined" in failure([Job(wrong, SMALL, "sm_90")]).found


def test_of_pages_that_a_compiler_prints_the_error_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assembly = 'tl.inline_asm_elementwise("jump $0, $1;", "=r,r", [column], tl.int32, True, 1)'
    kernel = dataclasses.replace(
        norm(),
        source=NORM.replace("tl.arange(0, WIDTH)", f"tl.arange(0, WIDTH)\n    column = {assembly}"),
    )
    found = failure([Job(kernel, kernel.configs[0], "sm_90")]).found
    assert found == "Not a name of any known instruction: 'jump'"
    assert capfd.readouterr() == ("", "")


def test_promises_that_triton_ignores_are_told(
    golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_PTXAS_BLACKWELL_PATH", "")
    job = Job(norm(), norm().configs[0], "sm_80")
    good = worker.compile_task(ahead._task(job), tmp_path)
    assert good.promised == (16, 16, 16, 1, 1)
    # The form that reads best is taken without a word, and without an effect.
    monkeypatch.setattr(
        worker, "_promises", lambda names, parameters: {0: [["tt.divisibility", 16]]}
    )
    ignored = worker.compile_task(ahead._task(job), tmp_path)
    other = dataclasses.replace(
        job.kernel,
        parameters=(*job.kernel.parameters[:3], *reversed(job.kernel.parameters[3:])),
        symbol="other",
    )
    longer = dataclasses.replace(job.kernel, parameters=job.kernel.parameters[:-1])
    told = []
    for kernel, answer in ((job.kernel, ignored), (other, good), (longer, good)):
        with pytest.raises(BackendError) as caught:
            ahead._cubin(Job(kernel, job.config, job.arch), answer)
        told.append(caught.value.render().replace(good.triton, "VERSION"))
    golden("promises", "\n\n".join(told))


def test_an_interrupt_leaves_no_process_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", start)
    jobs = [Job(norm(width), norm().configs[0], "sm_80") for width in (64, 128, 256, 512)]
    with pytest.raises(KeyboardInterrupt):
        compile_kernels(jobs, workers=2, progress=interrupt)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert not list(tmp_path.iterdir())


def test_without_triton_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as caught:
        compile_kernels([Job(product(), SMALL, "sm_90")])
    assert caught.value.do == "pip install 'hetc[cuda]'"


def failure(jobs: list[Job]) -> BackendError:
    """The error of jobs that do not all compile."""
    with pytest.raises(BackendError) as caught:
        compile_kernels(jobs, workers=2)
    return caught.value


@pytest.mark.slow
def test_later_architectures() -> None:
    arches = ("sm_86", "sm_89", "sm_103", "sm_120", "sm_121")
    jobs = [
        Job(kernel, config, arch)
        for arch in arches
        for kernel, config in (
            (product(), tile(128, 64, 64, warps=8)),
            (norm(), norm().configs[1]),
        )
    ]
    for job, made in zip(jobs, compile_kernels(jobs), strict=True):
        assert made.spill_bytes == 0, job
        assert made.threads == 256, job
        assert made.ptxas.startswith("12."), job

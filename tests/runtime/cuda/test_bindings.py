"""The real `cuda.bindings`, over a driver library that is compiled here and runs on the host.

What is passed to the driver and what comes back goes through NVIDIA's own code: types of handles,
arrays of parameters, tuples of results.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import why_no_gpu

SOURCE = Path(__file__).with_name("fake_libcuda.c")
ROOT = Path(__file__).parents[3]
SCRIPT = """
import ctypes, gc, sys
import numpy as np
from hetc.bundle import open_bundle
from hetc.driver import load, tune
from hetc.runtime.cuda import CudaOptions, device_info
from hetc.runtime.cuda.prefill import Prefill
from hetc.runtime.cuda.timing import time_launches
from tests.runtime import toy

path = sys.argv[1]
assert device_info().name == "Fake GPU 0"
prompts = [[1, 2, 3], [4, 5, 6], [7, 8], [1, 2, 3]]
with load(path, executor="onnx") as alone, load(path) as split:
    assert split.executors == {"prefill": "cuda", "decode": "onnx"}, split.fallbacks
    for _ in range(3):
        expected = [one.token_ids for one in alone.generate(prompts, max_new_tokens=6)]
        found = [one.token_ids for one in split.generate(prompts, max_new_tokens=6)]
        assert found == expected, (found, expected)
with open_bundle(path) as bundle:
    for seed in (None, 0):
        prefill = Prefill(bundle, CudaOptions(random_weights=seed))
        prompt = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
        logits, states = prefill.run(prompt)
        if seed is None:
            expected = toy.forward(toy.weights(), prompt)[:, -1:]
            np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert {time.milliseconds for time in time_launches(prefill, prompt)} == {0.5}
        prefill.close()
        del states
assert {each.kernel for each in tune(path, lambda step: None).kernels} == {"embed-1", "head-1"}
gc.collect()
live = ctypes.CDLL("libcuda.so.1").fake_live()
assert live == 0, live
print("done")
"""


@pytest.mark.skipif(not why_no_gpu(), reason="a real driver is there")
@pytest.mark.skipif(sys.platform != "linux", reason="the driver library is Linux's")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_real_bindings_pass_everything_on(toy_path: Path, tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.1"
    flags = ("-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1")
    subprocess.run(["cc", *flags, "-o", library, SOURCE, "-lm", "-ldl"], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, toy_path],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "done\n", ran.stderr

"""From the start of a load to the first token of 32, and the memory that 100 tokens leave resident.

    python -m benchmarks.native_load --rounds 5 [--bundle DIR]

Each case is a process of its own: the native engine with nothing kept, so that it compiles; with
the code that the load before kept; and the onnx executor. Cases alternate; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import machine, smollm2, versions
from hetc.bundle.native import WEIGHTS_FILE
from hetc.driver import CompileOptions, compile_bundle

# Memory is asked for by its present size: the peak has what only loading needed.
CHILD = """
import json, resource, sys, time
start = time.perf_counter()
from hetc.driver.load import load
imported = time.perf_counter()
with load(sys.argv[1], executor=sys.argv[2]) as bundle:
    loaded = time.perf_counter()
    bundle.prefill(list(range(100, 132)))
    first = time.perf_counter()
    bundle.generate(list(range(100, 132)), max_new_tokens=100, ignore_eos=True)
    pages = int(open("/proc/self/statm").read().split()[1])
    print(json.dumps({
        "imports s": imported - start,
        "load s": loaded - imported,
        "first token s": first - loaded,
        "load + first s": first - imported,
        "resident MB": pages * resource.getpagesize() / 1e6,
    }))
"""
CASES = ("native, compiled", "native, kept", "onnx")


def run(bundle: Path, case: str, caches: Path) -> dict[str, float]:
    """One load in a new process; `caches` is emptied for a case that compiles."""
    if case == "native, compiled":
        for file in caches.glob("hetc/native/*"):
            file.unlink()
    command = [sys.executable, "-c", CHILD, str(bundle), case.partition(",")[0]]
    environment = {**os.environ, "XDG_CACHE_HOME": str(caches)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="SmolLM2 in bf16 where left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or Path(folder, "bundle")
        if options.bundle is None:
            compile_bundle(smollm2(), bundle, CompileOptions(quantize="none"))
        rounds = [
            {case: run(bundle, case, Path(folder)) for case in CASES} for _ in range(options.rounds)
        ]
        packed = (bundle / WEIGHTS_FILE).stat().st_size / 1e6
    print(f"{machine()} · {versions('torch-mlir', 'onnxruntime')}")
    print(f"packed weights {packed:.0f} MB")
    columns = list(rounds[0][CASES[0]])
    print(f"| {' | '.join(['', *columns])} |\n|---|{'---:|' * len(columns)}")
    for case in CASES:
        medians = [statistics.median(found[case][column] for found in rounds) for column in columns]
        print(f"| {case} | {' | '.join(f'{median:.2f}' for median in medians)} |")


if __name__ == "__main__":
    main()

"""How long Ctrl-C takes to end a generation of the native engine: SmolLM2, milliseconds.

    python -m benchmarks.native_interrupts --times 12

The signal comes at another moment each time, in decode and in the prefill of a long prompt.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, smollm2, versions
from hetc import runtime
from hetc.driver import CompileOptions, compile_bundle

PROMPT = 4000
# Seconds from the beginning of a generation to its first signal, and from one signal to the next.
_FIRST, _APART = 0.3, 0.037


def latency_ms(run: Callable[[], object], after: float) -> float | None:
    """Milliseconds from a signal `after` seconds to the end of `run`; None where it ended first."""
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, interrupt)
    timer.start()
    try:
        run()
    except KeyboardInterrupt:
        return (time.perf_counter() - sent[0]) * 1e3
    finally:
        timer.cancel()
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=12)
    times = parser.parse_args().times
    print(machine(), versions("torch-mlir"), sep="\n")
    prompt = [int(token) for token in np.random.default_rng(0).integers(5, 40_000, PROMPT)]
    with tempfile.TemporaryDirectory() as folder:
        path = compile_bundle(smollm2(), Path(folder) / "bundle", CompileOptions()).path
        with runtime.load(path, executor="native") as bundle:
            bundle.generate(prompt[:64], max_new_tokens=8, ignore_eos=True)
            for title, run in (
                (
                    "decode",
                    lambda: bundle.generate(prompt[:64], max_new_tokens=4000, ignore_eos=True),
                ),
                (f"prefill of {PROMPT:,} tokens", lambda: bundle.generate(prompt)),
            ):
                tried = [latency_ms(run, _FIRST + _APART * number) for number in range(times)]
                found = [each for each in tried if each is not None]
                print(
                    f"{title}: median {statistics.median(found):.0f} ms, "
                    f"most {max(found):.0f} ms of {len(found)}"
                )


if __name__ == "__main__":
    main()

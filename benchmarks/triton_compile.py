"""Seconds and bytes of compiling the kernels of an 8B llama's prefill half, without a GPU.

    python -m benchmarks.triton_compile --targets h200 --workers 2 --runs 3

Bound: 30 seconds for one architecture on two cores that do nothing else. CPU seconds are those of
the workers and of ptxas, and tell what a busy machine does to the others.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.machine import machine, versions
from hetc import targets
from hetc.backends.triton import attention, linear, row_kernel
from hetc.backends.triton.attention import AttentionSpec
from hetc.backends.triton.build import BuildOptions, Built, build_kernels
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.linear import HeadsSpec, LinearSpec, NormSpec
from hetc.backends.triton.row_program import Access, Load, RowProgram, Store

HIDDEN, MIDDLE, HEADS, GROUPS, WIDTH, VOCAB = 4096, 14336, 32, 8, 128, 128256
MOST_SECONDS = 30


@dataclass(frozen=True)
class Run:
    """One build, and the seconds that it took: by the clock, and of all cores."""

    built: Built
    seconds: float
    cpu_seconds: float


def llama_8b() -> dict[str, Kernel]:
    """The distinct kernels of a Llama-3.1-8B prefill half in bf16, by what they compute."""
    norm = NormSpec(1e-5, "bf16")
    rows = {
        "embedding": Load(Access("table", "bf16", "index", outer=HIDDEN, index="tokens")),
        "last rows": Load(Access("x", "bf16", "last", outer=HIDDEN)),
    }
    out = Access("out", "bf16", outer=HIDDEN)
    products = {
        "norm, qkv, rotary": LinearSpec(
            "bf16",
            (HEADS + 2 * GROUPS) * WIDTH,
            HIDDEN,
            norm=norm,
            heads=HeadsSpec(HEADS, GROUPS, WIDTH, rotary=WIDTH),
        ),
        "output + residual": LinearSpec("bf16", HIDDEN, HEADS * WIDTH, residual=True),
        "norm, gate and up": LinearSpec(
            "bf16", MIDDLE, HIDDEN, gated=True, activation="silu", norm=norm
        ),
        "down + residual": LinearSpec("bf16", HIDDEN, MIDDLE, residual=True),
        "norm, logits": LinearSpec("bf16", VOCAB, HIDDEN, out_element="f32", norm=norm),
    }
    attends = AttentionSpec("bf16", HEADS, GROUPS, WIDTH, WIDTH, WIDTH**-0.5)
    return {
        "embedding": row_kernel.kernel(
            RowProgram(HIDDEN, (Store(out, rows["embedding"]),)), "embedding"
        ),
        **{name: linear.kernel(spec) for name, spec in products.items()},
        "attention": attention.kernel(attends),
        "last rows": row_kernel.kernel(
            RowProgram(HIDDEN, (Store(out, rows["last rows"]),), over="sequences"), "last_rows"
        ),
    }


def build(kernels: dict[str, Kernel], target: str, options: BuildOptions) -> Run:
    """Compile all of them for one target."""
    before, start = children(), time.perf_counter()
    built = build_kernels(kernels.values(), [targets.load(target)], options)
    return Run(built, time.perf_counter() - start, children() - before)


def children() -> float:
    """CPU seconds of the processes that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(kernels: dict[str, Kernel], runs: list[Run]) -> None:
    """The table of a target's kernels, and the line of all of them."""
    built = runs[0].built
    dropped = Counter(reason.at.split()[0] for reason in built.dropped)
    print("| kernel | space | compiled | dropped | registers | KiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, kernel in kernels.items():
        builds = built.kernels[kernel.id].builds
        size = sum(len(built.files[made.cubin]) for made in builds) / 1024
        registers = f"{min(b.registers for b in builds)} to {max(b.registers for b in builds)}"
        cells = (name, len(kernel.configs), len(builds) + dropped[kernel.id], dropped[kernel.id])
        print(f"| {' | '.join(map(str, cells))} | {registers} | {size:.0f} |")
    seconds = [run.seconds for run in runs]
    cpu = statistics.median(run.cpu_seconds for run in runs)
    told = ", ".join(f"{each:.1f}" for each in seconds)
    print(
        f"\n{statistics.median(seconds):.1f} s ({told}), bound {MOST_SECONDS} s; {cpu:.1f} s of "
        f"CPU; Triton {built.triton}, ptxas {built.ptxas}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["h200"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--top", type=int, default=BuildOptions().top)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}\n{versions('triton')}, {options.workers} workers")
    kernels = llama_8b()
    for target in options.targets:
        chosen = BuildOptions(top=options.top, workers=options.workers)
        runs = [build(kernels, target, chosen) for _ in range(options.runs)]
        print(f"\n{target}\n")
        show(kernels, runs)


if __name__ == "__main__":
    main()

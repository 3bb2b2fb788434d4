"""Seconds of every pass from `forward` to decision records, by the number of layers.

    python -m benchmarks.pass_scaling --layers 4 8 16 40 80 --runs 3

Prints a table and, for each pass, how much longer ten times the layers take. The model is
llama-like with the widths of Llama-3.1-8B; no weights are read.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from hetc import targets
from hetc.driver.collector import paused_collector
from hetc.ir.interpret import no_weights
from hetc.passes.canonicalize import canonicalize
from hetc.passes.cost import program_costs
from hetc.passes.decisions import decide
from hetc.passes.outline_layers import outline_layers
from hetc.passes.partition import partition
from hetc.passes.synthesize_state import synthesize_state
from hetc.passes.workload import Workload
from tests.passes.toy_llama import LLAMA_8B, Shape, forward

CONTEXT = 8192


def shape(layers: int) -> Shape:
    wide = LLAMA_8B
    return Shape(layers, wide.hidden, wide.heads, wide.groups, wide.inner, wide.vocab, wide.dtype)


def measure(layers: int) -> dict[str, float]:
    """Seconds of each pass, once."""
    taken: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        gc.collect()
        with paused_collector():  # as the driver runs them
            start = time.perf_counter()
            result = run()
            taken[name] = time.perf_counter() - start
        return result

    graph = timed("build forward", lambda: forward(shape(layers)))
    graph = timed("canonicalize", lambda: canonicalize(graph))
    program = timed("synthesize_state", lambda: synthesize_state(graph, no_weights, CONTEXT))
    timed("outline_layers", lambda: outline_layers(program.decode))
    costs = timed("cost", lambda: program_costs(program))
    machines = {"prefill": targets.load("h200:8"), "decode": targets.load("sn40l:16")}
    link = targets.load_link("pcie5")
    workload = Workload(1, 512, 128)
    cut = timed("partition", lambda: partition(program, workload, machines, link, costs=costs))  # type: ignore[arg-type]
    timed("decisions", lambda: decide(cut))
    taken["all"] = sum(taken.values())
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16, 40, 80])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    measure(2)  # imports and caches
    table: dict[int, dict[str, float]] = {}
    for layers in options.layers:
        runs = [measure(layers) for _ in range(options.runs)]
        table[layers] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print("pass".ljust(18) + "".join(f"{n:>9}" for n in table) + "   10x layers")
    for name in next(iter(table.values())):
        row = "".join(f"{seconds[name]:>8.3f}s" for seconds in table.values())
        ratios = [table[10 * n][name] / table[n][name] for n in table if 10 * n in table]
        print(name.ljust(18) + row + "   " + ", ".join(f"{ratio:.1f}x" for ratio in ratios))


if __name__ == "__main__":
    main()

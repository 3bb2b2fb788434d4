"""The simulator of plans: against the experiment it was designed from, and in seconds a token.

    PYTHONPATH=. python -m benchmarks.simulator

The rows are those of reference/spatial-planner.md, section 2: TPOT in us, simulated on assumed
parameters. Its prototype and this simulator share the machine and the sizes; the rates and
latencies of stages, which it does not give in full, are tests/backends/dataflow/plans.py's.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

from benchmarks.machine import machine, versions
from hetc import targets
from hetc.backends.dataflow.simulate import Mode, Speeds, simulate, speeds_of
from tests.backends.dataflow.plans import KIB, Decoder, decoder

RUNS = 5
# On 16 sockets a pair shares a KV head, and each has half of the positions.
MODELS = {
    "8B TP8 4K": Decoder(),
    "8B TP16 8K": Decoder(sockets=16, past=8192 // 2),
    "70B TP16 4K": Decoder(
        sockets=16, past=4096 // 2, layers=80, hidden=8192, heads=64, inner=28672
    ),
}
# What each row changes, the efficiency of HBM, and the experiment's TPOT of each model.
ROWS: dict[str, tuple[dict[str, float | bool], float, tuple[int, int, int]]] = {
    "everything on": ({}, 1.0, (1080, 577, 4966)),
    "no token prefetch": ({"token_prefetch": False}, 1.0, (1092, 590, 4979)),
    "no layer prefetch": ({"layer_prefetch": False}, 1.0, (1148, 648, 5197)),
    "no overlap": ({"overlap": False}, 1.0, (1080, 577, 4966)),
    "neither": ({"layer_prefetch": False, "overlap": False}, 1.0, (1161, 675, 5214)),
    "5 us launch a layer": ({"layer_prefetch": False, "launch_us": 5.0}, 1.0, (1308, 808, 5597)),
    "15 us launch a layer": ({"layer_prefetch": False, "launch_us": 15.0}, 1.0, (1628, 1128, 6397)),
    "HBM at 0.85": ({}, 0.85, (1270, 679, 5843)),
    "0.85, no layer prefetch": ({"layer_prefetch": False}, 0.85, (1340, 751, 6077)),
    "0.85, no prefetch, 3 us": ({"layer_prefetch": False, "peer_us": 3.0}, 0.85, (1408, 819, 6178)),
    "0.85, 5 us launch": ({"layer_prefetch": False, "launch_us": 5.0}, 0.85, (1500, 911, 6477)),
    "0.85, 5 us, peers 3 us": (
        {"layer_prefetch": False, "launch_us": 5.0, "peer_us": 3.0},
        0.85,
        (1568, 979, 6578),
    ),
    "peers 8 us": ({"peer_us": 8.0}, 1.0, (1080, 801, 4966)),
    "buffers 0.1 of a layer": ({"depth": 0.1}, 1.0, (1479, 978, 5518)),
    "buffers 0.5 of a layer": ({"depth": 0.5}, 1.0, (1137, 671, 4976)),
}


def with_efficiency(speeds: Speeds, efficiency: float) -> Speeds:
    memories = {
        tier: dataclasses.replace(memory, efficiency=efficiency)
        for tier, memory in speeds.memories.items()
    }
    return dataclasses.replace(speeds, memories=memories)


def compare() -> None:
    speeds = speeds_of(targets.load("sn40l:8"))
    print("TPOT in us: simulated, the experiment's, difference".ljust(60))
    print("".ljust(25) + "".join(name.rjust(24) for name in MODELS))
    for row, (changes, efficiency, expected) in ROWS.items():
        cells = []
        for shape, theirs in zip(MODELS.values(), expected, strict=True):
            plan = decoder(dataclasses.replace(shape, **changes))  # type: ignore[arg-type]
            ours = simulate(plan, with_efficiency(speeds, efficiency)).tpot_us
            cells.append(f"{ours:9.0f}{theirs:7d} {ours / theirs - 1:+6.1%}")
        print(row.ljust(25) + "".join(cell.rjust(24) for cell in cells))


def seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def speed() -> None:
    speeds = speeds_of(targets.load("sn40l:8"))
    print(f"\nms for three tokens, median of {RUNS}; heap runs every tile of them")
    modes: tuple[Mode, ...] = ("maxplus", "heap", "analytic")
    print("".ljust(25) + "".join(mode.rjust(10) for mode in modes) + "  heap / max-plus")
    for name, shape in MODELS.items():
        for tile in (256 * KIB, 16 * KIB):
            plan = decoder(dataclasses.replace(shape, tile_bytes=tile))
            times = {
                mode: 1e3 * seconds(lambda plan=plan, mode=mode: simulate(plan, speeds, mode=mode))  # type: ignore[misc]
                for mode in modes
                if mode != "heap" or tile == 256 * KIB
            }
            cells = (f"{times[mode]:10.1f}" if mode in times else "-".rjust(10) for mode in modes)
            ratio = f"{times['heap'] / times['maxplus']:10.0f}" if "heap" in times else ""
            print(f"{name}, {tile // KIB} KiB".ljust(25) + "".join(cells) + ratio)


if __name__ == "__main__":
    print(f"{machine()}; {versions('numpy')}\n")
    compare()
    speed()

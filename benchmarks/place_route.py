"""Placement and routing of one decoder layer of Llama-3.1-8B, split over eight sockets.

    python -m benchmarks.place_route --target sn40l:8 --moves 160000 --seeds 0 1 2

For a layer whose neighbouring lanes share a memory port by fours and by twos, and for every seed:
wirelength of the shorter boustrophedon and of the placement, hops of the routes, the fullest vector
link, virtual channels that needed the turn model, and seconds of placing and of routing.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.machine import machine, versions
from hetc import targets
from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.nets import build_nets
from hetc.backends.dataflow.place import PlaceOptions, place
from hetc.backends.dataflow.route import Unroutable, route
from tests.backends.dataflow.layers import llama_8b_layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="sn40l:8")
    parser.add_argument("--moves", type=int, default=PlaceOptions().moves)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    fabric = fabric_of(targets.load(arguments.target))
    print(f"{machine()}\n{versions()}\n")
    print(
        "| lanes a port | nets | seed | snake | placed | change | hops | fullest | turns | s + s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for lanes_a_port in (4, 2):
        stages, flows = llama_8b_layer(fabric, lanes_a_port)
        nets = build_nets(fabric, stages, flows)
        for seed in arguments.seeds:
            began = time.perf_counter()
            placement = place(fabric, stages, nets, PlaceOptions(seed, arguments.moves))
            placed = time.perf_counter()
            routing = route(fabric, nets, placement)
            routed = time.perf_counter()
            snake, length = placement.baseline_wirelength, placement.wirelength
            if isinstance(routing, Unroutable):
                outcome = f"unroutable: {routing.overfull_links} links | |"
            else:
                turns = sum(used.rule != "free" for used in routing.vcs)
                fullest = f"{routing.max_load['vector']} B"
                outcome = f"{routing.hops:,} | {fullest} | {turns} of {len(routing.vcs)}"
            print(
                f"| {lanes_a_port} | {len(nets)} | {seed} | {snake:,} | {length:,} "
                f"| {length / snake - 1:+.1%} | {outcome} "
                f"| {placed - began:.1f} + {routed - placed:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

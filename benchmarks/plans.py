"""Spatial plans of large models from their configurations: time to plan, lint, simulated decode.

    python -m benchmarks.plans                # every case, each in a process of its own
    python -m benchmarks.plans --techniques   # what looping, prefetch, overlap and fusion give
    python -m benchmarks.plans --row-groups   # what it gives that sequences follow each other

All figures of decode are simulated from public numbers and not calibrated. Seconds are wall time of
one process on the machine at hand: `open` is reading the configuration and deriving both halves,
`plan` everything from the socket's graph to a placed, routed, timed and linted plan.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.compile_time import LLAMA, LLAMA_8B, LLAMA_405B
from benchmarks.machine import machine, versions
from hetc.backends.dataflow.plan_file import plan_bytes
from hetc.backends.dataflow.row_groups import group_counts
from hetc.backends.dataflow.schema import Request
from hetc.backends.dataflow.simulate import simulate, speeds_of
from hetc.driver import CompileOptions
from hetc.driver.plan import Planned, plan
from hetc.driver.spatial import plan_spatially, plan_unplaced
from hetc.driver.techniques import TECHNIQUES
from hetc.errors import BackendError
from hetc.targets import Target, load

_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
# f8 matrices, as the published checkpoint has them.
_F8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
MODELS: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": LLAMA | LLAMA_8B,
    "Llama-3.1-70B": LLAMA | _70B,
    "Llama-3.1-405B": LLAMA | LLAMA_405B,
    # The defaults of transformers' configuration classes are these models.
    "gpt-oss-120b": {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]},
    "DeepSeek-V3": {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"]} | _F8,
}


@dataclass(frozen=True)
class Case:
    """A model on a machine, at a batch."""

    model: str
    target: str
    batch: int = 1


CASES = (
    Case("Llama-3.1-8B", "sn40l:8"),
    Case("Llama-3.1-8B", "sn40l:16"),
    Case("Llama-3.1-8B", "sn40l:8", 16),
    Case("Llama-3.1-8B", "sn40l:8", 64),
    Case("Llama-3.1-70B", "sn40l:8"),
    Case("Llama-3.1-70B", "sn40l:16"),
    Case("Llama-3.1-70B", "sn40l:16", 16),
    Case("Llama-3.1-70B", "sn40l:16", 64),
    Case("Llama-3.1-405B", "sn40l:8"),
    Case("Llama-3.1-405B", "sn40l:16"),
    Case("Llama-3.1-405B", "sn40l:16", 16),
    Case("gpt-oss-120b", "sn40l:16"),
    Case("DeepSeek-V3", "sn50:16"),
)


def run(case: Case, what: str) -> dict[str, Any]:
    """Plan one case in this process: all of it, or `techniques` or `row_groups`."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = {"dtype": "bfloat16"} | MODELS[case.model]
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        options = CompileOptions("h200:8", case.target, batch=case.batch)
        planned = plan(Path(folder), options, lambda step: None)
        decode = planned.outlined["decode"]
    opened = time.perf_counter()
    target, workload = load(case.target), planned.workload
    if what == "row_groups":
        shares = {
            count: _of_bound(planned, target, count) for count in (1, *group_counts(case.batch))
        }
        return {"case": asdict(case), "of_bound": shares}
    if what == "techniques":
        made = {
            name: plan_spatially(decode, target, workload, request).simulated.tpot_us
            for name, request in TECHNIQUES.items()
        }
        return {"case": asdict(case), "tpot_us": made}
    spatial = plan_spatially(decode, target, workload)
    done = time.perf_counter()
    simulated = simulate(spatial.plan, speeds_of(target))
    timed = time.perf_counter() - done
    sections = spatial.plan.sections
    wires = sum(section.wirelength for section in sections)
    snake = sum(section.baseline_wirelength for section in sections)
    return {
        "case": asdict(case),
        "open_s": opened - start,
        "plan_s": done - opened,
        "simulate_s": timed,
        "gap": planned.cut.gap,
        "errors": sum(finding.severity == "error" for finding in spatial.findings),
        "tpot_us": simulated.tpot_us,
        "mbu": simulated.mbu,
        "of_bound": simulated.mbu / simulated.mbu_bound,
        "bottleneck": simulated.bottleneck.name,
        "analytic": simulated.analytic_difference,
        "wires": 1 - wires / snake,
        "kilobytes": len(plan_bytes(spatial.plan)) / 1e3,
        "kinds": sum(block.repeat > 1 for block in spatial.plan.blocks),
        "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e9,
    }


def _of_bound(planned: Planned, target: Target, row_groups: int) -> float | None:
    """The part of the HBM bound with so many row groups; None where they cannot be."""
    request = Request(row_groups=row_groups)
    try:
        made = plan_unplaced(planned.outlined["decode"], target, planned.workload, request)
    except BackendError as error:
        if error.code != "HETC-E035":
            raise
        return None
    found = simulate(made, speeds_of(target))
    return found.mbu / found.mbu_bound


# Linux counts kilobytes, macOS bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _measured(number: int, what: str = "plan") -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plans", "--case", str(number)]
    command += {"plan": [], "techniques": ["--techniques"], "row_groups": ["--row-groups"]}[what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _table() -> None:
    print(
        "| model | machine | batch | open s | plan s | simulate s | GB | lint errors | cut gap |",
        end="",
    )
    print(" TPOT | MBU | of its bound | closed form | wires | JSON, kB a layer kind |")
    print("|---|---|" + "---:|" * 13)
    for number, case in enumerate(CASES):
        row = _measured(number)
        print(
            f"| {case.model} | {case.target} | {case.batch} | {row['open_s']:.1f} |"
            f" {row['plan_s']:.1f} | {row['simulate_s']:.3f} | {row['gb']:.2f} | {row['errors']} |"
            f" {row['gap']:.0e} | {row['tpot_us']:,.0f} µs | {row['mbu']:.3f} |"
            f" {row['of_bound']:.1%} ({row['bottleneck']}) | {row['analytic']:+.1%} |"
            f" {-row['wires']:.0%} | {row['kilobytes'] / max(1, row['kinds']):.0f} |",
            flush=True,
        )


def _technique_table() -> None:
    chosen = [case for case in CASES if case.batch == 1 and case.model.startswith("Llama")]
    rows = [_measured(CASES.index(case), "techniques")["tpot_us"] for case in chosen]
    print("| TPOT, µs (ratio) | " + " | ".join(f"{c.model} {c.target}" for c in chosen) + " |")
    print("|---|" + "---:|" * len(chosen))
    for name in TECHNIQUES:
        cells = (f"{row[name]:,.0f} ({row[name] / row['everything']:.2f})" for row in rows)
        print(f"| {name} | " + " | ".join(cells) + " |")


def _row_group_table() -> None:
    counts = (1, *group_counts(max(case.batch for case in CASES)))
    print("| of the HBM bound | machine | batch | " + " | ".join(map(str, counts)) + " |")
    print("|---|---|---:|" + "---:|" * len(counts))
    for number, case in enumerate(CASES):
        if case.batch > 1:
            shares = _measured(number, "row_groups")["of_bound"]
            told = [shares.get(str(count)) for count in counts]
            cells = " | ".join("" if share is None else f"{share:.1%}" for share in told)
            print(f"| {case.model} | {case.target} | {case.batch} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--techniques", action="store_true")
    parser.add_argument("--row-groups", action="store_true")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    what = "techniques" if options.techniques else "row_groups" if options.row_groups else "plan"
    if options.case is not None:
        print(json.dumps(run(CASES[options.case], what)))
        return
    print(f"{machine()}\n{versions('torch', 'transformers', 'numpy')}\n")
    if options.techniques:
        _technique_table()
    elif options.row_groups:
        _row_group_table()
    else:
        _table()


if __name__ == "__main__":
    main()

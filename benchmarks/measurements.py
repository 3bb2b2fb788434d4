"""Published measurements as runs: what was run on what, and the time that was measured.

`benchmarks/data/published_measurements.csv` has one figure a line, with its source; several lines
may come from one run. `benchmarks/data/configs` has the models' configurations.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DATA = Path(__file__).parent / "data"
ROWS = DATA / "published_measurements.csv"
CONFIGS = DATA / "configs"

# What the name of the hardware begins with -> target, and the framework that its calibration is of.
_HARDWARE = {
    "NVIDIA H100": ("h100", "tensorrt-llm"),
    "NVIDIA H200": ("h200", "tensorrt-llm"),
    "NVIDIA GH200": ("gh200", "tensorrt-llm"),
    # Argonne's A100 behaves as the part of 40 GB.
    "NVIDIA A100": ("a100-40", "tensorrt-llm"),
    "NVIDIA L40S": ("l40s", "tensorrt-llm"),
    "SambaNova SN40L": ("sn40l", "sambaflow"),
    "Tenstorrent Wormhole": ("wormhole", "tt-transformers"),
}
# The type that the model is planned in, the formats of weights, and that of state.
_PRECISIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "fp16": ("fp16", (), ""),
    "bf16": ("bf16", (), ""),
    "fp8": ("fp16", ("f8",), "f8"),
    "bfp4 MLP / bfp8 attn+KV": ("bf16", ("bfp8", "*.mlp.*=bfp4"), "bfp8"),
}
# Columns that repeat another figure of the same run: batch x (in + out) / latency, and the part of
# the latency that the first token leaves.
_REPEATS = ("total_throughput_in_plus_out", "tpot_derived")
# New tokens of a row that names none: it is a rate, and the context hardly moves it.
_SHORT_ANSWER = 2


@dataclass(frozen=True)
class Run:
    """One measured time: `what` is `ttft`, `tpot` or `total`. `line` counts in the file.

    `apart` says why the run is not in the mean; empty where it is.
    """

    line: int
    source: str
    model: str
    target: str
    framework: str
    precision: str
    batch: int
    prompt_tokens: int
    new_tokens: int
    what: str
    seconds: float
    apart: str = ""

    @property
    def chip(self) -> str:
        return self.target.partition(":")[0]

    @property
    def formats(self) -> tuple[str, tuple[str, ...], str]:
        """Type of the plan, formats of weights, format of state."""
        return _PRECISIONS[self.precision]

    def without(self, reason: str) -> Run:
        """The run, kept out of the mean."""
        return replace(self, apart=reason)


def read_runs(path: Path = ROWS) -> list[Run]:
    """Every distinct run of the file: lines that repeat a figure of another are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return list(_runs(lines))


def repeated(path: Path = ROWS) -> int:
    """How many lines repeat a figure of another."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(line["metric"].startswith(_REPEATS) for line in csv.DictReader(file))


def _runs(lines: list[dict[str, str]]) -> Iterator[Run]:
    for number, line in enumerate(lines, start=2):
        if line["metric"].startswith(_REPEATS):
            continue
        chip, framework = next(
            found for name, found in _HARDWARE.items() if line["hardware"].startswith(name)
        )
        devices = int(line["n_devices"])
        what, batch, seconds = _time(line, devices)
        yield Run(
            line=number,
            source=line["source"],
            model=re.sub(r"[ _]", "-", line["model"].lower()),
            target=chip if devices == 1 else f"{chip}:{devices}",
            framework=framework,
            precision=line["precision"],
            batch=batch,
            prompt_tokens=int(line["input_len"]),
            new_tokens=int(line["output_len"] or _SHORT_ANSWER),
            what=what,
            seconds=seconds,
            apart=_misleads(line, chip),
        )


def _time(line: dict[str, str], devices: int) -> tuple[str, int, float]:
    """What was timed, the batch that it is the time of, and the seconds."""
    metric, value, batch = line["metric"], float(line["value"]), int(line["batch"])
    unit = 1e-3 if line["unit"] == "ms" else 1.0
    if metric == "e2e_latency":
        return "total", batch, value * unit
    if metric == "ttft":
        return "ttft", batch, value * unit
    if metric == "avg_ttft":
        # Users are prefilled one after another; the figure is the mean of one.
        return "ttft", 1, value * unit
    if metric == "decode_speed_per_user":
        return "tpot", batch, 1 / value
    if metric == "output_throughput_per_gpu":
        return "total", batch, batch * int(line["output_len"]) / (value * devices)
    raise ValueError(f"unknown metric {metric!r}")


def _misleads(line: dict[str, str], chip: str) -> str:
    text = f"{line['source']} {line['hardware']}".lower()
    if "speculative" in text:
        return "speculative decoding"
    if chip == "sn40l" and line["model"] == "Llama-2-7B":
        return "poorly tuned at the source (multi-head attention)"
    return ""

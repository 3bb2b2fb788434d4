"""What `hetc bench` and `hetc diff` say of numbers that are out of the ordinary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hetc.report.bench_table import bench_lines
from hetc.report.diff_table import diff_lines


def benched(mbu: float) -> dict[str, Any]:
    rate = {"phase": "decode", "tokens": 64, "batch": 1, "seconds": 0.01, "tokens_per_s": 100.0}
    return {
        "name": "toy",
        "executors": {"prefill": "onnx", "decode": "onnx"},
        "fallbacks": [],
        "machine": {"cpu": "c", "cores": 2, "read_bytes_per_s": 1e10, "f32_flops_per_s": 1e11},
        "load_s": 1.0,
        "first_token_s": 0.1,
        "weight_bytes": 1000,
        "peak_memory_bytes": None,
        "rates": [{**rate, "mbu": mbu, "mfu": 0.1}],
        "left_out": [],
    }


@pytest.mark.parametrize(("mbu", "noted"), [(0.9, False), (1.3, True)])
def test_more_than_the_machine_has_is_noted(mbu: float, noted: bool) -> None:
    lines = bench_lines(benched(mbu))
    assert f"{mbu:.0%}"[:-1] in lines[-2 if noted else -1]
    assert lines[-1].startswith("note: above 100 %") == noted


@dataclass(frozen=True)
class Differs:
    a: float
    b: float
    group: str = "stage"
    name: str = "x"
    field: str = "bytes"


@pytest.mark.parametrize(
    ("a", "b", "said"), [(10, 15, "+50.0%"), (10, 99, "+890.0%"), (2, 9000, "x 4500"), (0, 1, "1")]
)
def test_a_change_is_in_percent_or_a_factor(a: float, b: float, said: str) -> None:
    assert diff_lines([Differs(a, b)])[-1].rstrip().endswith(said)

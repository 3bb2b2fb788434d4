"""Tables: aligned, and as wide as they may be."""

from __future__ import annotations

import pytest

from hetc.report import by_layer, by_op, by_phase, layer_groups, phase_groups
from hetc.report.inspect_tables import flips
from hetc.report.tables import Column, shortened, table
from tests.golden import Golden
from tests.report.facts import decisions

COLUMNS = [Column("name"), Column("kind", rank=2), Column("n", right=True), Column("x", rank=1)]
ROWS = [["layers.0-29.self_attn.q_proj", "linear", "7", "aa"], ["head", "matmul", "12345", "b"]]


def test_columns_are_aligned() -> None:
    lines = table(COLUMNS, ROWS).splitlines()
    assert lines[1].index("linear") == lines[2].index("matmul") == lines[0].index("kind")
    assert lines[1].index("7") == lines[2].index("5"), "numbers end together"


@pytest.mark.parametrize("width", [60, 44, 40, 36])
def test_a_narrow_terminal_loses_the_least(width: int) -> None:
    lines = table(COLUMNS, ROWS, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "12345" in lines[2]
    if width < 50:
        assert "kind" not in lines[0], "the column of the highest rank goes first"


def test_shortened_keeps_both_ends() -> None:
    assert shortened("layers.0-29.mlp.down_proj", 15) == "layer…down_proj"
    assert shortened("short", 15) == "short"


def test_golden(golden: Golden) -> None:
    shown = (by_op(decisions()), by_layer(decisions()), by_phase(decisions()))
    golden("tables.txt", "\n\n".join(shown))


def test_groups_hold_every_op_and_all_of_the_time() -> None:
    records = [record for record in decisions()["ops"] if record["phase"] == "decode"]
    groups = layer_groups(records)
    assert sum(group["ops"] * group["count"] for group in groups) == len(records)
    seconds = sum(record["seconds"][record["role"]] for record in records)
    assert sum(group["seconds"] for group in groups) == pytest.approx(seconds)
    prefill, decode = phase_groups(decisions())
    assert decode["ops"] == len(records)
    assert sum(prefill["shares"].values()) == pytest.approx(1.0)
    assert prefill["devices"] == {"grid-8x8:4": prefill["ops"]}


def test_a_flip_at_the_same_batch_and_tokens_is_said_once() -> None:
    crossover = [
        {"size": "tokens", "until": 91, "at": 92, "mark": "compute"},
        {"size": "batch", "until": 91, "at": 92, "mark": "compute"},
        {"size": "context", "until": 96, "at": 95, "mark": "latency"},
    ]
    text = flips({"crossover": crossover})
    assert text == "compute from batch 92, latency up to context 95"

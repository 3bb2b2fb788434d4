"""Identical layers as one row."""

from __future__ import annotations

from typing import Any

import pytest

from hetc.report.fold import fold, layer_of, layer_path, ranges, with_layers


def record(name: str, **changes: Any) -> dict[str, Any]:
    same = {"phase": "decode", "kind": "linear", "role": "decode", "mark": "memory", "flops": 10}
    rest = {"bytes_read": 4, "bytes_written": 1, "seconds": {"prefill": 1.0, "decode": 2.0}}
    return {"name": name} | same | rest | changes


@pytest.mark.parametrize(
    ("name", "layer", "path"),
    [
        ("model.layers.3.mlp.down_proj", 3, "model.layers.3"),
        ("transformer.h.11.attn/attention", 11, "transformer.h.11"),
        ("layers.0/add.2", 0, "layers.0"),
        ("layer7.key", 7, "layer7"),
        ("lm_head", None, "lm_head"),
        ("model.rotary_emb/mul.2", None, "model.rotary_emb"),
        ("add.2", 2, "add.2"),
    ],
)
def test_the_layer_of_a_name(name: str, layer: int | None, path: str) -> None:
    assert (layer_of(name), layer_path(name)) == (layer, path)


def test_ranges() -> None:
    assert ranges([2, 0, 1, 4]) == "0-2,4"
    assert ranges(range(0, 30, 2)) == "0,2,…,28"
    assert with_layers("layers.0.mlp/add.2", [0, 1, 2]) == "layers.0-2.mlp/add.2"


def test_equal_layers_fold_and_others_do_not() -> None:
    records = [record(f"layers.{layer}.up") for layer in range(3)]
    records += [record("layers.3.up", flops=11), record("head")]
    folded = fold(records)
    assert [(op.name, op.count) for op in folded] == [
        ("layers.0-2.up", 3),
        ("layers.3.up", 1),
        ("head", 1),
    ]
    first = folded[0]
    assert first.seconds == 6.0, "the time of all, on the device that runs them"
    assert (first.total_flops, first.total_bytes) == (30, 15)
    assert first.record["name"] == "layers.1.up", "the second speaks: the first is often special"
    assert sum(op.count for op in folded) == len(records)

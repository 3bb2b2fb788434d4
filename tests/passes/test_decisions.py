"""Decision records: complete, golden, and in words."""

from __future__ import annotations

import json

import pytest

from hetc import targets
from hetc.errors import Reason
from hetc.passes.decisions import INSPECTED, SCHEMA, Record, decide, find, inspected
from hetc.passes.explain import explain
from hetc.passes.partition import CutOptions, partition
from hetc.passes.partition_rules import Capabilities
from hetc.passes.workload import Workload
from tests.golden import Golden
from tests.passes.toy_llama import Shape, program

SMALL = program(Shape(2, 512, 8, 2, 2048, 1024))


def decisions(
    pins: dict[str, str] | None = None, capabilities: Capabilities | None = None
) -> Record:
    # The fictional target: its numbers do not change when a data sheet is read again.
    made = partition(
        SMALL,
        Workload(1, 64, 16),
        {"prefill": targets.load("grid-8x8"), "decode": targets.load("grid-8x8:4")},
        targets.load_link(25),
        options=CutOptions(pins=pins, flips=False),
        capabilities=capabilities,
    )
    return decide(made)


def test_every_op_that_takes_time_has_a_record() -> None:
    made = decisions()
    assert made["schema"] == SCHEMA
    assert made["estimated"] is True
    names = {(record["phase"], record["name"]) for record in made["ops"]}
    assert len(names) == len(made["ops"])
    assert ("decode", "layers.1.self_attn/attention") in names
    assert ("decode", "layers.1.self_attn/reshape") not in names, "views take nothing"
    for record in made["ops"]:
        assert record["mark"] in ("compute", "memory", "link", "latency")
        assert record["reason"]["code"].startswith("HETC-P1")
        assert "{" not in record["reason"]["text"]
        assert (record["counterfactual"] is None) == (record["fused_into"] is not None)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_inspected_rows_have_the_documented_keys() -> None:
    made = decisions()
    rows = inspected(made)
    assert len(rows) == len(made["ops"])
    assert all(tuple(row) == INSPECTED for row in rows)


def test_golden_record_and_its_words(golden: Golden) -> None:
    made = decisions(pins={"prefill:*": "prefill", "decode:*": "decode"})
    records = find(made, "layers.1.mlp.down_proj")
    assert [record["phase"] for record in records] == ["prefill", "decode"]
    golden("decision.json", json.dumps(rounded(records[1]), indent=2))
    everything = [*records, *find(made, "layers.1/add"), *find(made, "layer0.key")]
    golden("explain.txt", "\n".join(line for record in everything for line in explain(record)))


def rounded(item: object) -> object:
    if isinstance(item, dict):
        return {key: rounded(value) for key, value in item.items()}
    if isinstance(item, list):
        return [rounded(value) for value in item]
    return float(f"{item:.6g}") if isinstance(item, float) else item


def test_reasons() -> None:
    why = Reason("HETC-E010", "no template")
    made = decisions(
        pins={"decode:lm_head": "prefill"},
        capabilities={"decode": {"rms_norm": why, "embedding": why}, "prefill": {"embedding": why}},
    )
    codes = {(r["phase"], r["name"]): r["reason"] for r in made["ops"]}
    pinned = codes["decode", "lm_head"]
    assert pinned["code"] == "HETC-P100"
    assert "decode:lm_head" in pinned["text"]
    norm = codes["decode", "layers.0.input_layernorm"]
    assert norm["code"] == "HETC-P101"
    assert "no template" in norm["text"]
    assert codes["prefill", "embed"]["code"] == "HETC-P106"
    assert codes["prefill", "layers.0/add"]["code"] == "HETC-P105"
    fallback = next(r for r in find(made, "embed") if r["phase"] == "prefill" and "cannot" in r)
    assert fallback["cannot"].keys() == {"prefill", "decode"}, "all reasons, not the first"


def test_what_would_flip_an_op_does() -> None:
    made = decisions(pins={"prefill:*": "prefill"})
    for record in made["ops"]:
        other = record["counterfactual"]
        if other is None or record["reason"]["code"] != "HETC-P103":
            continue
        assert other["work_delta_seconds"] < 0 < other["transfer_delta_seconds"]
        assert other["delta_seconds"] >= 0


@pytest.mark.parametrize("name", ["layers.9.mlp", ""])
def test_an_unknown_op_has_no_record(name: str) -> None:
    assert find(decisions(), name) == []

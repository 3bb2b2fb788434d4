"""The decode half of every family, sharded: sockets that decode together give what one gives."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hetc.driver import CompileOptions
from hetc.driver.lower import Lowered, lower
from hetc.driver.policy import Policy
from hetc.frontends.open_model import open_model
from hetc.ir.dims import evaluate
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.ops.shape import numbers
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array, TensorType
from hetc.passes.outline_layers import outline_layers
from hetc.passes.shard import Sharded, shard
from hetc.passes.simplify import simplify
from tests.driver.models import VOCABULARY, build, save
from tests.passes.lockstep import held, local_inputs, run_sockets

TOLERANCE = 1e-5
PROMPT, STEPS = 9, 3
# The collectives of four sockets: of one layer of each kind, and of what stands around layers.
FAMILIES = {
    "llama": {"all_reduce": 2, "all_gather": 1},
    "gemma2": {"all_reduce": 4, "all_gather": 1},
    "mixtral": {"all_reduce": 2, "all_gather": 1},
    "gpt_oss": {"all_reduce": 4, "all_gather": 1},
    "deepseek_v3": {"all_reduce": 4, "all_gather": 5},
    "qwen3_moe": {"all_reduce": 2, "all_gather": 1},
    "olmo2": {"all_reduce": 2, "all_gather": 3, "take_part": 2},
    "bloom": {"all_reduce": 2, "all_gather": 1, "take_part": 1},
    "gpt2": {"all_reduce": 2, "all_gather": 1},
    "gpt_neox": {"all_reduce": 1, "all_gather": 1},
    "falcon": {"all_reduce": 1, "all_gather": 2, "take_part": 1},
    "phi3": {"all_reduce": 2, "all_gather": 2, "take_part": 3},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sockets_decode_what_one_decodes(family: str, tmp_path: Path) -> None:
    lowered = lower(open_model(save(build(family), tmp_path / family)), CompileOptions(), Policy())
    decode = outline_layers(simplify(lowered.program.decode))
    for sockets in (1, 2, 4):
        sharded = shard(decode, sockets)
        for batch in (1, 3):
            assert error(lowered, decode, sharded, batch) <= TOLERANCE, (sockets, batch)
        assert_whole_together(decode, sharded)
        if sockets == 4:
            assert collectives(sharded) == FAMILIES[family]


def error(lowered: Lowered, decode: Graph, sharded: Sharded, batch: int) -> float:
    """The largest difference of logits and states over some tokens, as a share of the largest
    number. Sockets go on from their own states."""
    tokens = np.random.default_rng(batch).integers(3, VOCABULARY, (batch, PROMPT + STEPS))
    _, *states = interpret(lowered.program.prefill, [tokens[:, :PROMPT]], lowered.weights)
    nothing = [tokens[:, :0], np.array(0, np.int64)]
    local = [row[2:] for row in local_inputs(sharded, decode, [*nothing, *states])]
    worst = 0.0
    for past in range(PROMPT, PROMPT + STEPS):
        step = [tokens[:, past : past + 1], np.array(past, np.int64)]
        sizes = {"P": past, "T": 1}
        whole = interpret(decode, [*step, *states], lowered.weights, sizes)
        found = run_sockets(sharded, [[*step, *own] for own in local], lowered.weights, sizes)
        for rank, parts in enumerate(found):
            for name, expected, part in zip(decode.output_names, whole, parts, strict=True):
                wanted = held(sharded, rank, name.removesuffix(".out"), expected)
                scale = max(1.0, float(np.abs(expected).max()))
                worst = max(worst, float(np.abs(part - wanted).max()) / scale)
        states, local = list(whole[1:]), [list(parts[1:]) for parts in found]
    return worst


def assert_whole_together(decode: Graph, sharded: Sharded) -> None:
    """Every element of every weight is held, and by as many sockets as its record says."""
    types = {op.name: op.type for op in decode.ops if isinstance(op, Weight)}
    assert {part.source for part in sharded.weights.values()} == types.keys()
    total = 0
    for part in sharded.weights.values():
        whole = _numbered(types[part.source])
        held_by = [part.of(whole, rank, sharded.sockets) for rank in range(sharded.sockets)]
        counts = np.bincount(np.concatenate([each.ravel() for each in held_by]))
        assert (counts == sharded.sockets // part.parts).all()
        assert len(counts) == whole.size
        total += held_by[0].size * 4
    assert total == sharded.local_bytes
    elements = sum(evaluate(type.size, {}) for type in types.values())
    assert sharded.unique_bytes == elements * 4 / sharded.sockets


def _numbered(type: TensorType) -> Array:
    shape = numbers(type.shape)
    return np.arange(math.prod(shape)).reshape(shape)


def collectives(sharded: Sharded) -> dict[str, int]:
    """How many of each kind one layer of each kind and the rest of the graph have."""
    found = Counter(each.action for each in sharded.decisions)
    return {kind: found[kind] for kind in sorted(found) if kind not in ("split", "replicate")}

"""Prefill and decode from forward, or the reason why not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.ir.graph import Program
from hetc.ir.verify import Stage, verify
from hetc.passes.manager import PassOptions, run_passes
from hetc.passes.registry import load_pipeline
from tests.golden import Golden
from tests.passes.blocks import Block, random_weights, stack
from tests.passes.harness import assert_decodes, cases, check


@pytest.mark.parametrize("case", cases("synthesize-state"))
def test_golden(case: str, golden: Golden) -> None:
    check("synthesize-state", case, golden)


groups = st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2)])
blocks = st.builds(
    lambda heads, **rest: Block(heads=heads[0], groups=heads[1], **rest),
    heads=groups,
    window=st.sampled_from([None, None, 1, 2, 5]),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    mask=st.sampled_from(["where", "add", "attention"]),
    rope=st.sampled_from(["half", "interleaved", "halves", "none"]),
    norm=st.sampled_from(["rms", "layer"]),
    mlp=st.sampled_from(["gated", "gelu"]),
)


@settings(max_examples=25)
@given(st.lists(blocks, min_size=1, max_size=3), st.integers(1, 3))
def test_prefill_and_decode_are_forward(layers: list[Block], chunk: int) -> None:
    forward = stack(layers)
    options = PassOptions(random_weights(forward), max_context=64)
    program = run_passes(load_pipeline("default"), forward, options)
    assert isinstance(program, Program)
    verify(program, Stage.STATEFUL)
    assert_decodes(program, forward, (chunk,))
    for layer, block in enumerate(layers):
        rows = {str(spec.type.shape[2]) for spec in program.states if spec.layer == layer}
        # A window of one sees no past, and so keeps none.
        kept = "P" if block.window is None else f"W{block.window - 1}"
        assert rows <= {kept}, f"layer {layer} keeps {rows}"


def test_every_layer_keeps_its_groups_and_no_more() -> None:
    forward = stack([Block(heads=4, groups=2)] * 2)
    options = PassOptions(random_weights(forward), max_context=64)
    program = run_passes(load_pipeline("default"), forward, options)
    assert isinstance(program, Program)
    names = [spec.name for spec in program.states]
    assert names == ["layer0.key", "layer0.value", "layer1.key", "layer1.value"]
    assert {str(spec.type) for spec in program.states} == {"f32[B,2,P,4]"}

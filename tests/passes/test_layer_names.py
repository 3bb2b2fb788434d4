"""The number of the layer that a place in the model is in."""

from __future__ import annotations

import pytest

from hetc.passes.layer_names import layer_numbers


@pytest.mark.parametrize(
    ("locs", "numbers"),
    [
        (["layers.0.self_attn"], [0]),
        (["model.layers.2.self_attn", "model.layers.5.self_attn"], [2, 5]),
        (["transformer.h.3.attn", "transformer.h.3.cross", "transformer.wte"], [3, 3, None]),
        (["layers.0.conv.conv", "embed.position", "layers.1.self_attn"], [0, None, 1]),
        (
            ["layers.0.convs.0", "layers.0.convs.1", "layers.0.convs.2", "layers.1.attn"],
            [0, 0, 0, 1],
        ),
        (["model.0.layers.0.attn", "model.0.layers.1.attn"], [0, 1]),
        (["attn", "", "layers"], [None, None, None]),
    ],
    ids=["one", "gaps", "two in one", "hybrid", "lists inside", "a list around", "no layers"],
)
def test_layer_numbers(locs: list[str], numbers: list[int | None]) -> None:
    found = layer_numbers(locs)
    assert [found.get(loc) for loc in locs] == numbers

"""A repeated period is the full model, op by op, or is not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hetc.frontends.repeat_layers import Depth, repeat_layers
from hetc.frontends.sources import export_program, plan_depth
from hetc.frontends.torch_export import import_exported
from hetc.ir.compare import first_difference
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Value
from hetc.ir.ops.binary import Add, Mul, Sub
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, I64, TensorType
from tests.frontends.sources_models import tiny_config
from tests.passes.blocks import B, S

WIDTH = 4
# The layer's index, the outputs of the embedding and of every layer before -> its output.
Layer = Callable[[int, list[Value]], Value]


def linear(x: Value, name: str, loc: str) -> Value:
    return Linear(x, Weight(name, TensorType(F32, (WIDTH, WIDTH))).result, loc=loc).result


def model(layer: Layer, count: int) -> Graph:
    builder = GraphBuilder("forward")
    tokens = builder.input("tokens", TensorType(I64, (B, S)))
    table = Weight("embed", TensorType(F32, (9, WIDTH))).result
    seen = [Embedding(table, tokens, loc="embed").result]
    for index in range(count):
        seen.append(layer(index, seen))
    head = Linear(seen[-1], table, loc="head")
    builder.add(head)
    return builder.finish([head.result], ["logits"])


def plain(index: int, seen: list[Value]) -> Value:
    loc = f"layers.{index}"
    return Add(seen[-1], linear(seen[-1], f"{loc}.w", loc), loc=loc).result


def scaled(factor: Callable[[int], float]) -> Layer:
    """A layer that multiplies with a number of its own."""

    def layer(index: int, seen: list[Value]) -> Value:
        loc = f"layers.{index}"
        made = Mul(linear(seen[-1], f"{loc}.w", loc), factor(index), loc=loc).result
        return Add(seen[-1], made, loc=loc).result

    return layer


def reading(other: Callable[[int, list[Value]], Value]) -> Layer:
    """A layer that also reads something else than the output of the layer before."""

    def layer(index: int, seen: list[Value]) -> Value:
        loc = f"layers.{index}"
        return Sub(linear(seen[-1], f"{loc}.w", loc), other(index, seen), loc=loc).result

    return layer


def one_weight(index: int, seen: list[Value]) -> Value:
    return linear(seen[-1], "layers.0.w", f"layers.{index}")


def one_outer_weight(index: int, seen: list[Value]) -> Value:
    return linear(seen[-1], "shared.w", f"layers.{index}")


REPEATED: dict[str, tuple[Layer, int, int]] = {
    "plain": (plain, 2, 1),
    "after a prefix": (plain, 5, 2),
    "period of two": (scaled(lambda index: 0.5 + index % 2), 4, 2),
    "period of three": (scaled(lambda index: 0.5 + index % 3), 6, 3),
    "period of six": (scaled(lambda index: 0.5 + index % 6), 12, 6),
    "another first layer": (scaled(lambda index: 0.5 + min(index, 1)), 3, 1),
    "first hidden state, seen from behind": (reading(lambda index, seen: seen[0]), 3, 1),
}
REFUSED: dict[str, tuple[Layer, int, int]] = {
    "own index": (scaled(lambda index: 1 / (index + 1)), 2, 1),
    "period too short": (scaled(lambda index: 0.5 + index % 2), 2, 1),
    "period too short by one": (scaled(lambda index: 0.5 + index % 3), 4, 2),
    "one weight for all": (one_weight, 2, 1),
    "one weight of the model for all": (one_outer_weight, 2, 1),
    "two layers back": (reading(lambda index, seen: seen[-2] if index else seen[0]), 2, 1),
    "two layers back, period of two": (
        reading(lambda index, seen: seen[-3] if index > 1 else seen[0]),
        2,
        1,
    ),
}


def lengthened(layer: Layer, shown: int, period: int) -> tuple[Graph | None, Graph]:
    total = shown + 3 * period
    return (
        repeat_layers(model(layer, shown), Depth("layers", shown, period, total)),
        model(layer, total),
    )


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_is_the_full_model(name: str) -> None:
    repeated, full = lengthened(*REPEATED[name])
    assert repeated is not None
    assert first_difference(full, repeated, locations=True) is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_periods_do_not_tell_is_not_repeated(name: str) -> None:
    repeated, full = lengthened(*REFUSED[name])
    # One weight for every layer is the same model all over; then repeating it would do no harm.
    assert repeated is None or first_difference(full, repeated) is None


@pytest.mark.parametrize(("family", "layers"), [("llama", 4), ("gemma2", 6)])
def test_an_exported_model_is_repeated(family: str, layers: int) -> None:
    config = tiny_config(family, layers)
    depth = plan_depth(config)
    assert depth is not None
    short = import_exported(export_program(config, layers=depth.export_layers)).graph
    plan = Depth(depth.layers, depth.export_layers, depth.period, depth.total)
    repeated = repeat_layers(short, plan)
    assert repeated is not None
    full = import_exported(export_program(config)).graph
    assert first_difference(full, repeated) is None

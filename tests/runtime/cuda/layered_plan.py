"""A launch plan of several layers with two states each, one of them a window: to see states leave
while later layers are computed. Its kernels are Python functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np

from hetc.bundle import (
    Contract,
    StateSpec,
)
from hetc.bundle.launches import (
    SCHEMA,
    Buffer,
    BufferRef,
    InputRef,
    LaunchPlan,
    PlacedState,
    PlacedWeight,
    SizeOf,
    StateRef,
    WeightRef,
)
from tests.runtime.cuda.plan_bundles import (
    MAX_TOKENS,
    Array,
    cubins,
    kernel_of,
    launch_of,
    write_bundle,
)
from tests.runtime.cuda.stub_driver import StubLaunch

BF16 = np.dtype(ml_dtypes.bfloat16)
LAYERS, GROUPS, WIDTH, WINDOW, WINDOW_WIDTH, HIDDEN, VOCAB = 3, 2, 8, 3, 4, 16, 5
# Rows of the bias.
TURN = 2


def layered_contract() -> Contract:
    """Two states a layer: keys of all rows, and a window of the last three."""
    specs = []
    for layer in range(LAYERS):
        keys = StateSpec(
            name=f"layers.{layer}.k",
            layer=layer,
            kind="kv",
            shape=("B", GROUPS, "P", WIDTH),
            dtype="bf16",
            append_axis=2,
            keep=None,
            producer_layout="B,G,P,D",
            consumer_layout="B,G,P,D",
        )
        window = replace(
            keys,
            name=f"layers.{layer}.w",
            kind="window",
            shape=("B", 1, f"W{WINDOW}", WINDOW_WIDTH),
            dtype="f32",
            keep=WINDOW,
        )
        specs += [keys, window]
    return Contract(1, MAX_TOKENS, tuple(specs))


def layered_plan() -> LaunchPlan:
    """x = tokens + positions; every layer writes its states and adds its weight."""
    keys, window = f"{GROUPS * WIDTH * 2}*M", f"{WINDOW_WIDTH * 4}*B*W{WINDOW}"
    states, offset = [], "0"
    for layer in range(LAYERS):
        for name, element, size in (("k", "bf16", keys), ("w", "f32", window)):
            full = f"layers.{layer}.{name}"
            states.append(PlacedState(name=full, element=element, bytes=size, offset=offset))
            offset = f"{offset} + 256*{size}"
    x = f"{HIDDEN * 4}*M"
    layers = tuple(
        launch_of(
            "layer-1",
            (
                BufferRef(name=f"x{layer % 2}"),
                BufferRef(name=f"x{(layer + 1) % 2}"),
                WeightRef(name="bias"),
                StateRef(name=f"layers.{layer}.k"),
                StateRef(name=f"layers.{layer}.w"),
                SizeOf(size=str(layer)),
                SizeOf(size="B"),
                SizeOf(size="S"),
            ),
            "M",
            f"x{layer % 2}",
            f"x{(layer + 1) % 2} layers.{layer}.k layers.{layer}.w",
        )
        for layer in range(LAYERS)
    )
    return LaunchPlan(
        schema=SCHEMA,
        triton="none",
        ptxas="none",
        max_tokens=MAX_TOKENS,
        kernels={
            "start-1": kernel_of(
                "start",
                ("tokens", "*i32", 16),
                ("positions", "*i32", 16),
                ("sequences", "*i32", 16),
                ("x", "*fp32", 16),
                ("rows", "i32", 1),
            ),
            "layer-1": kernel_of(
                "layer",
                ("x", "*fp32", 16),
                ("y", "*fp32", 16),
                ("bias", "*fp32", 16),
                ("keys", "*bf16", 16),
                ("window", "*fp32", 16),
                ("layer", "i32", 1),
                ("sequences", "i32", 1),
                ("longest", "i32", 1),
            ),
            "finish-1": kernel_of(
                "finish",
                ("x", "*fp32", 16),
                ("logits", "*fp32", 16),
                ("sequences", "i32", 1),
                ("longest", "i32", 1),
            ),
        },
        buffers=(
            Buffer(name="x0", element="f32", bytes=x, offset="0", first=0, last=LAYERS + 1),
            Buffer(name="x1", element="f32", bytes=x, offset=x, first=1, last=LAYERS + 1),
            Buffer(
                name="logits",
                element="f32",
                bytes=f"256*{VOCAB * 4}*B",
                offset=f"2*{x}",
                first=LAYERS + 1,
                last=LAYERS + 1,
            ),
        ),
        arena_bytes=f"2*{x} + 256*{VOCAB * 4}*B",
        weights=(
            PlacedWeight(
                name="bias",
                tensors=("a", "b"),
                element="f32",
                bytes=2 * HIDDEN * 4,
                offset=0,
                transposed=True,
                turn=TURN,
            ),
        ),
        weight_bytes=2 * HIDDEN * 4,
        states=tuple(states),
        state_bytes=offset,
        logits="logits",
        launches=(
            launch_of(
                "start-1",
                (
                    InputRef(name="tokens"),
                    InputRef(name="positions"),
                    InputRef(name="sequences"),
                    BufferRef(name="x0"),
                    SizeOf(size="M"),
                ),
                "M",
                "",
                "x0",
            ),
            *layers,
            launch_of(
                "finish-1",
                (
                    BufferRef(name=f"x{LAYERS % 2}"),
                    BufferRef(name="logits"),
                    SizeOf(size="B"),
                    SizeOf(size="S"),
                ),
                "B",
                f"x{LAYERS % 2}",
                "logits",
            ),
        ),
    )


def layered_weights() -> dict[str, Array]:
    """The bias as matrices [2, HIDDEN / 2], of whose transposed the rows take turns."""
    turns = _biases().reshape(-1, 2, TURN, 2)
    return {name: turns[:, half].reshape(-1, 2).T for half, name in enumerate("ab")}


def _biases() -> Array:
    """One for layers of even number, one for the others: [2, HIDDEN]."""
    return (np.arange(2 * HIDDEN, dtype=np.float32) / 8).reshape(2, HIDDEN)


def layered_forward(tokens: Array) -> tuple[Array, dict[str, Array]]:
    """Logits [B, 1, V] and states of `tokens` [B, S]: what must come out."""
    batch, count = tokens.shape
    bias = _biases()
    x = (tokens + np.arange(count) + 100 * np.arange(batch)[:, None]).astype(np.float32)
    x = np.repeat(x[..., None], HIDDEN, axis=-1)
    states: dict[str, Array] = {}
    for layer in range(LAYERS):
        x = x * 0.5 + bias[layer % 2]
        keys = x.reshape(batch, count, GROUPS, WIDTH).transpose(0, 2, 1, 3)
        states[f"layers.{layer}.k"] = keys.astype(BF16)
        states[f"layers.{layer}.w"] = x[:, None, -WINDOW:, :WINDOW_WIDTH]
    return x[:, -1:, :VOCAB], states


def _start(launch: StubLaunch) -> None:
    rows = launch.arguments[4]
    tokens, positions, sequences = (launch.array(i, np.int32, rows) for i in range(3))
    x = tokens + positions + 100 * sequences
    launch.array(3, np.float32, rows, HIDDEN)[:] = x[:, None]


def _layer(launch: StubLaunch) -> None:
    layer, batch, count = launch.arguments[5:8]
    rows = batch * count
    bias = launch.array(2, np.float32, 2, HIDDEN)[layer % 2]
    y = launch.array(0, np.float32, rows, HIDDEN) * np.float32(0.5) + bias
    launch.array(1, np.float32, rows, HIDDEN)[:] = y
    keys = y.reshape(batch, count, GROUPS, WIDTH).transpose(0, 2, 1, 3)
    launch.array(3, BF16, batch, GROUPS, count, WIDTH)[:] = keys.astype(BF16)
    kept = min(count, WINDOW)
    last = y.reshape(batch, 1, count, HIDDEN)[:, :, -kept:, :WINDOW_WIDTH]
    launch.array(4, np.float32, batch, 1, kept, WINDOW_WIDTH)[:] = last


def _finish(launch: StubLaunch) -> None:
    batch, count = launch.arguments[2:4]
    x = launch.array(0, np.float32, batch, count, HIDDEN)
    launch.array(1, np.float32, batch, VOCAB)[:] = x[:, -1, :VOCAB]


LAYERED_KERNELS: Mapping[str, Callable[[StubLaunch], None]] = {
    "start": _start,
    "layer": _layer,
    "finish": _finish,
}


def write_layered(path: Path) -> Path:
    """The layered model, of which there is a prefill half only."""
    tensors = {name: ("f32", tensor) for name, tensor in layered_weights().items()}
    plan = layered_plan()
    return write_bundle(path, plan, cubins(plan), layered_contract(), tensors, VOCAB, ("cuda",), {})

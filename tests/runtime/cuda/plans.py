"""Bundles with launch plans made by hand, whose kernels are Python functions for the stub.

`toy`: the model of `tests/runtime/toy.py`. `layered`: several layers with two states each, one of
them a window, to see states leave while later layers are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray

from hetc.bundle import (
    BundleWriter,
    Contract,
    HalfEntry,
    Manifest,
    ModelInfo,
    StateSpec,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.bundle.launches import (
    LAUNCHES_FILE,
    SCHEMA,
    Argument,
    Buffer,
    BufferRef,
    Build,
    Choice,
    Config,
    Extent,
    InputRef,
    Kernel,
    Launch,
    LaunchPlan,
    Parameter,
    PlacedState,
    PlacedWeight,
    SizeOf,
    StateRef,
    WeightRef,
)
from tests.runtime import toy
from tests.runtime.cuda.stub_driver import StubLaunch, cubin

Array = NDArray[Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
ARCHS = ("sm_80", "sm_90")
LAYERS, GROUPS, WIDTH, WINDOW, WINDOW_WIDTH, HIDDEN, VOCAB = 3, 2, 8, 3, 4, 16, 5
MAX_TOKENS = 256
_BYTES = {"i32": 4, "i64": 8, "fp32": 4}


def _kernel(symbol: str, *parameters: tuple[str, str, int]) -> Kernel:
    """A kernel in two configurations; more than eight rows take the second."""
    configs = (
        Config(constants={"BLOCK": 4}, warps=1, stages=1),
        Config(constants={"BLOCK": 8}, warps=2, stages=1),
    )
    builds = tuple(
        Build(
            arch=arch,
            config=number,
            cubin=f"prefill/kernels/{symbol}.{number}.{arch}.cubin",
            threads=32 * config.warps,
            shared_bytes=number * 65536,
            registers=32,
            spill_bytes=0,
        )
        for arch in ARCHS
        for number, config in enumerate(configs)
    )
    choices = (Choice(rows=8, config=0), Choice(rows=None, config=1))
    return Kernel(
        symbol=symbol,
        source=f"prefill/kernels/{symbol}.py",
        parameters=tuple(Parameter(name=n, type=t, divisible=d) for n, t, d in parameters),
        configs=configs,
        builds=builds,
        choices=dict.fromkeys(ARCHS, choices),
    )


def _launch(
    kernel: str, arguments: tuple[Argument, ...], size: str, reads: str, writes: str
) -> Launch:
    grid = ((Extent(size=size, by="BLOCK"),), (Extent(size="B"),), ())
    named = tuple(reads.split()), tuple(writes.split())
    return Launch(
        kernel=kernel,
        arguments=arguments,
        grid=grid,
        ops=(f"%{kernel}",),
        reads=named[0],
        writes=named[1],
        flops="2*M",
    )


def toy_plan() -> LaunchPlan:
    """The prefill half of `tests/runtime/toy.py`."""
    table, logits = toy.VOCAB * toy.HIDDEN * 2, f"{toy.VOCAB * 4}*B"
    aligned = f"{-(-toy.VOCAB * 4 // 256) * 256}*B"
    second = -(-table // 256) * 256
    return LaunchPlan(
        schema=SCHEMA,
        triton="none",
        ptxas="none",
        max_tokens=MAX_TOKENS,
        kernels={
            "embed-1": _kernel(
                "embed",
                ("tokens", "*i32", 16),
                ("table", "*bf16", 16),
                ("state", "*fp32", 16),
                ("rows", "i32", 1),
            ),
            "sums-1": _kernel(
                "sums",
                ("state", "*fp32", 16),
                ("starts", "*i32", 16),
                ("sums", "*fp32", 16),
                ("sequences", "i32", 1),
            ),
            "head-1": _kernel(
                "head",
                ("sums", "*fp32", 16),
                ("starts", "*i32", 16),
                ("head", "*bf16", 16),
                ("logits", "*fp32", 16),
                ("rows", "i64", 1),
                ("scale", "fp32", 1),
            ),
        },
        buffers=(
            Buffer(name="logits", element="f32", bytes=logits, offset="0", first=2, last=2),
            Buffer(
                name="sums",
                element="f32",
                bytes="64*M",
                offset=aligned,
                first=1,
                last=2,
                zeroed=True,
            ),
        ),
        arena_bytes=f"{aligned} + 64*M",
        weights=(
            PlacedWeight(name="embed", tensors=("embed",), element="bf16", bytes=table, offset=0),
            PlacedWeight(
                name="head", tensors=("head",), element="bf16", bytes=table, offset=second
            ),
        ),
        weight_bytes=second + table,
        states=(PlacedState(name=toy.STATE, element="f32", bytes="64*M", offset="0"),),
        state_bytes="64*M",
        logits="logits",
        launches=(
            _launch(
                "embed-1",
                (
                    InputRef(name="tokens"),
                    WeightRef(name="embed"),
                    StateRef(name=toy.STATE),
                    SizeOf(size="M"),
                ),
                "M",
                "",
                toy.STATE,
            ),
            _launch(
                "sums-1",
                (
                    StateRef(name=toy.STATE),
                    InputRef(name="starts"),
                    BufferRef(name="sums"),
                    SizeOf(size="B"),
                ),
                "M",
                toy.STATE,
                "sums",
            ),
            _launch(
                "head-1",
                (
                    BufferRef(name="sums"),
                    InputRef(name="starts"),
                    WeightRef(name="head"),
                    BufferRef(name="logits"),
                    SizeOf(size="B"),
                    SizeOf(size="1"),
                ),
                "B",
                "sums",
                "logits",
            ),
        ),
    )


def _embed(launch: StubLaunch) -> None:
    rows = launch.arguments[3]
    tokens = launch.array(0, np.int32, rows)
    table = launch.array(1, BF16, toy.VOCAB, toy.HIDDEN)
    launch.array(2, np.float32, rows, toy.HIDDEN)[:] = table[tokens].astype(np.float32)


def _sums(launch: StubLaunch) -> None:
    starts = launch.array(1, np.int32, launch.arguments[3] + 1)
    state = launch.array(0, np.float32, int(starts[-1]), toy.HIDDEN)
    sums = launch.array(2, np.float32, int(starts[-1]), toy.HIDDEN)
    for first, end in pairwise(starts):
        sums[first:end] += np.cumsum(state[first:end], axis=0, dtype=np.float32)


def _head(launch: StubLaunch) -> None:
    count, scale = launch.arguments[4], np.uint32(launch.arguments[5]).view(np.float32)
    starts = launch.array(1, np.int32, count + 1)
    sums = launch.array(0, np.float32, int(starts[-1]), toy.HIDDEN)
    head = launch.array(2, BF16, toy.HIDDEN, toy.VOCAB).astype(np.float32)
    last = np.tanh(sums[starts[1:] - 1]) * scale
    launch.array(3, np.float32, count, toy.VOCAB)[:] = last @ head


TOY_KERNELS: Mapping[str, Callable[[StubLaunch], None]] = {
    "embed": _embed,
    "sums": _sums,
    "head": _head,
}


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
        _launch(
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
            "start-1": _kernel(
                "start",
                ("tokens", "*i32", 16),
                ("positions", "*i32", 16),
                ("sequences", "*i32", 16),
                ("x", "*fp32", 16),
                ("rows", "i32", 1),
            ),
            "layer-1": _kernel(
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
            "finish-1": _kernel(
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
                name="bias", tensors=("a", "b"), element="f32", bytes=2 * HIDDEN * 4, offset=0
            ),
        ),
        weight_bytes=2 * HIDDEN * 4,
        states=tuple(states),
        state_bytes=offset,
        logits="logits",
        launches=(
            _launch(
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
            _launch(
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
    """The bias, in two tensors that lie behind each other."""
    numbers = np.arange(2 * HIDDEN, dtype=np.float32) / 8
    return {"a": numbers[:HIDDEN], "b": numbers[HIDDEN:]}


def layered_forward(tokens: Array) -> tuple[Array, dict[str, Array]]:
    """Logits [B, 1, V] and states of `tokens` [B, S]: what must come out."""
    batch, count = tokens.shape
    bias = np.concatenate(list(layered_weights().values())).reshape(2, HIDDEN)
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


def write_toy(
    path: Path, plan: LaunchPlan | None = None, *, executors: tuple[str, ...] = ("cuda", "onnx")
) -> Path:
    """The toy with a launch plan, and ONNX files for decode."""
    return _write(
        path,
        plan or toy_plan(),
        cubins(toy_plan()),
        toy.contract(),
        {name: ("bf16", tensor) for name, tensor in toy.weights().items()},
        toy.VOCAB,
        executors,
        onnx={half: toy.onnx_half(half) for half in ("prefill", "decode")},
    )


def write_layered(path: Path) -> Path:
    """The layered model, of which there is a prefill half only."""
    tensors = {name: ("f32", tensor) for name, tensor in layered_weights().items()}
    plan = layered_plan()
    return _write(path, plan, cubins(plan), layered_contract(), tensors, VOCAB, ("cuda",), {})


def cubins(plan: LaunchPlan) -> dict[str, bytes]:
    """The files of all builds, as the stub takes them."""
    found = {}
    for kernel in plan.kernels.values():
        sizes = [_BYTES.get(parameter.type, 8) for parameter in kernel.parameters]
        for build in kernel.builds:
            # The second configuration is the slower one on the stub.
            found[build.cubin] = cubin(kernel.symbol, [*sizes, 8, 8], 0.01 * (1 + build.config))
    return found


def _write(
    path: Path,
    plan: LaunchPlan,
    kernels: Mapping[str, bytes],
    contract: Contract,
    tensors: Mapping[str, tuple[str, Array]],
    vocab: int,
    executors: tuple[str, ...],
    onnx: Mapping[str, bytes],
) -> Path:
    names = contract.state_names
    target = TargetRef("toy", "0" * 64)
    manifest = Manifest(
        tool=ToolInfo("hetc", "0.1.0"),
        kind="runnable",
        model=ModelInfo("toy", "toy", 1, 1, vocab, contract.max_context, "bf16"),
        workload=Workload(1, contract.max_context, 8, 8),
        targets={"prefill": target, "decode": target},
        halves={
            "prefill": HalfEntry(
                "prefill/graph.hetc",
                "prefill/model.onnx" if onnx else None,
                tuple(f"{name}.out" for name in names),
            ),
            "decode": HalfEntry("decode/graph.hetc", "decode/model.onnx" if onnx else None, names),
        },
        executors=executors,
    )
    with BundleWriter(path) as writer:
        writer.write_json("handoff.json", contract.to_json())
        for half in ("prefill", "decode"):
            writer.write_bytes(f"{half}/graph.hetc", b"graph")
            if onnx:
                writer.write_bytes(f"{half}/model.onnx", onnx[half])
        writer.write_bytes(LAUNCHES_FILE, msgspec.json.encode(plan))
        for name, data in kernels.items():
            writer.write_bytes(name, data)
        writer.write_tensors(
            "weights/model.safetensors",
            [
                (name, dtype, tensor.shape, partial(np.asarray, tensor))
                for name, (dtype, tensor) in tensors.items()
            ],
        )
        writer.commit(manifest)
    return path

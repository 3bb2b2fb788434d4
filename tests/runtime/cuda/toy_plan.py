"""A launch plan for the model of `tests/runtime/toy.py`, whose kernels are Python functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np

from hetc.bundle.launches import (
    SCHEMA,
    Buffer,
    BufferRef,
    InputRef,
    LaunchPlan,
    Matrix,
    PlacedState,
    PlacedWeight,
    SizeOf,
    StateRef,
    WeightRef,
)
from tests.runtime import toy
from tests.runtime.cuda.plan_bundles import (
    MAX_TOKENS,
    cubins,
    kernel_of,
    launch_of,
    write_bundle,
)
from tests.runtime.cuda.stub_driver import StubLaunch

BF16 = np.dtype(ml_dtypes.bfloat16)
TABLE = Matrix(rows=str(toy.VOCAB), columns=toy.HIDDEN, tile=("BLOCK", toy.HIDDEN))


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
            "embed-1": kernel_of(
                "embed",
                ("tokens", "*i32", 16),
                ("table", "*bf16", 16, TABLE),
                ("state", "*fp32", 16),
                ("rows", "i32", 1),
            ),
            "sums-1": kernel_of(
                "sums",
                ("state", "*fp32", 16),
                ("starts", "*i32", 16),
                ("sums", "*fp32", 16),
                ("sequences", "i32", 1),
            ),
            "head-1": kernel_of(
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
            launch_of(
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
            launch_of(
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
            launch_of(
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
    rows = launch.arguments[7]
    tokens = launch.array(0, np.int32, rows)
    table = launch.matrix(1, BF16)
    launch.array(6, np.float32, rows, toy.HIDDEN)[:] = table[tokens].astype(np.float32)


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


def write_toy(
    path: Path, plan: LaunchPlan | None = None, *, executors: tuple[str, ...] = ("cuda", "onnx")
) -> Path:
    """The toy with a launch plan, and ONNX files for decode."""
    return write_bundle(
        path,
        plan or toy_plan(),
        cubins(toy_plan()),
        toy.contract(),
        {name: ("bf16", tensor) for name, tensor in toy.weights().items()},
        toy.VOCAB,
        executors,
        onnx={half: toy.onnx_half(half) for half in ("prefill", "decode")},
    )

"""A toy decisions document, and what else a report tells of."""

from __future__ import annotations

from functools import cache
from typing import Any

from hetc import targets
from hetc.bundle import (
    Contract,
    Fallback,
    HalfEntry,
    Manifest,
    ModelInfo,
    StateSpec,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.passes.decisions import decide
from hetc.passes.partition import CutOptions, partition
from hetc.passes.workload import Phase
from hetc.passes.workload import Workload as Request
from hetc.report import Report, StateFacts, Summary
from tests.passes.toy_llama import Shape, program

LAYERS, HEADS, WIDTH = 3, 2, 64
# The fictional target: its numbers do not change when a data sheet is read again.
DEVICES: dict[Phase, str] = {"prefill": "grid-8x8:4", "decode": "grid-8x8"}
SPLIT = {"prefill:*": "prefill", "decode:*": "decode"}


@cache
def decisions(*, split: bool = True) -> dict[str, Any]:
    """Three layers, each phase on its own device, or (not `split`) all on one."""
    pins = SPLIT if split else {"*": "decode"}
    cut = partition(
        program(Shape(LAYERS, 512, 8, HEADS, 2048, 1024)),
        Request(1, 64, 16),
        {role: targets.load(name) for role, name in DEVICES.items()},
        targets.load_link(25),
        options=CutOptions(pins=pins, flips=split),
    )
    return decide(cut)


def summary(**changes: Any) -> Summary:
    """The summary of the toy."""
    facts: dict[str, Any] = {
        "name": "toy",
        "family": "llama",
        "layers": LAYERS,
        "parameters": 12_345_678,
        "dtype": "f32",
        "has_weights": True,
        "state": StateFacts(6, 3072, 0, ("causal attention, proven",)),
        "decisions": decisions(),
        "max_error": 2e-7,
    }
    return Summary(**facts | changes)


def contract() -> Contract:
    """The toy's states."""
    layout = f"B,{HEADS},P,{WIDTH}"
    return Contract(
        1,
        8192,
        tuple(
            StateSpec(
                name=f"layer{layer}.{name}",
                layer=layer,
                kind="kv",
                shape=("B", HEADS, "P", WIDTH),
                dtype="f32",
                append_axis=2,
                keep=None,
                producer_layout=layout,
                consumer_layout=layout,
                heads=HEADS,
            )
            for layer in range(LAYERS)
            for name in ("key", "value")
        ),
    )


def manifest(
    name: str = "toy", kind: str = "runnable", fallbacks: tuple[Fallback, ...] = ()
) -> Manifest:
    """The toy's manifest, as it is before its files are known."""
    states = contract().state_names
    return Manifest(
        tool=ToolInfo("hetc", "0.1.0"),
        kind=kind,
        model=ModelInfo(name, "llama", 12_345_678, LAYERS, 1024, 8192, "f32"),
        workload=Workload(1, 80, 64, 16),
        targets={
            "prefill": TargetRef("grid-8x8:4", "0" * 64),
            "decode": TargetRef("grid-8x8", "1" * 64),
        },
        halves={
            "prefill": HalfEntry("prefill/graph.hetc", None, tuple(f"{s}.out" for s in states)),
            "decode": HalfEntry("decode/graph.hetc", None, states),
        },
        executors=("onnx", "reference") if kind == "runnable" else (),
        summary=("toy   a summary", "cut   <b>no tag</b>"),
        fallbacks=fallbacks,
    )


def report(made: Manifest | None = None, *, split: bool = True) -> Report:
    """The toy's report."""
    devices: dict[str, targets.Target] = {r: targets.load(name) for r, name in DEVICES.items()}
    facts = ("3 attention masks proven causal",)
    document = decisions(split=split)
    return Report(made or manifest(), contract(), document, devices, targets.load_link(25), facts)

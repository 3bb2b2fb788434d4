"""A small Llama as a runnable bundle, with the files of both backends."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hetc.backends.onnx import OnnxBackend
from hetc.backends.reference import ReferenceBackend
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
from hetc.bundle.contract import Phase
from hetc.ir.dims import Dim
from hetc.ir.graph import Graph, Program
from hetc.ir.graph import StateSpec as State
from hetc.ir.types import Array


def contract_of(program: Program) -> Contract:
    """The hand-off of `program`."""
    return Contract(1, program.max_context, tuple(_state(spec) for spec in program.states))


def _state(spec: State) -> StateSpec:
    shape = tuple(str(dim) if isinstance(dim, Dim) else dim for dim in spec.type.shape)
    dtype, layout = spec.type.dtype.name, ",".join(map(str, shape))
    return StateSpec(
        spec.name, spec.layer, spec.kind, shape, dtype, spec.axis, spec.keep, layout, layout
    )


def write_bundle(path: Path, program: Program, weights: dict[str, Array], vocab: int) -> Path:
    """Write `program` with its weights to `path`."""
    names = tuple(spec.name for spec in program.states)
    halves: dict[Phase, Graph] = {"prefill": program.prefill, "decode": program.decode}
    states = {"prefill": tuple(f"{name}.out" for name in names), "decode": names}
    target = TargetRef("none", "0" * 64)
    manifest = Manifest(
        tool=ToolInfo("hetc", "0.1.0"),
        kind="runnable",
        model=ModelInfo("llama", "llama", 1, 2, vocab, program.max_context, "f32"),
        workload=Workload(1, program.max_context, 8, 8),
        targets={"prefill": target, "decode": target},
        halves={
            phase: HalfEntry(f"{phase}/graph.hetc", f"{phase}/model.onnx", states[phase])
            for phase in halves
        },
        executors=("onnx", "reference", "null"),
    )
    with BundleWriter(path) as writer:
        writer.write_bytes("handoff.json", contract_of(program).to_bytes())
        for phase, graph in halves.items():
            for backend in (OnnxBackend(), ReferenceBackend()):
                for name, data in backend.emit(graph).items():
                    writer.write_bytes(f"{phase}/{name}", data)
        writer.write_tensors(
            "weights/model.safetensors",
            [
                (
                    name,
                    "bf16" if data.dtype.itemsize == 2 else "f32",
                    data.shape,
                    partial(_same, data),
                )
                for name, data in sorted(weights.items())
            ],
        )
        writer.commit(manifest)
    return path


def _same(data: Array) -> Array:
    return data

"""Write a compiled model without phases as a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

import hetc
from hetc.backends.onnx import emit_onnx
from hetc.bundle import (
    BundleWriter,
    Fallback,
    ForwardEntry,
    Manifest,
    ModelInfo,
    TargetRef,
    Tensor,
    ToolInfo,
)
from hetc.bundle.version import BUNDLE
from hetc.driver.plan_whole import PlannedWhole
from hetc.ir.dims import Dim
from hetc.ir.op import Value
from hetc.ir.text import print_graph
from hetc.ir.types import F32, Array, dtype_of
from hetc.passes.check_whole import CheckedWhole
from hetc.report.readme import readme

Stored = tuple[str, str, tuple[int, ...], Callable[[], Array]]
GRAPH_FILE, ONNX_FILE = "forward/graph.hetc", "forward/model.onnx"
GOLDEN_FILE = "golden/golden.safetensors"


def write_whole(
    planned: PlannedWhole,
    checked: CheckedWhole | None,
    writer: BundleWriter,
    summary: tuple[str, ...],
    step: Callable[[str], None],
) -> Manifest:
    """Write all files of the bundle and commit it. `checked` holds the golden vectors; None for a
    plan without weights."""
    step("writing the graph")
    graph = planned.outlined
    writer.write_bytes(GRAPH_FILE, print_graph(graph).encode())
    if "onnx" in planned.executors:
        writer.write_bytes(ONNX_FILE, emit_onnx(graph))
    writer.write_json("decisions.json", planned.decisions)
    if planned.model.weights is not None:
        step("writing the weights")
        writer.write_tensors("weights/model.safetensors", _weights(planned))
    if checked is not None:
        writer.write_tensors(GOLDEN_FILE, _golden(checked))
    tokenizer = planned.model.tokenizer
    if tokenizer is not None:
        writer.write_bytes("tokenizer/tokenizer.json", tokenizer.tokenizer_json)
        writer.write_json("tokenizer/config.json", dict(tokenizer.config))
    manifest = _manifest(planned, checked, summary)
    writer.write_bytes("README.md", readme(manifest, None).encode())
    return writer.commit(manifest)


def _weights(planned: PlannedWhole) -> Iterator[Stored]:
    for name in sorted(planned.stored_weights):
        type = planned.lowered.weights.types[name]
        shape = tuple(dim for dim in type.shape if isinstance(dim, int))
        yield name, type.dtype.name, shape, partial(planned.lowered.weights, name)


def _golden(checked: CheckedWhole) -> list[Stored]:
    named: Mapping[str, Array] = {
        **{f"input.{name}": array for name, array in checked.inputs.items()},
        **{f"output.{name}": array for name, array in checked.outputs.items()},
    }
    return [
        (name, dtype_of(array).name, array.shape, partial(np.ascontiguousarray, array))
        for name, array in named.items()
    ]


def _manifest(
    planned: PlannedWhole, checked: CheckedWhole | None, summary: tuple[str, ...]
) -> Manifest:
    model, graph = planned.model, planned.outlined
    names = zip(graph.output_names, graph.outputs, strict=True)
    return Manifest(
        tool=ToolInfo("hetc", hetc.__version__),
        kind="runnable" if model.weights is not None else "plan",
        model=ModelInfo(
            name=model.name,
            family=model.family,
            parameters=planned.parameters,
            layers=model.layers,
            vocab=0,
            max_context=0,
            dtype=planned.lowered.dtype.name,
        ),
        workload=None,
        targets={
            role: TargetRef(planned.targets[role].name, planned.targets[role].sha256)
            for role in ("prefill", "decode")
        },
        halves={},
        executors=planned.executors,
        summary=summary,
        fallbacks=tuple(Fallback(r.code, r.at, r.text) for r in planned.fallbacks),
        forward=ForwardEntry(
            graph=GRAPH_FILE,
            onnx=ONNX_FILE if "onnx" in planned.executors else None,
            reason=str(planned.no_phases),
            inputs=tuple(_tensor(value.name, value) for value in graph.inputs),
            outputs=tuple(_output(name, value) for name, value in names),
            sizes={name: model.sizes.get(name, (1, None)) for name in planned.call.sizes},
            planned=planned.call.sizes,
            golden=GOLDEN_FILE if checked is not None else None,
        ),
        # A reader that knows prefill and decode alone could not use it.
        compat=str(BUNDLE),
    )


def _tensor(name: str, value: Value) -> Tensor:
    shape = tuple(str(dim) if isinstance(dim, Dim) else dim for dim in value.shape)
    return Tensor(name, value.dtype.name, shape)


def _output(name: str, value: Value) -> Tensor:
    """Floats leave in f32 at least, as logits do."""
    found = _tensor(name, value)
    narrow = value.dtype.is_float and value.dtype.bits < F32.bits
    return Tensor(name, F32.name, found.shape) if narrow else found

"""Write a compiled model as a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import hetc
from hetc.backends.dataflow.plan_file import plan_bytes
from hetc.backends.onnx import emit_onnx
from hetc.bundle import (
    BundleWriter,
    Contract,
    Fallback,
    Golden,
    HalfEntry,
    Manifest,
    ModelInfo,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.bundle.native import WEIGHTS_FILE
from hetc.driver.contract import contract_of
from hetc.driver.plan import Planned
from hetc.ir.text import print_graph
from hetc.ir.types import Array
from hetc.passes.self_check import Checked
from hetc.report.html import Report, html_report
from hetc.report.readme import readme

Step = Callable[[str], None]
PLAN_FILE, SOCKET_FILE = "decode/plan.json", "decode/socket.hetc"
Tensor = tuple[str, str, tuple[int, ...], Callable[[], Array]]


def write_bundle(
    planned: Planned,
    checked: Checked | None,
    writer: BundleWriter,
    summary: tuple[str, ...],
    step: Step,
) -> Manifest:
    """Write all files of the bundle and commit it. `checked` holds the golden vectors; None for a
    plan without weights."""
    program = planned.program
    contract = contract_of(program)
    halves = {"prefill": planned.outlined["prefill"], "decode": planned.outlined["decode"]}
    executors = _executors(planned)
    step("writing the halves")
    for phase, graph in halves.items():
        writer.write_bytes(f"{phase}/graph.hetc", print_graph(graph).encode())
        if "onnx" in executors:
            writer.write_bytes(f"{phase}/model.onnx", emit_onnx(graph))
    if "native" in executors:
        for name, data in planned.native.files().items():
            writer.write_bytes(name, data)
    for name, data in planned.kernels.result().files.items():
        writer.write_bytes(name, data)
    spatial = planned.spatial
    if spatial is not None:
        writer.write_bytes(PLAN_FILE, plan_bytes(spatial.plan))
        writer.write_bytes(SOCKET_FILE, spatial.graph_text.encode())
    writer.write_bytes("handoff.json", contract.to_bytes())
    writer.write_json("decisions.json", planned.decisions)
    if planned.model.weights is not None:
        step("writing the weights")
        writer.write_tensors("weights/model.safetensors", _weights(planned))
    if "native" in executors:
        step("packing the weights")
        packed = planned.native.packed(planned.lowered.weights)
        writer.write_chunks(WEIGHTS_FILE, planned.native.packed_bytes, packed)
    if checked is not None:
        writer.write_tensors("golden/golden.safetensors", _golden(checked))
    tokenizer = planned.model.tokenizer
    if tokenizer is not None:
        writer.write_bytes("tokenizer/tokenizer.json", tokenizer.tokenizer_json)
        writer.write_json("tokenizer/config.json", dict(tokenizer.config))
    manifest = _manifest(planned, checked, executors, summary)
    step("writing the report")
    writer.write_bytes("README.md", readme(manifest, contract).encode())
    writer.write_bytes("report.html", html_report(_report(planned, manifest, contract)).encode())
    return writer.commit(manifest)


def _report(planned: Planned, manifest: Manifest, contract: Contract) -> Report:
    targets = {"prefill": planned.prefill_target, "decode": planned.decode_target}
    assumed = (f"assumed, not proven: {text}" for text in planned.assumptions)
    facts = (*planned.program.facts, *assumed, *planned.model.notes)
    spatial = planned.spatial
    plan = None if spatial is None else spatial.plan
    return Report(manifest, contract, planned.decisions, targets, planned.cut.link, facts, plan)


def _executors(planned: Planned) -> tuple[str, ...]:
    if planned.model.weights is None:
        return ()
    native = () if planned.native.reasons else ("native",)
    onnx = () if planned.onnx_reasons else ("onnx",)
    # It runs prefill alone: decode falls to the first of the others.
    cuda = ("cuda",) if planned.kernels.result().files else ()
    return (*cuda, *native, *onnx, "reference")


def _weights(planned: Planned) -> Iterator[Tensor]:
    for name in sorted(planned.stored_weights):
        type = planned.lowered.weights.types[name]
        shape = tuple(dim for dim in type.shape if isinstance(dim, int))
        yield name, type.dtype.name, shape, partial(planned.lowered.weights, name)


def _golden(checked: Checked) -> list[Tensor]:
    arrays = {
        "tokens": checked.tokens.astype(np.int64),
        "logits_prefill": checked.prefill_logits,
        "logits_decode": checked.decode_logits,
    }
    return [
        (
            name,
            "i64" if name == "tokens" else "f32",
            array.shape,
            partial(np.ascontiguousarray, array),
        )
        for name, array in arrays.items()
    ]


def _manifest(
    planned: Planned, checked: Checked | None, executors: tuple[str, ...], summary: tuple[str, ...]
) -> Manifest:
    model, program, usual = planned.model, planned.program, planned.workload
    names = tuple(spec.name for spec in program.states)
    onnx = "onnx" in executors
    states = {"prefill": tuple(f"{name}.out" for name in names), "decode": names}
    spatial = (PLAN_FILE, SOCKET_FILE) if planned.spatial is not None else ()
    golden = Golden(checked.prefill_tokens, len(checked.decode_logits)) if checked else None
    return Manifest(
        tool=ToolInfo("hetc", hetc.__version__),
        kind="runnable" if model.weights is not None else "plan",
        model=ModelInfo(
            name=model.name,
            family=model.family,
            parameters=planned.parameters,
            layers=planned.layers,
            vocab=planned.vocabulary,
            max_context=program.max_context,
            dtype=planned.dtype.name,
        ),
        workload=Workload(usual.batch, usual.rows, usual.prompt_tokens, usual.new_tokens),
        targets={
            "prefill": TargetRef(planned.prefill_target.name, planned.prefill_target.sha256),
            "decode": TargetRef(planned.decode_target.name, planned.decode_target.sha256),
        },
        halves={
            phase: HalfEntry(
                f"{phase}/graph.hetc",
                f"{phase}/model.onnx" if onnx else None,
                states[phase],
                *(spatial if phase == "decode" else ()),
            )
            for phase in ("prefill", "decode")
        },
        executors=executors,
        golden=golden,
        summary=summary,
        assumptions=planned.assumptions,
        fallbacks=tuple(Fallback(r.code, r.at, r.text) for r in planned.fallbacks),
    )

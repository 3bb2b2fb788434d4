"""Single nodes of ONNX Runtime's own domain, run by it and by hetc's importer and semantics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

from hetc.frontends.onnx import ImportedOnnx, import_whole
from hetc.ir.interpret import interpret
from hetc.ir.types import Array

MICROSOFT = "com.microsoft"


def model_of(
    kind: str,
    inputs: Sequence[str],
    arrays: Mapping[str, Array],
    weights: Mapping[str, Array],
    outputs: Sequence[str] = ("y",),
    domain: str = MICROSOFT,
    **attributes: Any,
) -> ModelProto:
    """A model of one node: `arrays` are its inputs, `weights` its initializers."""
    node = helper.make_node(kind, inputs, outputs, domain=domain, name="node", **attributes)
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in outputs if name]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "node", infos, made, stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def by_runtime(model: ModelProto, arrays: Mapping[str, Array]) -> list[Array]:
    """The results of ONNX Runtime, without its rewrites of the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(arrays)))


def by_hetc(
    model: ModelProto, arrays: Mapping[str, Array], known: Sequence[str] = ()
) -> tuple[ImportedOnnx, tuple[Array, ...]]:
    """The import with `known` inputs given, and the results of its graph."""
    imported = import_whole(model, known={name: arrays[name] for name in known})
    inputs = [arrays[value.name] for value in imported.graph.inputs]
    return imported, interpret(imported.graph, inputs, lambda name: imported.weights[name].load())


def assert_agree(
    model: ModelProto,
    arrays: Mapping[str, Array],
    known: Sequence[str] = (),
    *,
    tolerance: float = 2e-5,
) -> ImportedOnnx:
    """ONNX Runtime and hetc give the same, and hetc without an opaque op."""
    imported, found = by_hetc(model, arrays, known)
    assert imported.opaque == ()
    for ours, theirs in zip(found, by_runtime(model, arrays), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return imported

"""Runs the graph of a bundle without phases with the interpreter: slow, and an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from hetc.backends.base import walk
from hetc.bundle import OpenBundle
from hetc.errors import BackendError
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.ops.source import Weight
from hetc.ir.text import parse
from hetc.ir.types import F32, Array, DType


class ReferenceForward:
    """The graph, interpreted in its own element types; narrow floats leave as f32."""

    name = "reference"

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._bundle: OpenBundle | None = None
        self._types: dict[str, DType] = {}
        self._weights: dict[str, Array] = {}

    def prepare(self, bundle: OpenBundle) -> None:
        """Read the graph's text form.

        Raises IRError where it does not parse, BackendError HETC-E015 where its inputs or outputs
        are not those of the manifest.
        """
        entry = bundle.manifest.forward
        assert entry is not None, "a bundle without phases"
        graph = parse(bundle.read_bytes(entry.graph).decode())
        for label, found, tensors in (
            ("inputs", [value.name for value in graph.inputs], entry.inputs),
            ("outputs", list(graph.output_names), entry.outputs),
        ):
            if found != [tensor.name for tensor in tensors]:
                raise BackendError(
                    "HETC-E015",
                    f"the {label} of this graph are not those of the manifest",
                    at=entry.graph,
                    expected=", ".join(tensor.name for tensor in tensors),
                    found=", ".join(found),
                    do="compile the bundle again",
                )
        self._graph, self._bundle = graph, bundle
        self._types = {op.name: op.type.dtype for op in walk(graph) if isinstance(op, Weight)}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The outputs by name.

        Raises BackendError HETC-E016 on a closed executor, IRError where the interpreter cannot.
        """
        graph = self._graph
        if graph is None:
            raise BackendError(
                "HETC-E016", "this executor is closed", at=self.name, do="load the bundle again"
            )
        given = tuple(inputs[value.name] for value in graph.inputs)
        outputs = interpret(graph, given, self._weight)
        return {
            name: array.astype(F32.numpy)
            if value.dtype.is_float and value.dtype.bits < F32.bits
            else array
            for name, value, array in zip(graph.output_names, graph.outputs, outputs, strict=True)
        }

    def close(self) -> None:
        """Let go of the graph and of the weights."""
        self._graph, self._bundle = None, None
        self._weights.clear()

    def _weight(self, name: str) -> Array:
        if name not in self._weights:
            assert self._bundle is not None, "open as long as the graph"
            data, dtype = self._bundle.weight(name), self._types[name].numpy
            self._weights[name] = data if data.dtype == dtype else data.astype(dtype)
        return self._weights[name]


def reference_forwards() -> Callable[[], ReferenceForward]:
    """A factory of executors."""
    return ReferenceForward

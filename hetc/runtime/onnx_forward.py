"""Runs the graph of a bundle without phases with ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.errors import RuntimeFault
from hetc.runtime.forward import Arrays, ForwardFactory
from hetc.runtime.onnx_executor import (
    OnnxOptions,
    SharedWeights,
    onnxruntime_module,
    open_session,
    ort_fault,
    ort_value,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxForward:
    """One ONNX Runtime session on the CPU; its kernels may lay out their weights anew."""

    name = "onnx"

    def __init__(self, options: OnnxOptions) -> None:
        self._options = options
        self._session: InferenceSession | None = None
        self._outputs: tuple[str, ...] = ()
        self._held: tuple[NDArray[Any], ...] = ()

    def prepare(self, bundle: OpenBundle) -> None:
        """Make the session; raises as `OnnxExecutor.prepare` does."""
        entry = bundle.manifest.forward
        if entry is None or entry.onnx is None:
            raise RuntimeFault(
                "HETC-R005",
                "the graph of this bundle has no ONNX file",
                at="manifest.json, forward.onnx",
                do="choose another executor, or compile again",
            )
        session, held = open_session(
            bundle, entry.onnx, "the graph", SharedWeights(), self._options.threads, prepack=True
        )
        for label, found, expected in (
            ("inputs", session.get_inputs(), entry.inputs),
            ("outputs", session.get_outputs(), entry.outputs),
        ):
            names = {value.name for value in found}
            if names != {tensor.name for tensor in expected}:
                raise RuntimeFault(
                    "HETC-R009",
                    f"the {label} of this ONNX file are not those of the manifest",
                    at=entry.onnx,
                    expected=", ".join(tensor.name for tensor in expected),
                    found=", ".join(sorted(names)),
                    do="compile the bundle again",
                )
        self._session, self._held = session, held
        self._outputs = tuple(tensor.name for tensor in entry.outputs)

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs by name; raises RuntimeFault HETC-R008 where ONNX Runtime fails."""
        if self._session is None:
            raise RuntimeFault(
                "HETC-R004", "this executor is closed", at=self.name, do="load the bundle again"
            )
        ort = onnxruntime_module()
        binding = self._session.io_binding()
        # Kept in a local: a bound value must live until the run is over.
        values = {name: ort_value(ort, np.asarray(array)) for name, array in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise ort_fault("ONNX Runtime failed", "forward", error) from error
        made = [value.numpy() for value in binding.get_outputs()]
        return dict(zip(self._outputs, made, strict=True))

    def close(self) -> None:
        """Let go of the session and the weights."""
        self._session, self._held = None, ()


def onnx_forwards(options: OnnxOptions | None = None) -> ForwardFactory:
    """A factory of executors."""
    return lambda: OnnxForward(options or OnnxOptions())

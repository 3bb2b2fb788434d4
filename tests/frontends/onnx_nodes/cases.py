"""The node tests that the installed `onnx` brings, and how one of them is run: import, interpret,
compare. `scope.py` says which of them hetc does not take on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from hetc.errors import HetcError
from hetc.frontends.onnx import import_whole
from hetc.ir.interpret import interpret
from hetc.ir.types import Array

# Inputs that an operator needs while a model is imported, since they decide sizes or which function
# it is. In models they are initializers; the node tests pass them as inputs.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "AffineGrid": ("size",),
    "BlackmanWindow": ("x",),
    "CenterCropPad": ("shape",),
    "Col2Im": ("image_shape", "block_shape"),
    "ConstantOfShape": ("x",),
    "CumProd": ("axis",),
    "CumSum": ("axis",),
    "DFT": ("dft_length", "axis"),
    "Dropout": ("r", "t"),
    "Expand": ("new_shape",),
    "HammingWindow": ("x",),
    "HannWindow": ("x",),
    "If": ("cond",),
    "LSTM": ("sequence_lens",),
    "Loop": ("trip_count", "cond"),
    "MaxUnpool": ("output_shape",),
    "MelWeightMatrix": (
        "num_mel_bins",
        "dft_length",
        "sample_rate",
        "lower_edge_hertz",
        "upper_edge_hertz",
    ),
    "OneHot": ("depth",),
    "Pad": ("pads", "axes"),
    "Range": ("start", "limit", "delta"),
    "Reshape": ("shape",),
    "Resize": ("roi", "scales", "sizes"),
    "STFT": ("step", "frame_step", "frame_length"),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Split": ("split",),
    "Squeeze": ("axes",),
    "Tile": ("y", "repeats"),
    "TopK": ("k",),
    "Trilu": ("k",),
    "Unsqueeze": ("axes",),
    "Upsample": ("scales",),
    **{
        f"Reduce{kind}": ("axes",)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")
    },
    "ReduceSumSquare": ("axes",),
}
# bf16 has 8 bits of precision: two of its last places, as ONNX's own runner has it.
_BF16_RTOL = 2**-6
EXPANDED = "_expanded"


@dataclass(frozen=True)
class NodeCase:
    """One node test. `op` is the operator that it is about, also where the test is written out by
    the function that defines the operator.
    """

    name: str
    op: str
    expanded: bool
    test: Any

    @property
    def known(self) -> dict[str, Array]:
        """The inputs that are given when the model is imported."""
        names = [item.name for item in self.test.model.graph.input]
        inputs = dict(zip(names, self.test.data_sets[0][0], strict=True))
        return {name: np.asarray(inputs[name]) for name in KNOWN.get(self.op, ()) if name in inputs}


@cache
def node_cases() -> Mapping[str, NodeCase]:
    """Every node test of the installed `onnx`, by name."""
    with warnings.catch_warnings():
        # The tests themselves divide by zero, and cast what does not fit.
        warnings.simplefilter("ignore", RuntimeWarning)
        tests = {test.name: test for test in load_model_tests(kind="node")}
    found = {}
    for name, test in tests.items():
        # `test_x_ver18_expanded` and `test_x_expanded_ver18` are both `test_x`, or `test_x_ver18`.
        plain = name.replace(EXPANDED, "")
        of = tests.get(plain) or tests[plain.rpartition("_ver")[0]]
        expanded = EXPANDED in name
        assert of.model is not None, "a node test comes with its model"
        found[name] = NodeCase(name, of.model.graph.node[-1].op_type, expanded, test)
    return found


def failure(case: NodeCase) -> str:
    """What keeps a node test from passing; empty where it passes.

    An opaque op is a failure: it would run ONNX's evaluator, and not hetc's semantics.
    """
    model, known = case.test.model, case.known
    try:
        imported = import_whole(model, known=known)
        if imported.opaque:
            return imported.opaque[0].text
        for given, expected in case.test.data_sets:
            names = [item.name for item in model.graph.input]
            feeds = {
                name: array
                for name, item in zip(names, given, strict=True)
                if (array := _array(item)) is not None
            }
            inputs = [feeds[value.name] for value in imported.graph.inputs]
            results = interpret(imported.graph, inputs, lambda name: imported.weights[name].load())
            for ours, item in zip(results, expected, strict=True):
                theirs = _array(item)
                assert theirs is not None, "an imported output is a tensor"
                if problem := difference(ours, theirs, case.test.rtol, case.test.atol):
                    return problem
    except HetcError as error:
        return f"{error.what}: {error.found}" if error.found else error.what
    return ""


def _array(item: Any) -> Array | None:
    """A tensor of a node test as an array; None for a sequence or an optional."""
    if isinstance(item, TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if np.isscalar(item) or isinstance(item, np.ndarray) else None


def difference(ours: Array, theirs: Array, rtol: float, atol: float) -> str:
    """How two results differ; empty where they are equal within the tolerances."""
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return (
            f"{ours.dtype}{list(ours.shape)} where {theirs.dtype}{list(theirs.shape)} is expected"
        )
    if ours.dtype.name == "bfloat16":
        rtol = max(rtol, _BF16_RTOL)
    if ours.dtype.kind not in "bc":
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    close = np.isclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    first = tuple(map(int, np.argwhere(~close)[0]))
    example = f"{ours[first]} where {theirs[first]} is expected"
    return f"{int((~close).sum())} of {close.size} numbers differ, such as {example}"

"""Which node tests hetc does not take on, each with the reason: by the element types that a test is
about, by its operator, or by itself. `test_onnx_nodes.py` holds the table against what happens.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto, TypeProto

from tests.frontends.onnx_nodes.cases import NodeCase

# Element types by their names in onnx.proto.
_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "strings": ("STRING",),
    "8-bit floats without infinities or negative zero, which no target of hetc has": (
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2FNUZ",
    ),
    "integers of 2 and 4 bits, which hetc reads from files and widens to bytes": (
        "INT2",
        "INT4",
        "UINT2",
        "UINT4",
    ),
    "floats of 4 bits and scales without a sign (microscaling)": ("FLOAT4E2M1", "FLOAT8E8M0"),
}
_BY_OP: Mapping[str, tuple[str, ...]] = {
    "results as long as an algorithm on data makes them": ("NonMaxSuppression", "Unique"),
    "random numbers": ("Bernoulli",),
    "steps of training": ("Adagrad", "Adam", "Momentum"),
    "compressed images": ("ImageDecoder",),
    "text": (
        "LabelEncoder",
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
    ),
    "classical machine learning (`ai.onnx.ml`)": (
        "ArrayFeatureExtractor",
        "Binarizer",
        "TreeEnsemble",
    ),
    "sequences and optionals at the border of a graph": (
        "OptionalGetElement",
        "OptionalHasElement",
        "SequenceInsert",
        "SequenceMap",
        "SplitToSequence",
    ),
}
_BY_NAME: Mapping[str, tuple[str, ...]] = {
    "random numbers": (
        "test_training_dropout",
        "test_training_dropout_default",
        "test_training_dropout_default_mask",
        "test_training_dropout_mask",
    ),
    "operator sets before 13": ("test_scan_sum",),
}
_BORDER = "sequences and optionals at the border of a graph"

_TYPES = {name: reason for reason, names in _BY_TYPE.items() for name in names}
_OPS = {name: reason for reason, names in _BY_OP.items() for name in names}
_NAMES = {name: reason for reason, names in _BY_NAME.items() for name in names}
NAMED = frozenset(_OPS) | frozenset(_NAMES)
"""Every operator and test that the tables name: each of them must exist."""

# What fails in scope, and why hetc leaves it.
FAILING: Mapping[str, str] = {
    **dict.fromkeys(
        ("test_attention_4d_causal_fp16", "test_attention_4d_causal_fp16_expanded"),
        "two numbers of 192 are one last place of f16 away; hetc accumulates in f32",
    ),
    **dict.fromkeys(
        ("test_dft_inverse", "test_dft_inverse_opset19"),
        "the expected numbers hold rounding errors of 2e-7 where the exact result is 0",
    ),
}


def out_of_scope(case: NodeCase) -> str:
    """Why hetc does not take a node test on; empty where it does."""
    if case.name in _NAMES:
        return _NAMES[case.name]
    if case.op in _OPS:
        return _OPS[case.op]
    graph = case.test.model.graph
    for info in (*graph.input, *graph.output):
        if reason := _border(info.type):
            return reason
    return ""


def _border(type: TypeProto) -> str:
    if not type.HasField("tensor_type"):
        return _BORDER
    return _TYPES.get(TensorProto.DataType.Name(type.tensor_type.elem_type), "")

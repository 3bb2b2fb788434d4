"""The reader of ONNX files against the `onnx` package, and against damage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.errors import RuntimeFault
from hetc.runtime.onnx_file import ExternalWeight, external_weights
from tests.runtime.toy import HIDDEN, VOCAB, onnx_half

onnx = pytest.importorskip("onnx")


def tensor(name: str, *dims: int, data_type: int = 1, location: str = "", offset: int = 0) -> Any:
    made = onnx.TensorProto(name=name, data_type=data_type, dims=dims)
    made.data_location = onnx.TensorProto.EXTERNAL
    made.external_data.add(key="location", value=location or f"in {name}")
    if offset:
        made.external_data.add(key="offset", value=str(offset))
    return made


def model(
    *nodes: Any, initializers: tuple[Any, ...] = (), functions: tuple[Any, ...] = ()
) -> bytes:
    graph = onnx.GraphProto(name="g", node=nodes, initializer=initializers)
    return bytes(onnx.ModelProto(graph=graph, functions=functions).SerializeToString())


def test_external_initializers_are_found_and_others_are_not() -> None:
    assert external_weights(onnx_half("decode"), "x") == (
        ExternalWeight("embed", 1, (VOCAB, HIDDEN), "embed"),
        ExternalWeight("head", 1, (HIDDEN, VOCAB), "head"),
    )


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.lists(st.integers(0, 2**40), max_size=4)),
        max_size=4,
        unique_by=lambda pair: pair[0],
    )
)
def test_names_and_shapes_are_read_as_written(wanted: list[tuple[str, list[int]]]) -> None:
    data = model(initializers=tuple(tensor(n, *dims, data_type=16) for n, dims in wanted))
    found = external_weights(data, "x")
    assert found == tuple(ExternalWeight(n, 16, tuple(dims), f"in {n}") for n, dims in wanted)


def subgraph() -> Any:
    return onnx.GraphProto(name="sub", initializer=[tensor("hidden", 1)])


def sparse() -> Any:
    return onnx.SparseTensorProto(values=tensor("hidden", 1))


HIDING_PLACES = {
    "attribute": lambda: onnx.AttributeProto(name="a", t=tensor("hidden", 1)),
    "attributes": lambda: onnx.AttributeProto(name="a", tensors=[tensor("hidden", 1)]),
    "subgraph": lambda: onnx.AttributeProto(name="a", g=subgraph()),
    "subgraphs": lambda: onnx.AttributeProto(name="a", graphs=[subgraph()]),
    "sparse": lambda: onnx.AttributeProto(name="a", sparse_tensor=sparse()),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
@pytest.mark.parametrize("in_function", [False, True])
def test_data_outside_is_found_wherever_it_hides(place: str, in_function: bool) -> None:
    node = onnx.NodeProto(op_type="If", attribute=[HIDING_PLACES[place]()])
    function = onnx.FunctionProto(name="f", node=[node])
    data = model(functions=(function,)) if in_function else model(node)
    with pytest.raises(RuntimeFault, match=r"HETC-R007(.|\n)*hidden"):
        external_weights(data, "x")


def test_weights_may_not_share_a_place_or_begin_inside_one() -> None:
    together = (tensor("a", 1, location="w"), tensor("b", 1, location="w"))
    for bad in (together, (tensor("a", 1, offset=64),)):
        with pytest.raises(RuntimeFault, match="HETC-R007"):
            external_weights(model(initializers=bad), "x")


def test_sparse_initializers_too() -> None:
    graph = onnx.GraphProto(name="g", sparse_initializer=[sparse()])
    with pytest.raises(RuntimeFault, match="HETC-R007"):
        external_weights(onnx.ModelProto(graph=graph).SerializeToString(), "x")


def code_of(data: bytes) -> str | None:
    """The code of the error that reading `data` gives; None if it is read."""
    try:
        external_weights(data, "x")
    except RuntimeFault as error:
        return error.code
    return None


@given(st.binary(max_size=60))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    assert code_of(data) in (None, "HETC-R007")


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = onnx_half("decode")
    cut = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    assert code_of(whole[:cut]) in (None, "HETC-R007")
    assert code_of(whole[:cut] + bytes([byte]) + whole[cut + 1 :]) in (None, "HETC-R007")

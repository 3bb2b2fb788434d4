"""Which weights an ONNX file leaves outside, read from its bytes without the `onnx` package.

ONNX Runtime refuses a weight that the file does not declare, and would look on the disk for one
that nobody supplies; so the runtime must know the names before it makes a session. Protocol
buffers' wire format and the field numbers are those of the ONNX specification (onnx/onnx.proto).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hetc.errors import RuntimeFault

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
EXTERNAL = 1  # TensorProto.DataLocation

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
FUNCTION_NODE = 7
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
SPARSE_TENSORS = (1, 2)
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_EXTERNAL_DATA, TENSOR_LOCATION = 1, 2, 8, 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2

Field = tuple[int, int | memoryview]


@dataclass(frozen=True)
class ExternalWeight:
    """A weight that the file declares and does not hold.

    `onnx_type` is TensorProto.DataType; `location` is the name under which its bytes are looked
    for, one for each weight.
    """

    name: str
    onnx_type: int
    shape: tuple[int, ...]
    location: str


def external_weights(model: bytes, at: str) -> tuple[ExternalWeight, ...]:
    """The external initializers of the main graph of an ONNX file.

    Raises RuntimeFault HETC-R007 where `model` is no ONNX file, where two weights share a location
    or begin inside of it, or where anything else is left outside (the tensors of subgraphs, of
    attributes or of functions): such data is never looked for.
    """
    try:
        found = list(_model(memoryview(model)))
    except (ValueError, IndexError, RecursionError) as error:
        raise RuntimeFault(
            "HETC-R007",
            "this is not an ONNX file that the runtime can read",
            at=at,
            found=str(error) or type(error).__name__,
            do="compile the bundle again",
        ) from error
    hidden = [weight.name for weight, is_initializer in found if not is_initializer]
    if hidden:
        raise RuntimeFault(
            "HETC-R007",
            "this ONNX file keeps data outside in a place that hetc does not read",
            at=f"{at}: {hidden[0] or 'a tensor without name'}",
            expected="external data for the initializers of the main graph only",
            found=f"{len(hidden)} other tensors with external data",
            do="compile the bundle again",
        )
    weights = tuple(weight for weight, _ in found)
    shared = [place for place, count in Counter(w.location for w in weights).items() if count > 1]
    if shared:
        raise RuntimeFault(
            "HETC-R007",
            "this ONNX file keeps several weights in one place",
            at=f"{at}: {shared[0] or 'no location'}",
            expected="a location for each external weight, such as its name",
            found=f"{len(shared)} locations of more than one",
            do="compile the bundle again",
        )
    return weights


def _model(data: memoryview) -> Iterator[tuple[ExternalWeight, bool]]:
    for number, value in _fields(data):
        if number == MODEL_GRAPH:
            yield from _graph(_message(value), main=True)
        elif number == MODEL_FUNCTIONS:
            for inner, node in _fields(_message(value)):
                if inner == FUNCTION_NODE:
                    yield from _node(_message(node))


def _graph(data: memoryview, *, main: bool) -> Iterator[tuple[ExternalWeight, bool]]:
    for number, value in _fields(data):
        if number == GRAPH_INITIALIZER:
            yield from ((weight, main) for weight in _tensor(_message(value)))
        elif number == GRAPH_SPARSE_INITIALIZER:
            yield from _sparse(_message(value))
        elif number == GRAPH_NODE:
            yield from _node(_message(value))


def _node(data: memoryview) -> Iterator[tuple[ExternalWeight, bool]]:
    for number, value in _fields(data):
        if number != NODE_ATTRIBUTE:
            continue
        for inner, content in _fields(_message(value)):
            if inner in ATTRIBUTE_TENSORS:
                yield from ((weight, False) for weight in _tensor(_message(content)))
            elif inner in ATTRIBUTE_SPARSE:
                yield from _sparse(_message(content))
            elif inner in ATTRIBUTE_GRAPHS:
                yield from _graph(_message(content), main=False)


def _sparse(data: memoryview) -> Iterator[tuple[ExternalWeight, bool]]:
    for number, value in _fields(data):
        if number in SPARSE_TENSORS:
            yield from ((weight, False) for weight in _tensor(_message(value)))


def _tensor(data: memoryview) -> Iterator[ExternalWeight]:
    """The tensor, if its data is outside."""
    name, onnx_type, is_outside = "", 0, False
    shape: list[int] = []
    place: dict[str, str] = {}
    for number, value in _fields(data):
        if number == TENSOR_NAME:
            name = str(_message(value), "utf-8")
        elif number == TENSOR_TYPE:
            onnx_type = _number(value)
        elif number == TENSOR_LOCATION:
            is_outside = _number(value) == EXTERNAL
        elif number == TENSOR_EXTERNAL_DATA:
            entry = {key: str(_message(text), "utf-8") for key, text in _fields(_message(value))}
            place[entry.get(ENTRY_KEY, "")] = entry.get(ENTRY_VALUE, "")
        elif number == TENSOR_DIMS:
            # Written packed or one by one; readers must take both.
            shape += [value] if isinstance(value, int) else _packed(value)
    if is_outside:
        if place.get("offset", "0") != "0":
            raise ValueError(f"{name} begins inside of its location")
        yield ExternalWeight(name, onnx_type, tuple(shape), place.get("location", ""))


def _fields(data: memoryview) -> Iterator[Field]:
    """The fields of one message: number and integer or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(data):
            raise ValueError("a field is longer than the file")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number is too long at byte {position}")


def _packed(data: memoryview) -> list[int]:
    numbers, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        numbers.append(value)
    return numbers


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number belongs")
    return value

"""One-way export to MLIR's generic syntax, for the tools of that world.

A graph becomes a `hetc.graph` op with one block, an op of kind `k` becomes `"hetc.k"`. The dialect
is not registered: readers allow unregistered dialects. A symbolic dim is `?` in a type; beside it,
`result_shapes` keeps the dims of the results as text. Literals in the place of operands are
attributes, and `operand_segments` counts the operands of each field that can hold some.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hetc.errors import IRError
from hetc.ir.dims import Dim
from hetc.ir.graph import Graph, Program
from hetc.ir.op import Op, Value
from hetc.ir.text import graph_names, graphs_in_order
from hetc.ir.types import DType, TensorType

_ELEMENTS = {
    "bool": "i1",
    "u64": "ui64",
    "u32": "ui32",
    "u16": "ui16",
    "u8": "ui8",
    "f8e4m3": "f8E4M3FN",
    "f8e5m2": "f8E5M2",
    "c64": "complex<f32>",
}
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def export_mlir(item: Graph | Program) -> str:
    """`item` as an MLIR module in generic syntax; raises IRError (HETC-X106) as printing does."""
    graphs = [item] if isinstance(item, Graph) else [item.forward, item.prefill, item.decode]
    names = graph_names(graphs)
    body = "\n".join(_graph(graph, names) for graph in graphs_in_order(graphs))
    return f'"builtin.module"() ({{\n{body}\n}}) : () -> ()\n'


def _graph(graph: Graph, graphs: dict[int, str]) -> str:
    names = {value: f"%arg{index}" for index, value in enumerate(graph.inputs)}
    arguments = ", ".join(f"{names[value]}: {_type(value.type)}" for value in graph.inputs)
    facts = {
        "sym_name": string_literal(graphs[id(graph)]),
        "input_names": _strings([value.name for value in graph.inputs]),
        "input_shapes": _strings([_dims(value.type) for value in graph.inputs]),
        "output_names": _strings(graph.output_names),
    }
    lines = [f'  "hetc.graph"() ({{\n  ^bb0({arguments}):']
    lines += [_op(op, names, graphs) for op in graph.ops]
    outputs = ", ".join(names[value] for value in graph.outputs)
    types = ", ".join(_type(value.type) for value in graph.outputs)
    lines.append(f'    "hetc.return"({outputs}) : ({types}) -> ()')
    lines.append(f"  }}) {_attributes(facts)} : () -> ()")
    return "\n".join(lines)


def _op(op: Op, names: dict[Value, str], graphs: dict[int, str]) -> str:
    base = len(names)
    for index, value in enumerate(op.results):
        names[value] = f"%{base + index}"
    facts: dict[str, str] = {}
    segments: list[int] = []
    for spec in op.signature:
        item = getattr(op, spec.name)
        if spec.role != "attribute":
            segments.append(len(item) if spec.role == "variadic" else isinstance(item, Value))
        if isinstance(item, Graph):
            facts[spec.name] = _symbol(graphs[id(item)])
        elif item is not None and spec.role != "variadic" and not isinstance(item, Value):
            facts[spec.name] = _attribute(item)
    if any(spec.role not in ("attribute", "operand") for spec in op.signature):
        facts["operand_segments"] = f"array<i32: {', '.join(str(int(n)) for n in segments)}>"
    if any(isinstance(dim, Dim) for value in op.results for dim in value.shape):
        facts["result_shapes"] = _strings([_dims(value.type) for value in op.results])
    results = ", ".join(names[value] for value in op.results)
    operands = ", ".join(names[value] for value in op.operands)
    types = [", ".join(_type(v.type) for v in part) for part in (op.operands, op.results)]
    loc = f" loc({string_literal(op.loc)})" if op.loc else ""
    line = f'    {results} = "hetc.{op.kind}"({operands})'
    return f"{line}{_attributes(facts, ' ')} : ({types[0]}) -> ({types[1]}){loc}"


def _attributes(facts: dict[str, str], before: str = "") -> str:
    listed = ", ".join(f"{name} = {text}" for name, text in facts.items())
    return f"{before}{{{listed}}}" if facts else ""


def _type(type: TensorType) -> str:
    dims = "".join(f"{'?' if isinstance(dim, Dim) else dim}x" for dim in type.shape)
    return f"tensor<{dims}{_element(type.dtype)}>"


def _element(dtype: DType) -> str:
    return _ELEMENTS.get(dtype.name, dtype.name)


def _dims(type: TensorType) -> str:
    return ",".join(map(str, type.shape))


def _symbol(name: str) -> str:
    return f"@{name}" if _BARE.fullmatch(name) else f"@{string_literal(name)}"


def _strings(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(string_literal, texts))}]"


def string_literal(text: str) -> str:
    """`text` in quotes; MLIR escapes bytes as two hexadecimal digits."""
    return '"' + "".join(_character(byte) for byte in text.encode("utf-8", "surrogatepass")) + '"'


def _character(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"


def _float(number: float) -> str:
    if math.isfinite(number):
        text = float.__repr__(number)
        mantissa, _, exponent = text.partition("e")
        whole = mantissa if "." in mantissa else f"{mantissa}.0"
        return f"{whole}e{exponent} : f64" if exponent else f"{whole} : f64"
    bits = struct.unpack(">Q", struct.pack(">d", number))[0]
    return f"0x{bits:016X} : f64"


_WRITERS: dict[type, Callable[[Any], str]] = {
    bool: lambda item: "true" if item else "false",
    int: lambda item: f"{item} : i{max(64, int.bit_length(item) + 1)}",
    float: _float,
    str: string_literal,
    Dim: lambda item: string_literal(str(item)),
    DType: _element,
    TensorType: _type,
    tuple: lambda item: f"[{', '.join(map(_attribute, item))}]",
    type(None): lambda item: "unit",
}


def _attribute(item: Any) -> str:
    for kind, write in _WRITERS.items():
        if isinstance(item, kind):
            return write(item)
    raise IRError("HETC-X106", f"an attribute of type {type(item).__name__} has no MLIR form")

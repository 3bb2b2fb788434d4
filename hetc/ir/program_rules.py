"""What prefill and decode of a program must look like from outside: the border of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hetc.errors import Reason
from hetc.ir.dims import DimLike, capped_rows, symbol, symbols_of
from hetc.ir.graph import Graph, Program, StateSpec
from hetc.ir.op import Value
from hetc.ir.types import I64, TensorType

KINDS = ("kv", "latent", "window", "conv", "recurrent")
_SIZES = {"forward": {"B", "S"}, "prefill": {"B", "S"}, "decode": {"B", "T", "P"}}


def program_problems(program: Program) -> Iterator[Reason]:
    """Where inputs and outputs of the graphs do not fit the program's states (HETC-X13x).

    `prefill(tokens i64[B,S]) -> logits[B,1,V], <state>.out...` and `decode(tokens i64[B,T], past
    i64[], <state>...) -> logits[B,T,V], <state>.out...`; a batch may be a fixed number.
    """
    names = [spec.name for spec in program.states]
    if len(set(names)) < len(names):
        yield Reason("HETC-X130", f"two states have one name: {', '.join(names)}", program.name)
    for spec in program.states:
        yield from _state(spec)
    yield from _sizes(program)
    yield from _inputs(program.prefill, "S", ())
    yield from _inputs(program.decode, "T", program.states)
    after_prefill = [(f"{s.name}.out", _after(s.type, {"P": symbol("S")})) for s in program.states]
    grown = {"P": symbol("P") + symbol("T")}
    after_decode = [(f"{s.name}.out", _after(s.type, grown)) for s in program.states]
    yield from _outputs(program.prefill, 1, after_prefill)
    yield from _outputs(program.decode, symbol("T"), after_decode)
    if program.max_context < 1:
        yield Reason("HETC-X131", f"max_context is {program.max_context}", program.name)


def _state(spec: StateSpec) -> Iterator[Reason]:
    if spec.kind not in KINDS:
        yield Reason("HETC-X130", f"a state of kind {spec.kind}", spec.name)
    if spec.axis is None:
        if spec.kind != "recurrent":
            yield Reason("HETC-X130", f"a state of kind {spec.kind} needs an axis", spec.name)
        return
    if not 0 <= spec.axis < spec.type.rank:
        yield Reason("HETC-X130", f"{spec.type} has no axis {spec.axis}", spec.name)
        return
    rows = spec.type.shape[spec.axis]
    expected: dict[str, tuple[DimLike, ...]] = {
        "kv": (symbol("P"),),
        "latent": (symbol("P"),),
        "window": (symbol(f"W{spec.keep}"),),
        "conv": (spec.keep or 0,),
    }
    if spec.kind in expected and rows not in expected[spec.kind]:
        wanted = expected[spec.kind][0]
        yield Reason("HETC-X130", f"{spec.type} has {rows} rows, not {wanted}", spec.name)


def _after(type: TensorType, lengths: dict[str, DimLike]) -> TensorType:
    # A window of W<n> rows has K<n> rows once the new ones have come in.
    symbols = [name for dim in type.shape for name in symbols_of(dim)]
    capped = [name for name in symbols if capped_rows(name) is not None]
    return type.substitute({**lengths, **{name: symbol(f"K{name[1:]}") for name in capped}})


def _sizes(program: Program) -> Iterator[Reason]:
    for role, known in _SIZES.items():
        graph: Graph = getattr(program, role)
        for value in graph.inputs:
            for dim in value.shape:
                unknown = {name for name in symbols_of(dim) - known if capped_rows(name) is None}
                if unknown:
                    text = f"the input {value.name} has the size {dim}"
                    yield Reason("HETC-X132", text, f"@{graph.name}")


def _inputs(graph: Graph, rows: str, states: Sequence[StateSpec]) -> Iterator[Reason]:
    given = {value.name: value for value in graph.inputs}
    tokens = given.pop("tokens", None)
    if tokens is None or tokens.dtype is not I64 or tokens.shape[1:] != (symbol(rows),):
        found = tokens.type if tokens else "none"
        text = f"the input tokens is {found}, not i64[B,{rows}]"
        yield Reason("HETC-X131", text, f"@{graph.name}")
    if rows == "T":
        past = given.pop("past", None)
        if past is None or past.type != TensorType(I64, ()):
            yield Reason("HETC-X131", "decode needs the input past: i64[]", f"@{graph.name}")
    for spec in states:
        value = given.pop(spec.name, None)
        if value is None or value.type != spec.type:
            found = value.type if value else "none"
            text = f"the input {spec.name} is {found}, the state {spec.type}"
            yield Reason("HETC-X133", text, f"@{graph.name}")
    if given:
        text = f"the inputs {', '.join(given)} are neither tokens nor states"
        yield Reason("HETC-X133", text, f"@{graph.name}")


def _outputs(
    graph: Graph, rows: DimLike, states: Sequence[tuple[str, TensorType]]
) -> Iterator[Reason]:
    names = ("logits", *(name for name, _ in states))
    if graph.output_names != names:
        text = f"the outputs are {', '.join(graph.output_names)}, not {', '.join(names)}"
        yield Reason("HETC-X134", text, f"@{graph.name}")
        return
    logits: Value = graph.outputs[0]
    if logits.rank != 3 or logits.shape[1] != rows or not logits.dtype.is_float:
        text = f"the logits are {logits.type}, not a float of [B,{rows},V]"
        yield Reason("HETC-X134", text, f"@{graph.name}")
    for (name, type), value in zip(states, graph.outputs[1:], strict=True):
        if value.type != type:
            text = f"the output {name} is {value.type}, the state becomes {type}"
            yield Reason("HETC-X134", text, f"@{graph.name}")

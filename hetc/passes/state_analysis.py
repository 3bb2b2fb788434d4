"""Analyse a causal graph: prove that tokens are mixed only where state can carry them, and name the
state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hetc.errors import StateError
from hetc.ir.dims import DimLike, symbol
from hetc.ir.graph import Graph, StateSpec
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.recurrence import LinearAttention, Recurrence
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.types import I64, TensorType
from hetc.passes.index_only import IndexOnly
from hetc.passes.layer_names import layer_numbers
from hetc.passes.place_state import place_state
from hetc.passes.positions import check_prefix_closed
from hetc.passes.token_axis import token_axes
from hetc.passes.tokens import LENGTH, Mixes, TokenAxis, refuse

B, P = symbol("B"), symbol("P")


@dataclass(frozen=True)
class Kept:
    """One value of `forward` that becomes state."""

    value: Value
    spec: StateSpec


@dataclass
class Analysis:
    """Token axes of every value, the positional values that must be sliced, and the state."""

    graph: Graph
    axes: dict[Value, TokenAxis | None]
    sliced: dict[Value, TokenAxis]
    kept: dict[Value, Kept] = field(default_factory=dict)
    carried: dict[Op, StateSpec] = field(default_factory=dict)


def analyse(graph: Graph, weights: WeightLookup, max_context: int) -> Analysis:
    """Prove that everything but attention, causal convolution and scans works token by token, and
    place the state."""
    tokens = graph.inputs[0]
    if len(graph.inputs) != 1 or tokens.type != TensorType(I64, (B, LENGTH)):
        raise StateError(
            "HETC-S017",
            "decode cannot be derived: the model does not take tokens[B,S] alone",
            found=", ".join(f"{value.name}: {value.type}" for value in graph.inputs),
        )
    index_only = IndexOnly()
    axes: dict[Value, TokenAxis | None] = {tokens: TokenAxis(1)}
    irregular: set[Value] = set()
    sliced: dict[Value, TokenAxis] = {}
    for op in graph.ops:
        positional = index_only(op.results[0])
        if positional and any(value in irregular for value in op.operands):
            irregular.update(op.results)
            axes.update(dict.fromkeys(op.results))
            continue
        if not positional:
            for value in _frontier(op, irregular):
                sliced[value] = axes[value] = check_prefix_closed(value, weights, max_context, op)
        try:
            axes.update(zip(op.results, token_axes(op, axes), strict=True))
        except Mixes as reason:
            if not positional:
                raise refuse(op, str(reason), reason.do) from None
            irregular.update(op.results)
            axes.update(dict.fromkeys(op.results))
    found = Analysis(graph, axes, sliced)
    logits = graph.outputs[0].type
    *rows, vocabulary = logits.shape or (0,)
    per_token = axes[graph.outputs[0]] == TokenAxis(1) and rows == [B, LENGTH]
    if not per_token or not isinstance(vocabulary, int) or not logits.dtype.is_float:
        raise StateError(
            "HETC-S018",
            "decode cannot be derived: the output has no logits for every token",
            found=str(logits),
            do="export forward(tokens) -> logits[B,S,V]",
        )
    _name_states(found)
    return found


def _frontier(op: Op, irregular: set[Value]) -> Iterator[Value]:
    mask = op.mask if isinstance(op, Attention) else None
    for value in op.operands:
        if value in irregular and value is not mask:
            yield value


def _name_states(found: Analysis) -> None:
    layers = _layers(found.graph)
    _keep(found, layers)
    _carry(found, layers)


def _layers(graph: Graph) -> dict[Op, int]:
    """The layer of each op that keeps state, by its place in the model; where attentions have no
    such place, by counting them."""
    keepers = [op for op in graph.ops if isinstance(op, (Attention, Conv1dCausal, Recurrence))]
    attentions = [op for op in keepers if isinstance(op, Attention)]
    numbers = layer_numbers(op.loc for op in keepers)
    if all(op.loc in numbers for op in attentions):
        return {op: numbers[op.loc] for op in keepers if op.loc in numbers}
    return {op: layer for layer, op in enumerate(attentions)}


def _keep(found: Analysis, layers: dict[Op, int]) -> None:
    """Name what attentions read: a row a token."""
    index_only = IndexOnly()
    data = {value: axis for value, axis in found.axes.items() if not index_only(value)}
    kept = place_state(found.graph, data)
    readers: dict[Value, list[tuple[int, str, Attention]]] = {}
    for op in found.graph.ops:
        if not isinstance(op, Attention):
            continue
        for role, root in (("key", op.k), ("value", op.v)):
            for value in _sources(root, set(kept)):
                readers.setdefault(value, []).append((layers[op], role, op))
    # By layer, keys first: the order in which people list a cache.
    for value in sorted(kept, key=lambda value: readers[value][0][:2]):
        uses = readers[value]
        layer, role, _ = uses[0]
        roles = {role for _, role, _ in uses}
        # Chunks and masks count keys from the first position on: their keys all stay.
        windows = [None if op.chunk or op.mask else op.window for _, _, op in uses]
        axis = found.axes[value]
        assert axis is not None
        direct = all(value.size == (op.k if name == "key" else op.v).size for _, name, op in uses)
        kind, keep = "kv" if direct else "latent", None
        whole = all(value is (op.k if name == "key" else op.v) for _, name, op in uses)
        if whole and all(windows):
            kind, keep = "window", max(window for window in windows if window) - 1
        part = "latent" if len(roles) > 1 else role
        name = _unique(f"layer{layer}.{part}", found)
        rows: DimLike = P if keep is None else symbol(f"W{keep}")
        shape = tuple(rows if i == axis.axis else dim for i, dim in enumerate(value.shape))
        spec = StateSpec(
            name,
            kind,
            TensorType(value.dtype, shape),
            axis.axis,
            keep,
            layer,
            value.op.loc if value.op else "",
        )
        found.kept[value] = Kept(value, spec)


def _carry(found: Analysis, layers: dict[Op, int]) -> None:
    """Name what convolutions and scans carry on: of one size, however many tokens there were."""
    for op in found.graph.ops:
        layer = layers.get(op)
        if isinstance(op, Conv1dCausal) and found.axes[op.result] is not None:
            taps = op.weight.shape[2]
            assert isinstance(taps, int)
            history = TensorType(op.x.dtype, (*op.x.shape[:2], taps - 1))
            name = _carried_name("conv", layer, found)
            found.carried[op] = StateSpec(name, "conv", history, 2, taps - 1, layer, op.loc)
        elif isinstance(op, Recurrence) and found.axes[op.result] is not None:
            last = op.results[1].type
            part = "matrix" if isinstance(op, LinearAttention) else "scan"
            name = _carried_name(part, layer, found)
            found.carried[op] = StateSpec(name, "recurrent", last, layer=layer, loc=op.loc)


def _carried_name(part: str, layer: int | None, found: Analysis) -> str:
    if layer is None:
        return f"{part}{len(found.carried)}"
    return _unique(f"layer{layer}.{part}", found)


def _unique(name: str, found: Analysis) -> str:
    taken = {spec.name for spec in state_specs(found)}
    count = sum(other == name or other.startswith(f"{name}.") for other in taken)
    return name if not count else f"{name}.{count}"


def _sources(root: Value, kept: set[Value]) -> Iterator[Value]:
    """The state values that `root` is computed from."""
    stack, seen = [root], {root}
    while stack:
        value = stack.pop()
        if value in kept:
            yield value
        elif value.op is not None:
            fresh = [operand for operand in value.op.operands if operand not in seen]
            seen.update(fresh)
            stack.extend(fresh)


def state_specs(found: Analysis) -> Iterator[StateSpec]:
    """Every state, in hand-off order."""
    for kept in found.kept.values():
        yield kept.spec
    yield from found.carried.values()

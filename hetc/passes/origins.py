"""Where the data of each value come from: weights, state, positions alone, or the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Source, Weight

Place = Literal["weight", "state", "index", "activation"]
# A kernel of its own, even where it reads nothing but weights: its result is no stored tensor.
_COMPUTED = frozenset({"matmul", "linear", "embedding", "attention"})


@dataclass(frozen=True)
class Origin:
    """The origin of one value.

    `weight`: `names` are the weights that it is made of and `stored_bytes` what is stored of it,
    which differs from its own bytes where it is dequantized or cast. `state`: `names` are the
    states. `index`: positions and sizes only. `activation`: depends on the tokens.
    """

    place: Place
    names: frozenset[str] = frozenset()
    stored_bytes: int = 0
    # Stored bytes over bytes of the value; a part of the value is stored in proportion.
    ratio: tuple[int, int] = (1, 1)

    @property
    def paid_as(self) -> str:
        """The column of a cost that reading it belongs to."""
        return "activation" if self.place == "index" else self.place


INDEX = Origin("index")
ACTIVATION = Origin("activation")


def origins(graph: Graph, states: frozenset[str] = frozenset()) -> Mapping[Value, Origin]:
    """The origin of every value of `graph`, which holds no calls; `states` names inputs."""
    found: dict[Value, Origin] = {}
    for value in graph.inputs:
        if value.name in states:
            found[value] = Origin("state", frozenset({value.name}))
        else:
            found[value] = INDEX if value.name == "past" else ACTIVATION
    for op in graph.ops:
        read = [found[value] for value in op.operands]
        for value in op.results:
            found[value] = _result(op, value, read)
    return found


def _result(op: Op, value: Value, read: list[Origin]) -> Origin:
    if isinstance(op, Weight):
        return _weight(frozenset({op.name}), value.nbytes, value.nbytes)
    if isinstance(op, Source):
        return INDEX
    places = {origin.place for origin in read}
    if places <= {"index"}:
        return INDEX
    if places <= {"weight", "index"} and op.kind not in _COMPUTED:
        return _made_of_weights(op, value, read)
    if isinstance(op, View | KVAppend) or op.kind == "cast":
        return read[0] if read[0].place == "state" else ACTIVATION
    return ACTIVATION


def _made_of_weights(op: Op, value: Value, read: list[Origin]) -> Origin:
    weights = [origin for origin in read if origin.place == "weight"]
    names = frozenset[str]().union(*(origin.names for origin in weights))
    stored = sum(origin.stored_bytes for origin in weights)
    shown = value.nbytes
    first = op.operands[0]
    if isinstance(op, View) and isinstance(shown, int) and isinstance(first.nbytes, int):
        # A part of a stored tensor is stored in proportion; a repeated one is stored once.
        stored = min(stored, -(-stored * shown // first.nbytes)) if first.nbytes else stored
    return _weight(names, stored, shown)


def _weight(names: frozenset[str], stored: DimLike, shown: DimLike) -> Origin:
    if not isinstance(stored, int) or not isinstance(shown, int):
        # Weights repeated along a symbolic axis are no stored tensor any more.
        return ACTIVATION
    return Origin("weight", names, stored, (stored, shown) if shown else (1, 1))

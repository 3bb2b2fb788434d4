"""What `hetc.interop.last_report()` tells: which graphs were captured, and what ran where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.errors import Reason


@dataclass(frozen=True)
class RegionReport:
    """A region that hetc took, or a graph as a whole: how many ops of the IR it has and who runs
    it (`eager` after a call that failed).

    `placed` counts its ops by target: that of the phase, or where the graph has none, the two
    between which it is cut, unless `uncut` says why it is not. `marks` counts them by what limits
    them there, and `estimated_s` is what they take there in all, transfers included; both are
    estimates from the files of the targets. `calls` counts its runs.
    """

    name: str
    ops: int
    executor: str
    placed: Mapping[str, int]
    uncut: Reason | None
    marks: Mapping[str, int]
    estimated_s: float
    calls: int


@dataclass(frozen=True)
class Fallback:
    """A kind of op that PyTorch ran, how often it stands in the graph, and why the first did."""

    op: str
    count: int
    reason: Reason


@dataclass(frozen=True)
class GraphReport:
    """One captured graph.

    `compile_id` is Dynamo's (`frame/recompile`), `place` the function that it was captured from.
    `ops` counts the nodes that make tensors. `whole` is the graph as it was taken as a whole, in
    some of its `calls`; `refusals` say why it was not, or why not in others. `regions` and
    `fallbacks` say what became of it then. `phase` is decode for one token a sequence, prefill for
    more, empty for a graph that takes no tokens.
    """

    compile_id: str
    place: str
    phase: str
    ops: int
    regions: tuple[RegionReport, ...]
    fallbacks: tuple[Fallback, ...]
    whole: RegionReport | None
    refusals: tuple[Reason, ...]
    calls: int

    @property
    def whole_calls(self) -> int:
        """The calls that ran as a whole."""
        return 0 if self.whole is None else self.whole.calls


@dataclass(frozen=True)
class GraphBreak:
    """Why Dynamo ended a graph before the function did, and the line of the user's that did it."""

    reason: str
    place: str


@dataclass(frozen=True)
class Recompile:
    """A function that Dynamo compiled again, and the guard that failed."""

    compile_id: str
    place: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything that the backend did since the process began, or since `torch._dynamo.reset()`."""

    graphs: tuple[GraphReport, ...] = ()
    graph_breaks: tuple[GraphBreak, ...] = ()
    recompiles: tuple[Recompile, ...] = ()

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """The fallbacks of all graphs."""
        return tuple(fallback for graph in self.graphs for fallback in graph.fallbacks)

"""Keeps what happened while graphs were compiled and run, for the report."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hetc.errors import Reason
from hetc.interop.marks import Marks
from hetc.interop.phase import GraphPhase
from hetc.interop.region_call import RegionCall
from hetc.interop.report import Fallback, GraphBreak, GraphReport, Recompile, RegionReport, Report

if TYPE_CHECKING:
    from hetc.interop.runner import WholeCall


@dataclass(frozen=True)
class RegionRecord:
    """A region that was lowered, or a graph that was taken as a whole; `call` counts its runs."""

    name: str
    call: RegionCall | WholeCall
    executor: str
    marks: Marks

    def report(self) -> RegionReport:
        """What is known now."""
        is_given_up = isinstance(self.call, RegionCall) and self.call.run is None
        return RegionReport(
            name=self.name,
            ops=self.marks.ops,
            executor="eager" if is_given_up else self.executor,
            placed=self.marks.placed,
            uncut=self.marks.uncut,
            marks=self.marks.counts,
            estimated_s=self.marks.seconds,
            calls=self.call.calls,
        )


@dataclass
class GraphRecord:
    """A captured graph in the making."""

    compile_id: str
    place: str
    graph_break: GraphBreak | None = None
    phase: GraphPhase = ""
    ops: int = 0
    regions: list[RegionRecord] = field(default_factory=list)
    fallbacks: dict[str, Fallback] = field(default_factory=dict)
    whole: RegionRecord | None = None
    refusals: list[Reason] = field(default_factory=list)
    calls: int = 0

    def fall_back(self, op: str, reason: Reason, count: int = 1) -> None:
        """Note that PyTorch runs `op`."""
        found = self.fallbacks.get(op)
        before = found.count if found else 0
        self.fallbacks[op] = Fallback(op, before + count, found.reason if found else reason)

    def refuse(self, reason: Reason) -> None:
        """Note why the graph, or a call of it, was not taken as a whole."""
        if reason not in self.refusals:
            self.refusals.append(reason)

    def report(self) -> GraphReport:
        """What is known now."""
        return GraphReport(
            self.compile_id,
            self.place,
            self.phase,
            self.ops,
            tuple(region.report() for region in self.regions),
            tuple(self.fallbacks.values()),
            None if self.whole is None else self.whole.report(),
            tuple(self.refusals),
            self.calls,
        )


class Recorder:
    """The records of this process; Dynamo compiles in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._graphs: list[GraphRecord] = []
        self._said: set[str] = set()

    def add(self, record: GraphRecord) -> None:
        """Keep the record of one more graph."""
        with self._lock:
            self._graphs.append(record)

    def is_first(self, what: str) -> bool:
        """Whether this is the first time that this is asked of `what`."""
        with self._lock:
            is_first = what not in self._said
            self._said.add(what)
            return is_first

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._graphs.clear()
            self._said.clear()

    def report(self) -> Report:
        """What is known now."""
        with self._lock:
            graphs = list(self._graphs)
        breaks = tuple(graph.graph_break for graph in graphs if graph.graph_break)
        again = [graph for graph in graphs if not graph.compile_id.endswith("/0")]
        reasons = _recompile_reasons() if again else {}
        return Report(
            tuple(graph.report() for graph in graphs),
            breaks,
            tuple(
                Recompile(graph.compile_id, graph.place, reasons.get(graph.compile_id, ""))
                for graph in again
            ),
        )


def _recompile_reasons() -> dict[str, str]:
    """The guard that failed, by the id of the compilation that it led to."""
    from torch._dynamo.utils import get_compilation_metrics

    return {
        str(item.compile_id): str(item.recompile_reason)
        for item in get_compilation_metrics()
        if item.recompile_reason
    }


RECORDER = Recorder()

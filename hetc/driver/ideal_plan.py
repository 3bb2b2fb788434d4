"""The ideal spatial plan of a model that is not compiled: what the simulator says a decode step
would take, beside what the cost model predicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hetc.backends.dataflow.schema import Plan, Request
from hetc.backends.dataflow.simulate import Mode
from hetc.driver.spatial import plan_unplaced
from hetc.driver.timed_plan import TimedPlan, timed
from hetc.errors import HetcError, InternalError, Reason
from hetc.ir.graph import Graph, Program
from hetc.passes.outline_layers import outline_layers
from hetc.passes.simplify import simplify
from hetc.passes.workload import Workload
from hetc.targets import Target


@dataclass(frozen=True, eq=False)
class Planning:
    """A model and a request that plans are made of, for any target with a grid."""

    program: Program
    workload: Workload

    @cached_property
    def decode(self) -> Graph:
        """The decode half, its layers as calls of one graph."""
        return outline_layers(simplify(self.program.decode))

    def plan(self, target: Target, request: Request) -> Plan:
        """A plan without places; raises what `plan_unplaced` raises."""
        return plan_unplaced(self.decode, target, self.workload, request)

    def timed(self, target: Target, mode: Mode) -> TimedPlan | Reason:
        """The ideal plan with its time, or why there is none: a prediction is not lost with it."""
        try:
            return timed(self.plan(target, Request()), target, mode)
        except InternalError:
            raise
        except HetcError as error:
            return Reason(error.code, error.what, error.at)

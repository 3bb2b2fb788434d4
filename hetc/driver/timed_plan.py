"""A spatial plan with the simulated time of one token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import (
    BufferUse,
    Mode,
    PortUse,
    Simulated,
    resource_use,
    simulate,
    speeds_of,
)
from hetc.driver.spatial import assumed
from hetc.targets import Target


@dataclass(frozen=True, eq=False)
class TimedPlan:
    """A plan, its machine, and what the simulator says of a token of it."""

    plan: Plan
    machine: Target
    result: Simulated

    @property
    def energy_j(self) -> float | None:
        """Estimated energy of a token over all sockets; None where the power is not known."""
        one = self.result.energy_j
        sockets, batch = self.plan.target.sockets, self.plan.bindings.batch
        return None if one is None else one * sockets / batch

    def figures(self) -> dict[str, Any]:
        """The figures of a token as JSON values."""
        result = self.result
        return {
            "target": self.machine.name,
            "simulated": result.mode != "analytic",
            "calibrated": False,
            "mode": result.mode,
            "tpot_s": result.tpot_us * 1e-6,
            "tokens_per_s": result.tokens_per_s,
            "mbu": result.mbu,
            "mbu_bound": result.mbu_bound,
            "bottleneck": result.bottleneck.name,
            "bottleneck_why": result.bottleneck.why,
            "energy_j": self.energy_j,
            "sections": len(self.plan.sections),
        }

    def breakdown(self) -> dict[str, Any]:
        """Where the cycles go, as JSON values: stages, queues and the link in shares of the
        token."""
        result = self.result
        return {
            "stages": list(self._stages()),
            "queues": [
                {
                    "tier": queue.tier,
                    "busy": queue.busy_cycles / result.cycles,
                    "waits_for_room": queue.credit_cycles / result.cycles,
                    "waits_for_order": queue.order_cycles / result.cycles,
                    "bytes_read": queue.bytes_read,
                    "bytes_written": queue.bytes_written,
                }
                for queue in result.queues
            ],
            "link_busy": result.link_busy_cycles / result.cycles,
            **self._resources(),
            "analytic_tpot_s": result.analytic_us * 1e-6,
            "analytic_difference": result.analytic_difference,
            "constants": [
                {"name": constant.name, "value": constant.value, "source": constant.source}
                for constant in assumed(self.machine)
            ],
        }

    def _resources(self) -> dict[str, Any]:
        """Memory ports, and buffers in the order of the plan, in shares of the token."""
        used = resource_use(self.plan, speeds_of(self.machine))

        def shares(use: PortUse | BufferUse) -> dict[str, float]:
            return {
                "busy": use.busy_cycles / used.cycles,
                "stalled": use.stalled_cycles / used.cycles,
                "starved": use.starved_cycles / used.cycles,
            }

        return {
            "ports": [{"port": use.port, **shares(use)} for use in used.ports],
            "buffers": [
                {"id": use.buffer, "depth_bytes": use.depth_bytes, **shares(use)}
                for use in used.buffers
            ],
        }

    def _stages(self) -> Iterator[dict[str, Any]]:
        """In the order of the plan, every stage with its iterations summed."""
        cycles = self.result.cycles
        uses = {use.stage: use for use in self.result.stages}
        for block in self.plan.blocks:
            for stage in block.stages:
                use = uses[stage.id]
                yield {
                    "id": stage.id,
                    "name": stage.name,
                    "template": stage.template,
                    "lanes": stage.units.lanes,
                    "iterations": block.repeat,
                    "busy": use.busy_cycles / cycles,
                    "stalled": use.stalled_cycles / cycles,
                    "starved": use.starved_cycles / cycles,
                    "idle": use.idle_cycles / cycles,
                    "bound": stage.bound,
                }


def timed(plan: Plan, machine: Target, mode: Mode = "maxplus") -> TimedPlan:
    """`plan` with its simulated time; raises BackendError HETC-L10x where it cannot be timed."""
    return TimedPlan(plan, machine, simulate(plan, speeds_of(machine), mode=mode))

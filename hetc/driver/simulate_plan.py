"""Simulate the spatial plan of a bundle, or one that stands in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetc.bundle import open_bundle
from hetc.driver.inspect import is_bundle
from hetc.driver.lint import open_plan
from hetc.driver.looks import Looks, look
from hetc.driver.machine import machine_of
from hetc.driver.timed_plan import TimedPlan, timed


@dataclass(frozen=True, eq=False)
class SimulatedPlan:
    """A plan that was timed as it is, what it is called, and what else was asked of it."""

    name: str
    timed: TimedPlan
    more: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The object of `hetc simulate PLAN --json`."""
        plan = self.timed.plan
        return {
            "name": self.name,
            "graph_sha256": plan.graph_sha256,
            "sockets": plan.target.sockets,
            "batch": plan.bindings.batch,
            "past_tokens": plan.bindings.past,
            "context": plan.bindings.context,
            **self.timed.figures(),
            **self.timed.breakdown(),
            **self.more,
        }


def simulate_plan(
    path: Path, looks: Looks, step: Callable[[str], None], target: str | None = None
) -> SimulatedPlan:
    """Time the plan at `path`, a bundle or a plan file, on the machine that it names.

    Raises what `open_plan`, `machine_of` and `look` raise, and BackendError HETC-L10x for a plan
    that cannot be timed.
    """
    step("reading the plan")
    plan, _ = open_plan(path)
    machine = machine_of(plan, target)
    step("simulating")
    made = timed(plan, machine, looks.mode)
    return SimulatedPlan(_name(path), made, look(made, looks, step))


def _name(path: Path) -> str:
    """The model's name where a bundle tells it, or that of the file."""
    if not is_bundle(path):
        return path.name
    with open_bundle(path, check="sizes") as files:
        return files.manifest.model.name

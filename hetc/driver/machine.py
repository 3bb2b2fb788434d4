"""The machine that a plan was made for."""

from __future__ import annotations

from hetc.backends.dataflow.schema import Plan
from hetc.errors import InputError
from hetc.targets import Target, load


def machine_of(plan: Plan, target: str | None = None) -> Target:
    """The target that `plan` names, or `target`, whose numbers must be those of the plan.

    Raises TargetError for an unknown one, InputError HETC-L011 for one with other numbers.
    """
    machine = load(target or plan.target.name)
    if plan.target.sha256 not in (machine.sha256, machine.device.sha256):
        raise InputError(
            "HETC-L011",
            "the plan is for another machine",
            at=machine.name,
            expected=f"{plan.target.name} with digest {plan.target.sha256[:12]}",
            found=f"digest {machine.sha256[:12]}",
            do="name the file of its target with --target, or make the plan anew",
        )
    return machine

"""What else `hetc simulate` tells of a spatial plan: a trace, what it hangs on, what each technique
gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import (
    Mode,
    Sensitivity,
    held_in_plans,
    sensitivity,
    speeds_of,
    trace,
)
from hetc.driver.export import write_files
from hetc.driver.techniques import Replan, techniques
from hetc.driver.timed_plan import TimedPlan
from hetc.targets import Target

Step = Callable[[str], None]


@dataclass(frozen=True)
class Looks:
    """How to time a plan, the file for a trace of it, and which tables to make."""

    mode: Mode = "maxplus"
    trace: Path | None = None
    sensitivity: bool = False
    techniques: bool = False

    @property
    def wanted(self) -> tuple[str, ...]:
        """The options that ask for more than a time."""
        asked = {
            "--trace": self.trace is not None,
            "--sensitivity": self.sensitivity,
            "--techniques": self.techniques,
        }
        return tuple(option for option, is_wanted in asked.items() if is_wanted)


def look(
    timed: TimedPlan, looks: Looks, step: Step, replan: Replan | None = None
) -> dict[str, Any]:
    """The JSON objects of what `looks` wants; `replan` makes the plan of another target or request,
    and is None where only this plan is known, which then has no `techniques`.

    Raises UsageError HETC-U014 for a trace that cannot be written, and what `replan` raises.
    """
    found: dict[str, Any] = {}
    if looks.trace is not None:
        step("writing the trace")
        found["trace"] = _write_trace(timed, looks.trace)
    if looks.sensitivity:
        step("varying the constants")
        found |= _sensitivity(timed, replan)
    if looks.techniques and replan is not None:
        step("leaving techniques out")
        found["techniques"] = [
            {"technique": one.technique, "tpot_s": one.tpot_us * 1e-6, "ratio": one.ratio}
            for one in techniques(replan, timed.machine)
        ]
    return found


def _write_trace(timed: TimedPlan, path: Path) -> dict[str, Any]:
    events = trace(timed.plan, speeds_of(timed.machine))
    text = json.dumps(events, separators=(",", ":"), ensure_ascii=False)
    (size,) = write_files({path: text.encode()}).values()
    return {"path": str(path), "bytes": size}


def _sensitivity(timed: TimedPlan, replan: Replan | None) -> dict[str, Any]:
    request = timed.plan.request

    def again(target: Target) -> Plan:
        assert replan is not None, "sensitivity calls it only where it is given"
        return replan(target, request)

    varied = sensitivity(timed.plan, timed.machine, replan=None if replan is None else again)
    left = held_in_plans(timed.machine) if replan is None else ()
    return {"sensitivity": [_as_json(one) for one in varied], "not_varied": list(left)}


def _as_json(one: Sensitivity) -> dict[str, Any]:
    return {
        "name": one.name,
        "unit": one.unit,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "tpot_s_at_low": one.tpot_us_at_low * 1e-6,
        "tpot_s_at_high": one.tpot_us_at_high * 1e-6,
        "replanned": one.replanned,
    }

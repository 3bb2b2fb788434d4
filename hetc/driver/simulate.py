"""Predict a request on a pair of devices, and on each of them alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hetc.driver.calibrated import calibrated_targets
from hetc.driver.collector import paused_collector
from hetc.driver.ideal_plan import Planning
from hetc.driver.looks import Looks, look
from hetc.driver.lower import Lowered, lower, weight_sizes
from hetc.driver.options import CompileOptions, usual_request
from hetc.driver.plan import DEFAULT_LINK
from hetc.driver.policy import Policy
from hetc.driver.timed_plan import TimedPlan
from hetc.errors import Reason, UsageError
from hetc.frontends.open_model import open_model
from hetc.passes.cost import PhaseCosts, program_costs
from hetc.passes.precision import (
    Item,
    Precision,
    items_of,
    parse_precision,
    state_bytes,
    weight_bytes,
)
from hetc.passes.predict import PhaseTime, Prediction, predict_phase
from hetc.passes.workload import Phase, Workload
from hetc.targets import Link, Target, load, load_link

NO_LOOKS = Looks()


@dataclass(frozen=True)
class SimulateOptions:
    """Targets by name, the request, and the number formats.

    `new_tokens` counts the first one, which is prefill's; None is the usual number, or what fits of
    it into the model's context. `dtype` is fp32, bf16 or fp16 (the model's own where None).
    `weights` are formats of weights, `f8` or `GLOB=FORMAT`, `kv` that of state. `calibrated` names
    the frameworks whose fitted constants are used where a target has
    them.
    """

    prefill: str = "h200"
    decode: str = "sn40l"
    batch: int = 1
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    dtype: str | None = None
    weights: tuple[str, ...] = ()
    kv: str = ""
    link: str | None = None
    calibrated: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError (HETC-U010) for a value that cannot be."""
        CompileOptions(
            self.prefill,
            self.decode,
            self.batch,
            prompt_tokens=self.prompt_tokens,
            new_tokens=self.new_tokens,
            dtype=self.dtype,
            link=self.link,
        ).check()


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the costs of both halves: made once, predicted on any machine and request."""

    lowered: Lowered
    costs: Mapping[Phase, PhaseCosts]
    _items: dict[tuple[Phase, Precision], tuple[Item, ...]] = field(default_factory=dict)

    def items(self, phase: Phase, precision: Precision) -> tuple[Item, ...]:
        """The different ops of a phase, in these formats."""
        key = phase, precision
        if key not in self._items:
            self._items[key] = items_of(self.costs[phase], precision)
        return self._items[key]

    @property
    def parameters(self) -> int:
        """Elements of all weights, tied ones once, and quantized ones as what they stand for."""
        quantized = self.lowered.quantized
        graphs = (costs.graph for costs in self.costs.values())
        return quantized.parameters if quantized else sum(weight_sizes(*graphs).values())


@dataclass(frozen=True)
class Machine:
    """One way to run the request: what runs where, what it takes, and whether weights and state
    fit the memories."""

    prefill: Target
    decode: Target
    prediction: Prediction
    fits: bool

    @property
    def targets(self) -> tuple[Target, ...]:
        """Both devices, once where they are the same."""
        return tuple(dict.fromkeys((self.prefill, self.decode)))

    def as_json(self) -> dict[str, Any]:
        """Names, figures, and the seconds of every effect."""
        made = self.prediction
        return {
            "name": " → ".join(target.name for target in self.targets),
            "prefill": self.prefill.name,
            "decode": self.decode.name,
            "estimated": True,
            "calibrated": [t.device.calibrated for t in self.targets if t.device.calibrated],
            "fits": self.fits,
            "ttft_s": made.ttft_s,
            "tpot_s": made.tpot_s,
            "handoff_s": made.handoff_s,
            "total_s": made.total_s,
            "decode_tokens_per_s": made.decode_tokens_per_s,
            "mbu": made.mbu,
            "mfu": made.mfu,
            "bottleneck": made.bottleneck,
            "effects": {"prefill": dict(made.prefill.effects), "decode": dict(made.decode.effects)},
        }


@dataclass(frozen=True)
class Simulated:
    """The machine that was asked for, first, and each of its devices alone where it has two.

    `plan` is the ideal spatial plan of the decode half, timed, or why there is none; None where it
    was not asked for. `more` holds what else was asked of it, as JSON values.
    """

    subject: Subject
    options: SimulateOptions
    request: tuple[int, int]
    machines: tuple[Machine, ...]
    link: Link
    handoff_bytes: float
    plan: TimedPlan | Reason | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of `hetc simulate --json`: the first machine's figures, and all machines."""
        model, options = self.subject.lowered.model, self.options
        prompt, new = self.request
        return {
            **self.machines[0].as_json(),
            "model": {
                "name": model.name,
                "family": model.family,
                "dtype": self.subject.lowered.dtype.name,
                "parameters": self.subject.parameters,
            },
            "workload": {
                "batch": options.batch,
                "prompt_tokens": prompt,
                "new_tokens": new,
                "weights": list(options.weights),
                "kv": options.kv or None,
            },
            "link": self.link.name,
            "handoff_bytes": self.handoff_bytes,
            "calibrations": [
                _calibration(target)
                for target in self.machines[0].targets
                if target.device.calibrated
            ],
            "machines": [machine.as_json() for machine in self.machines],
            **_plan_json(self.plan),
            **self.more,
        }


def _plan_json(plan: TimedPlan | Reason | None) -> dict[str, Any]:
    if isinstance(plan, TimedPlan):
        return {"plan": plan.figures(), "plan_reason": None}
    reason = plan and {"code": plan.code, "text": plan.text, "at": plan.at}
    return {"plan": None, "plan_reason": reason}


def _calibration(target: Target) -> dict[str, Any]:
    found = target.device.calibrations[target.device.calibrated]
    return {
        "target": target.name,
        "framework": found.framework,
        "constants": {name: constant.value for name, constant in found.constants.items()},
        "rows": found.rows,
    }


def open_subject(source: Any, dtype: str | None = None) -> Subject:
    """Open and lower the model behind `source`, weights or not. Raises what `plan` raises."""
    with paused_collector():
        lowered = lower(open_model(source), CompileOptions(dtype=dtype), Policy())
        return Subject(lowered, program_costs(lowered.program))


def simulate(
    source: Any, options: SimulateOptions, step: Callable[[str], None], looks: Looks = NO_LOOKS
) -> Simulated:
    """What a request on `options.prefill` and `options.decode` takes, and what a decode step takes
    by the simulation of an ideal plan where its target has a grid.

    Raises UsageError (HETC-U010, HETC-U011) and TargetError for options, InputError for the model,
    StateError where decode cannot be derived; UsageError HETC-U016 and what `look` raises where
    `looks` wants what cannot be had.
    """
    options.check()
    parse_precision(options.weights, options.kv)
    targets = _targets(options)
    link = load_link(DEFAULT_LINK if options.link is None else options.link)
    step("opening the model")
    subject = open_subject(source, options.dtype)
    found = predict(subject, options, targets, link)
    step("planning")
    planning = Planning(subject.lowered.program, _workload(options, found.request))
    plan = _ideal_plan(planning, options, looks)
    if isinstance(plan, TimedPlan):
        return replace(found, plan=plan, more=look(plan, looks, step, planning.plan))
    if looks.wanted:
        raise UsageError(
            "HETC-U016",
            f"there is no plan to look into: {plan.text}",
            at=plan.at,
            found=", ".join(looks.wanted),
            do="leave these options out, or name a target with a grid: --decode sn40l",
        )
    return replace(found, plan=plan)


def _ideal_plan(planning: Planning, options: SimulateOptions, looks: Looks) -> TimedPlan | Reason:
    """With textbook constants, whatever the prediction is calibrated for, and the formats of the
    model."""
    if options.weights or options.kv:
        return Reason(
            "HETC-U017",
            "the formats of --weights and --kv are those of the prediction, and of no plan",
            "--weights, --kv",
        )
    with paused_collector():
        return planning.timed(load(options.decode), looks.mode)


def _workload(options: SimulateOptions, request: tuple[int, int]) -> Workload:
    """The request; the first new token is prefill's."""
    prompt, new = request
    return Workload(options.batch, prompt, max(1, new - 1))


def _targets(options: SimulateOptions) -> tuple[Target, ...]:
    """The targets of prefill and decode, one where they are the same, calibrated where asked."""
    names = dict.fromkeys((str(options.prefill), str(options.decode)))
    return calibrated_targets([load(name) for name in names], options.calibrated)


def predict(
    subject: Subject, options: SimulateOptions, targets: tuple[Target, ...], link: Link
) -> Simulated:
    """The prediction of a request on `targets`: one device, or that of prefill and that of
    decode."""
    precision = parse_precision(options.weights, options.kv)
    longest = subject.lowered.model.max_context
    prompt, new = usual_request(options.prompt_tokens, options.new_tokens, longest)
    workload = _workload(options, (prompt, new))
    prefill = {t: prefill_time(subject, precision, workload, t) for t in targets}
    decode = {t: decode_time(subject, precision, workload, t) for t in targets}
    program = subject.lowered.program
    handoff = state_bytes(program, options.batch, prompt, precision)
    held = weight_bytes(subject.costs, precision)
    held += state_bytes(program, options.batch, workload.rows, precision)

    def machine(first: Target, second: Target) -> Machine:
        seconds = link.seconds(handoff) if first != second else 0.0
        made = Prediction(prefill[first], decode[second], options.batch, new, seconds)
        return Machine(first, second, made, first.fits(held) and second.fits(held))

    ways = [(targets[0], targets[-1])]
    ways += [(target, target) for target in targets if len(targets) > 1]
    machines = tuple(machine(first, second) for first, second in ways)
    return Simulated(subject, options, (prompt, new), machines, link, handoff)


def prefill_time(
    subject: Subject, precision: Precision, workload: Workload, target: Target
) -> PhaseTime:
    """What prefill takes on `target`."""
    return predict_phase(subject.items("prefill", precision), "prefill", workload, target)


def decode_time(
    subject: Subject, precision: Precision, workload: Workload, target: Target
) -> PhaseTime:
    """What a decode step takes on `target`, the mean of all, by the cost model: a plan's own
    simulation stands beside it."""
    return predict_phase(subject.items("decode", precision), "decode", workload, target)

"""Plan a model: lower it, price every op on both devices, and cut it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hetc.backends.native import NativePlan
from hetc.backends.onnx import OnnxBackend
from hetc.backends.triton.backend import TritonPlan
from hetc.driver.calibrated import calibrated_targets
from hetc.driver.collector import paused_collector
from hetc.driver.kernels import KernelJob, triton_plan
from hetc.driver.lower import Lowered, lower, needs_phases, weight_sizes
from hetc.driver.options import KV, CompileOptions, usual_request
from hetc.driver.plan_whole import PlannedWhole, plan_whole
from hetc.driver.policy import read_policy
from hetc.driver.spatial import Spatial, plan_spatially, request_of
from hetc.errors import BackendError, InputError, PartitionError, PlanError, Reason, StateError
from hetc.frontends.open_model import open_model
from hetc.ir.graph import Graph, Program
from hetc.ir.model import Model
from hetc.ir.ops.attention import Attention
from hetc.ir.types import DType
from hetc.passes.decisions import decide
from hetc.passes.declared_ops import assumptions
from hetc.passes.outline_layers import outline_layers
from hetc.passes.partition import Cut, CutOptions, partition
from hetc.passes.simplify import simplify
from hetc.passes.workload import PHASES, Phase, Workload
from hetc.targets import Target, load, load_link

DEFAULT_PREFILL, DEFAULT_LINK = "h200", "pcie5"
Step = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Planned:
    """A model with everything decided about it, before a bundle is written."""

    lowered: Lowered
    options: CompileOptions
    workload: Workload
    cut: Cut
    decisions: Mapping[str, Any]
    prefill_target: Target
    decode_target: Target
    most_fallbacks: int | None = None

    @property
    def model(self) -> Model:
        return self.lowered.model

    @property
    def program(self) -> Program:
        return self.lowered.program

    @property
    def dtype(self) -> DType:
        return self.lowered.dtype

    @cached_property
    def outlined(self) -> dict[str, Graph]:
        """Both halves with repeated layers as calls of one graph."""
        halves = {"prefill": self.program.prefill, "decode": self.program.decode}
        return {phase: outline_layers(simplify(graph)) for phase, graph in halves.items()}

    @cached_property
    def stored_weights(self) -> dict[str, int]:
        """Name and number of elements of every weight that a half reads."""
        return weight_sizes(self.program.prefill, self.program.decode)

    @property
    def parameters(self) -> int:
        """Elements of all weights, tied ones once, and quantized ones as what they stand for."""
        quantized = self.lowered.quantized
        return quantized.parameters if quantized else sum(self.stored_weights.values())

    @cached_property
    def layers(self) -> int:
        """Decoder layers: what the source says, or the attentions of `forward`."""
        return self.model.layers or sum(
            isinstance(op, Attention) for op in self.program.forward.ops
        )

    @property
    def vocabulary(self) -> int:
        size = self.program.forward.outputs[0].shape[-1]
        assert isinstance(size, int)
        return size

    @cached_property
    def onnx_reasons(self) -> tuple[Reason, ...]:
        """Why the halves cannot be ONNX files; empty where they can."""
        backend = OnnxBackend()
        found = (backend.validate(graph) for graph in self.outlined.values())
        return tuple(dict.fromkeys(reason for reasons in found for reason in reasons))

    @cached_property
    def native(self) -> NativePlan:
        """Both halves for the native engine, which may have reasons not to run them."""
        weights = None if self.model.weights is None else self.lowered.weights
        context, state_element = self.program.max_context, KV[self.options.kv]
        return NativePlan(self.outlined["decode"], context, weights, state_element)

    @cached_property
    def triton(self) -> TritonPlan | None:
        """The prefill half as kernels, which may have reasons against it: where a GPU was asked
        for by name, and where the cut puts the prefill of a model with weights on one."""
        used = self._runs("prefill") and self.model.weights is not None
        if self.options.prefill is None and not used:
            return None
        return triton_plan(self.program, self.prefill_target)

    @cached_property
    def kernels(self) -> KernelJob:
        """The kernels of `triton`, which take long to compile."""
        return KernelJob(self.triton)

    def _runs(self, phase: str) -> bool:
        """Whether ops of `phase` are on the device that was meant for it."""
        return any(key[0] == role == phase for key, role in self.cut.assignment.items())

    @cached_property
    def assumptions(self) -> tuple[str, ...]:
        """What the policy declares of ops and nothing proves."""
        return assumptions(self.program.forward)

    @property
    def is_spatial(self) -> bool:
        """Whether decode runs on a device with a grid, and so has a plan."""
        return self._runs("decode") and self.decode_target.device.grid is not None

    @cached_property
    def _spatial(self) -> Spatial | Reason | None:
        if not self.is_spatial:
            return None
        decode, request = self.outlined["decode"], request_of(self.options.plan)
        try:
            found = plan_spatially(decode, self.decode_target, self.workload, request)
        except (BackendError, PlanError) as error:
            return Reason(error.code, f"no spatial plan: {error.what}", error.at)
        wrong = [finding for finding in found.findings if finding.severity == "error"]
        if wrong:
            return Reason(wrong[0].code, f"the plan does not lint: {wrong[0].text}", wrong[0].place)
        return found

    @property
    def spatial(self) -> Spatial | None:
        """The plan of the decode half; None for a target without a grid, or with a fallback."""
        return None if isinstance(self._spatial, Reason) else self._spatial

    def check_fallbacks(self) -> None:
        """Plan all that is planned when it is first asked for; raises PartitionError (HETC-P020)
        for more than `most_fallbacks` so far."""
        check_fallbacks(self.fallbacks, self.most_fallbacks)

    @property
    def fallbacks(self) -> tuple[Reason, ...]:
        """Every op and half that did not get its first choice, with the reason."""
        unplanned = (self._spatial,) if isinstance(self._spatial, Reason) else ()
        quantized = self.lowered.quantized
        left = () if quantized is None else quantized.result.left
        runs = self.model.weights is not None
        native = self.native.reasons or self.native.unchanged_states if runs else ()
        halves = (*native, *self.onnx_reasons, *self.kernels.reasons)
        return (*self.model.opaque, *left, *halves, *unplanned)


def plan(source: Any, options: CompileOptions, step: Step) -> Planned:
    """`plan_any` for a model with phases; raises UsageError (HETC-U019) for another."""
    planned = plan_any(source, options, step)
    if isinstance(planned, PlannedWhole):
        raise needs_phases(planned.model.name, planned.no_phases)
    return planned


def plan_any(source: Any, options: CompileOptions, step: Step) -> Planned | PlannedWhole:
    """Open, lower and cut the model behind `source`; without phases where it has none, or where
    the options say so.

    Raises UsageError and TargetError for options, InputError for the model, StateError where decode
    cannot be derived, PartitionError where the targets are too small; under `strict`,
    PartitionError (HETC-P020) for any fallback.
    """
    options.check()
    prefill, decode = load(options.prefill or DEFAULT_PREFILL), load(options.decode)
    link = load_link(DEFAULT_LINK if options.link is None else options.link)
    policy = read_policy(options.policy)
    step("opening the model")
    with _told_of_one_phase():
        model = open_model(source, whole=options.phases == "none")
    calibrated = calibrated_targets((prefill, decode), options.calibrated)
    devices = dict(zip(PHASES, calibrated, strict=True))
    limit = 0 if options.strict else policy.max_fallback_ops
    if model.no_phases is not None:
        with paused_collector():
            targets: dict[Phase, Target] = {"prefill": prefill, "decode": decode}
            whole = plan_whole(model, options, policy, targets, devices, link, step)
        check_fallbacks(whole.fallbacks, limit)
        return whole
    step("deriving prefill and decode")
    with paused_collector(), _told_of_one_phase():
        lowered = lower(model, options, policy)
        workload = _workload(options, lowered)
        step("cutting")
        cut = partition(
            lowered.program,
            workload,
            devices,
            link,
            options=CutOptions(pins=policy.pins, granularity=policy.granularity),
        )
    planned = Planned(lowered, options, workload, cut, decide(cut), prefill, decode, limit)
    planned.check_fallbacks()
    return planned


# What a language model is refused with that may be one function all the same.
_REFUSED = ("HETC-I206", "HETC-I207", "HETC-I307", "HETC-I308", "HETC-I309")


@contextmanager
def _told_of_one_phase() -> Iterator[None]:
    """Tell whoever has a model that cannot be split that it may be compiled whole. It is not done
    unasked: who compiles a language model wants prefill and decode."""
    try:
        yield
    except (InputError, StateError) as error:
        if isinstance(error, StateError) or error.code in _REFUSED:
            error.add_note("--phases none compiles it as one function, without prefill and decode")
        raise


def _workload(options: CompileOptions, lowered: Lowered) -> Workload:
    longest = lowered.program.max_context
    if longest < 2:
        raise InputError(
            "HETC-I008", "the model holds no prompt and answer", found=f"context {longest}"
        )
    prompt, new = usual_request(options.prompt_tokens, options.new_tokens, longest)
    context = options.context or prompt + new
    return Workload(options.batch, prompt, new, context, longest)


def check_fallbacks(fallbacks: tuple[Reason, ...], limit: int | None) -> None:
    """Raise PartitionError (HETC-P020) for more than `limit`, where there is one."""
    if limit is None or len(fallbacks) <= limit:
        return
    first = "; ".join(map(str, fallbacks[:3]))
    raise PartitionError(
        "HETC-P020",
        f"{len(fallbacks)} ops fall back, more than allowed",
        at=fallbacks[0].at,
        expected=f"at most {limit}",
        found=first,
        do="compile without --strict, or raise max_fallback_ops in the policy",
    )


def check_path(output: Path) -> Path:
    """`output` where its parent exists; raises InputError (HETC-I009)."""
    parent = output.parent
    if not parent.is_dir():
        what = "is a file" if parent.exists() else "does not exist"
        raise InputError("HETC-I009", f"the folder to write into {what}", at=str(parent))
    return output

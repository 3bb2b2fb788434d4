"""The Triton backend as the driver sees it: a prefill half for GPUs, planned and compiled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hetc.backends.triton.build import BuildOptions, Built, build_kernels
from hetc.backends.triton.check import check_plan
from hetc.backends.triton.compile import Progress
from hetc.backends.triton.launch_plan import launch_plan
from hetc.backends.triton.limits import arch_number
from hetc.backends.triton.lower import Lowered, lower
from hetc.bundle.launches import LAUNCHES_FILE, LaunchPlan
from hetc.bundle.launches_file import launches_bytes
from hetc.errors import BackendError, InternalError, Reason
from hetc.ir.graph import Graph
from hetc.targets import Target

# Rows of one call: 8 prompts of 32,768 tokens. Kernels count rows in 32 bits, and bytes in 64.
_MAX_TOKENS = 1 << 18


@dataclass(frozen=True)
class TritonPlan:
    """The flat prefill half `prefill` as kernels for `targets`, GPUs of which each has an `arch`.

    `states` are the names of its outputs behind the logits, `max_context` bounds a sequence.
    """

    prefill: Graph
    states: tuple[str, ...]
    targets: tuple[Target, ...]
    max_context: int

    @cached_property
    def lowered(self) -> Lowered:
        """The launches, before anything is compiled."""
        oldest = min((target.device.arch for target in self.targets), key=arch_number)
        return lower(self.prefill, self.states, oldest)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why there are no kernels for this half; empty where there are."""
        return self.lowered.reasons

    def build(self, options: BuildOptions | None = None, progress: Progress | None = None) -> Built:
        """Compile the kernels; raises BackendError, and MissingDependency without Triton."""
        return build_kernels(self.lowered.kernels.values(), self.targets, options, progress)

    def plan(self, built: Built) -> LaunchPlan:
        """The launch plan with the kernels as `built`, checked.

        Raises BackendError for a half with `reasons`, InternalError (HETC-Z042) for a plan that the
        checker finds wrong.
        """
        if self.reasons:
            first = self.reasons[0]
            raise BackendError(first.code, first.text, at=first.at)
        plan = launch_plan(
            self.lowered,
            built.kernels,
            max_tokens=max(self.max_context, _MAX_TOKENS),
            triton=built.triton,
            ptxas=built.ptxas,
        )
        found = check_plan(plan, self.states)
        if not found:
            return plan
        raise InternalError(
            "HETC-Z042",
            "a launch plan contradicts itself",
            at=found[0].at,
            found="; ".join(map(str, found[:4])),
            do="report the model",
        )

    def files(self, built: Built) -> dict[str, bytes]:
        """The launch plan, and sources and cubins beside it."""
        return {LAUNCHES_FILE: launches_bytes(self.plan(built)), **built.files}

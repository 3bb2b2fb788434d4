"""Prefill halves of tiny random models, lowered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hetc.backends.triton.launch_plan import launch_plan
from hetc.backends.triton.lower import Lowered, lower
from hetc.bundle.launches import LaunchPlan
from hetc.driver.compile import quiet
from hetc.driver.options import CompileOptions
from hetc.driver.plan import Planned, plan
from hetc.ir.graph import Graph
from tests.backends.triton.uncompiled import uncompiled
from tests.driver.models import CONTEXT, build, save


@dataclass(frozen=True)
class Half:
    """A planned model, and its prefill half as launches."""

    planned: Planned
    lowered: Lowered

    @property
    def graph(self) -> Graph:
        return self.planned.program.prefill

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.planned.program.states)

    def plan(self) -> LaunchPlan:
        """The launch plan, for as many tokens as kernels take; nothing is compiled."""
        kernels = uncompiled(self.lowered.kernels.values()).kernels
        return launch_plan(self.lowered, kernels, max_tokens=65535, triton="", ptxas="")


@cache
def half(family: str, dtype: str = "fp32", quantize: str = "none", arch: str = "sm_90") -> Half:
    """The half of a model of `family` from `tests.driver.models` for `arch`; made once."""
    # The weights stay open as long as the half is used, which is to the end.
    folder = TemporaryDirectory(prefix="hetc-half-")
    _KEPT.append(folder)
    save(build(family), Path(folder.name))
    options = CompileOptions(
        prefill="h200", batch=2, context=CONTEXT - 16, dtype=dtype, quantize=quantize
    )
    planned = plan(Path(folder.name), options, quiet)
    states = tuple(spec.name for spec in planned.program.states)
    return Half(planned, lower(planned.program.prefill, states, arch))


_KEPT: list[TemporaryDirectory[str]] = []

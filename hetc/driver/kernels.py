"""The kernels of a prefill half for a GPU: planned with the model, compiled for its bundle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hetc.backends.triton.backend import TritonPlan
from hetc.backends.triton.build import BuildOptions
from hetc.errors import BackendError, MissingDependency, Reason
from hetc.ir.graph import Program
from hetc.targets import Target

Step = Callable[[str], None]
# One configuration for a number of rows, since each takes a second of a core; more where that one
# turns out to fit nowhere.
_BUILDS = (BuildOptions(top=1), BuildOptions(top=4))
_NOTHING_FITS = "HETC-E072"


@dataclass(frozen=True)
class Kernels:
    """The files of a prefill half for a GPU, by name; none with `reasons`, which say why."""

    files: Mapping[str, bytes]
    reasons: tuple[Reason, ...] = ()


def triton_plan(program: Program, target: Target) -> TritonPlan | None:
    """The prefill half of `program` for `target`; None for one that is no GPU of a known
    architecture."""
    if not target.device.arch:
        return None
    states = tuple(spec.name for spec in program.states)
    return TritonPlan(program.prefill, states, (target,), program.max_context)


def why_not(plan: TritonPlan) -> tuple[Reason, ...]:
    """Why there will be no kernels, as far as it is known before any is compiled."""
    if not plan.reasons and importlib.util.find_spec("triton") is None:
        return (_missing(plan),)
    return plan.reasons


def compile_kernels(plan: TritonPlan, step: Step) -> Kernels:
    """Compile the kernels of `plan`, where it has no reasons against it. One that does not compile
    leaves the half without any: it then runs elsewhere."""
    known = why_not(plan)
    if known:
        return Kernels({}, known)
    arch = ", ".join(target.device.arch for target in plan.targets)
    step(f"compiling {len(plan.lowered.kernels)} kernels for {arch}")
    refused: list[Reason] = []
    for options in _BUILDS:
        try:
            return Kernels(plan.files(plan.build(options)))
        except MissingDependency:
            return Kernels({}, (_missing(plan),))
        except BackendError as error:
            found = f": {error.found.splitlines()[0]}" if error.found else ""
            refused = [Reason(error.code, error.what + found, at=error.at)]
            if error.code != _NOTHING_FITS:
                break
    return Kernels({}, tuple(refused))


def _missing(plan: TritonPlan) -> Reason:
    arch = ", ".join(target.device.arch for target in plan.targets)
    text = f"no kernels for {arch}: triton is not installed (pip install 'hetc[cuda]')"
    return Reason("HETC-E051", text, at="prefill")

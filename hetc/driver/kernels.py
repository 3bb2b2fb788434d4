"""The kernels of a prefill half for a GPU: planned with the model, compiled for its bundle."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

from hetc.backends.triton.backend import TritonPlan
from hetc.backends.triton.build import BuildOptions
from hetc.backends.triton.compile import Progress
from hetc.errors import BackendError, MissingDependency, Reason
from hetc.ir.graph import Program
from hetc.targets import Target

Step = Callable[[str], None]
# One configuration for a number of rows, since each takes a second of a core.
_BUILD = BuildOptions(top=1)


@dataclass(frozen=True)
class Kernels:
    """The files of a prefill half for a GPU, by name; none with `reasons`, which say why."""

    files: Mapping[str, bytes]
    reasons: tuple[Reason, ...] = ()


def triton_plan(program: Program, target: Target) -> TritonPlan | None:
    """The prefill half of `program` for `target`; None for one that is no GPU of a known
    architecture."""
    if target.device.kind != "gpu" or not target.device.arch:
        return None
    states = tuple(spec.name for spec in program.states)
    return TritonPlan(program.prefill, states, (target,), program.max_context)


def why_not(plan: TritonPlan) -> tuple[Reason, ...]:
    """Why there will be no kernels, as far as it is known before any is compiled."""
    several = [target.name for target in plan.targets if target.count > 1]
    if several:
        text = f"a launch plan runs on one GPU, and {', '.join(several)} is several"
        return (Reason("HETC-E052", text, at="prefill"),)
    if not plan.reasons and importlib.util.find_spec("triton") is None:
        return (_missing(plan),)
    return plan.reasons


class KernelJob:
    """The kernels of a prefill half: compiled where `result` is asked for, or from `begin` on in
    processes of their own, beside whatever else a compile does. Without a plan there are none."""

    def __init__(self, plan: TritonPlan | None) -> None:
        self._plan = plan
        self._abandoned = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._made: Future[Kernels] | None = None

    def begin(self) -> None:
        """Start compiling; a second call does nothing."""
        if self._made is None:
            self._made = self._thread.submit(self._compile)

    def result(self, step: Step | None = None) -> Kernels:
        """Wait for the kernels; `step` is told where they take longer than all else."""
        self.begin()
        assert self._made is not None
        if step is not None and self._plan is not None and not self._made.done():
            step(f"compiling {len(self._plan.lowered.kernels)} kernels for {_archs(self._plan)}")
        return self._made.result()

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why there are no kernels, as far as it is known by now."""
        if self._plan is None:
            return ()
        made = self._made
        done = made is not None and made.done() and not made.exception()
        return made.result().reasons if made is not None and done else why_not(self._plan)

    def close(self) -> None:
        """Abandon what is not compiled yet."""
        self._abandoned.set()
        self._thread.shutdown(cancel_futures=True)

    def _compile(self) -> Kernels:
        return Kernels({}) if self._plan is None else _compiled(self._plan, self._progress)

    def _progress(self, done: int, total: int) -> None:
        if self._abandoned.is_set():
            raise CancelledError(f"{done} of {total} kernels were compiled")


def _compiled(plan: TritonPlan, progress: Progress) -> Kernels:
    """One kernel that does not compile leaves the half without any: it then runs elsewhere."""
    known = why_not(plan)
    if known:
        return Kernels({}, known)
    try:
        return Kernels(plan.files(plan.build(_BUILD, progress)))
    except MissingDependency:
        return Kernels({}, (_missing(plan),))
    except BackendError as error:
        found = f": {error.found.splitlines()[0]}" if error.found else ""
        return Kernels({}, (Reason(error.code, error.what + found, at=error.at),))


def _missing(plan: TritonPlan) -> Reason:
    text = f"no kernels for {_archs(plan)}: triton is not installed (pip install 'hetc[cuda]')"
    return Reason("HETC-E051", text, at="prefill")


def _archs(plan: TritonPlan) -> str:
    return ", ".join(target.device.arch for target in plan.targets)

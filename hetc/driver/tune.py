"""Which build of each kernel is the fastest on the GPU at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hetc.bundle import OpenBundle, open_bundle
from hetc.driver.load import require_phases
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.device import DeviceInfo
from hetc.runtime.cuda.driver import OutOfMemory
from hetc.runtime.cuda.kernels import Choices
from hetc.runtime.cuda.prefill import CudaOptions, Prefill
from hetc.runtime.cuda.timing import ConfigTime, time_configs
from hetc.runtime.cuda.tuned import TunedFile

Step = Callable[[str], None]


@dataclass(frozen=True)
class TunedKernel:
    """A kernel up to `rows` rows: the configuration that the bundle chose, and the fastest one."""

    kernel: str
    rows: int
    chosen: int
    chosen_ms: float
    fastest: int
    fastest_ms: float
    timed: int


@dataclass(frozen=True)
class TuneResult:
    """What was found, and the file that later loads read it from."""

    device: DeviceInfo
    file: Path | None
    kernels: tuple[TunedKernel, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of `hetc tune BUNDLE --json`."""
        return {
            "device": {
                "name": self.device.name,
                "arch": self.device.arch,
                "driver": self.device.driver,
            },
            "file": None if self.file is None else str(self.file),
            "kernels": [vars(kernel) for kernel in self.kernels],
            "left_out": list(self.left_out),
        }


def tune(path: str | Path, step: Step) -> TuneResult:
    """Time every build of every kernel of the bundle at `path`, and keep the fastest.

    Prompts are as long as the plan's own choices tell apart. A bundle without weights is timed on
    random ones. Raises what opening it and loading it onto a GPU raise.
    """
    require_phases(path)
    with open_bundle(path, check="sizes") as bundle:
        options = CudaOptions(
            graphs=0, tuned=False, random_weights=0 if bundle.manifest.kind == "plan" else None
        )
        step("loading")
        prefill = Prefill(bundle, options)
        try:
            return _tune(prefill, bundle, step)
        finally:
            prefill.close()


def _tune(prefill: Prefill, bundle: OpenBundle, step: Step) -> TuneResult:
    vocab = bundle.manifest.model.vocab
    times: list[ConfigTime] = []
    left_out: list[str] = []
    for rows in _buckets(prefill, bundle):
        tokens = np.random.default_rng(0).integers(0, vocab, (1, rows))
        try:
            times += time_configs(prefill, tokens, step)
        except OutOfMemory as error:
            left_out.append(f"prompts of {rows:,} tokens: {error.what}")
    if not times:
        raise RuntimeFault(
            "HETC-R062",
            "there is nothing to tune in this bundle",
            at=str(bundle.root),
            expected=f"kernels with several builds for {prefill.device.info.arch}",
            found="; ".join(left_out) or "one build each",
            do="run it as it is; results do not depend on tuning",
        )
    kernels = _summed_up(times)
    file = TunedFile.of(bundle, prefill.device.info)
    if file is not None:
        file.write(_choices(kernels))
    return TuneResult(
        prefill.device.info,
        None if file is None else file.path,
        kernels,
        tuple(left_out),
    )


def _buckets(prefill: Prefill, bundle: OpenBundle) -> list[int]:
    """Lengths of prompts: where choices change, and one beyond the last change."""
    longest = min(prefill.plan.max_tokens, bundle.contract.max_context)
    bounds = {
        rows
        for name in prefill.plan.kernels
        for rows, _ in prefill.kernels.choices(name)
        if rows is not None
    }
    usual = bundle.manifest.request.prompt_tokens
    beyond = 2 * max(bounds) if bounds else usual
    return sorted({min(rows, longest) for rows in {*bounds, beyond}})


def _summed_up(times: Sequence[ConfigTime]) -> tuple[TunedKernel, ...]:
    """One entry a kernel and number of rows, in the order in which they were timed."""
    cases: dict[tuple[str, int], list[ConfigTime]] = {}
    for time in times:
        cases.setdefault((time.kernel, time.rows), []).append(time)
    found = []
    for (kernel, rows), timed in cases.items():
        chosen = next(time for time in timed if time.chosen)
        # Of equals, the one that the bundle chose.
        best = min(timed, key=lambda time: (time.milliseconds, not time.chosen))
        found.append(
            TunedKernel(
                kernel,
                rows,
                chosen.config,
                chosen.milliseconds,
                best.config,
                best.milliseconds,
                len({time.config for time in timed}),
            )
        )
    return tuple(found)


def _choices(kernels: Sequence[TunedKernel]) -> Choices:
    by_kernel: dict[str, list[TunedKernel]] = {}
    for tuned in kernels:
        by_kernel.setdefault(tuned.kernel, []).append(tuned)
    choices: dict[str, tuple[tuple[int | None, int], ...]] = {}
    for name, found in by_kernel.items():
        *lower, last = sorted(found, key=lambda tuned: tuned.rows)
        choices[name] = (*((each.rows, each.fastest) for each in lower), (None, last.fastest))
    return choices

"""compile(): from a model to a bundle on disk; the one place that knows the whole way."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hetc.bundle import BundleWriter, Manifest
from hetc.driver.load import load
from hetc.driver.options import CompileOptions
from hetc.driver.plan import Planned, check_path, plan_any
from hetc.driver.plan_whole import PlannedWhole, checked_whole
from hetc.driver.quality import quality_of
from hetc.driver.summary import summarize, summarize_whole
from hetc.driver.write import write_bundle
from hetc.driver.write_whole import write_whole
from hetc.errors import UsageError
from hetc.passes.quality import Quality
from hetc.passes.self_check import Checked, self_check
from hetc.runtime import Bundle


def quiet(step: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Compiled:
    """What a compile left: the bundle's path and manifest, the summary, seconds per step."""

    path: Path
    manifest: Manifest
    summary: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)


class _Stopwatch:
    """Passes steps on to `progress` and keeps how long each took."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._step = ""
        self._since = time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now
        if step:
            self._progress(step)


def compile_bundle(
    source: Any,
    output: Path,
    options: CompileOptions,
    progress: Callable[[str], None] = quiet,
    *,
    overwrite: bool = False,
) -> Compiled:
    """Compile the model behind `source` into a bundle at `output`.

    Nothing stands at `output` until all of it is written and checked. Raises HetcError; see
    `hetc.driver.plan.plan` and `hetc.bundle.BundleWriter` for which.
    """
    watch = _Stopwatch(progress)
    with BundleWriter(check_path(output), overwrite=overwrite) as writer:
        planned = plan_any(source, options, watch)
        if isinstance(planned, PlannedWhole):
            return _compile_whole(planned, writer, watch)
        # In processes of their own: this one mostly takes a single core.
        with closing(planned.kernels) as kernels:
            kernels.begin()
            checked = _checked(planned, watch)
            found = _quality(planned, watch)
            if planned.is_spatial:
                watch("planning the decode half")
            planned.check_fallbacks()
            # Before the summary, which tells what became of them.
            kernels.result(watch)
            planned.check_fallbacks()
            summary = summarize(planned, checked, found)
            manifest = write_bundle(planned, checked, writer, summary, watch)
    watch("")
    return Compiled(output, manifest, summary, watch.seconds)


def _compile_whole(planned: PlannedWhole, writer: BundleWriter, watch: _Stopwatch) -> Compiled:
    """The same for a model without phases."""
    checked = None
    if planned.model.weights is not None:
        watch("checking the compiled graph against the imported one")
        with _one_thread():
            checked = checked_whole(planned)
    summary = summarize_whole(planned, checked)
    manifest = write_whole(planned, checked, writer, summary, watch)
    watch("")
    return Compiled(writer.path, manifest, summary, watch.seconds)


def _quality(planned: Planned, step: Callable[[str], None]) -> Quality | None:
    quantized = planned.lowered.quantized
    # What keeps the source's integers is no other model.
    if quantized is None or not quantized.result.forms or planned.model.weights is None:
        return None
    step("comparing the quantized weights with the model's own")
    return quality_of(planned)


def _checked(planned: Planned, step: Callable[[str], None]) -> Checked | None:
    if planned.model.weights is None:
        return None
    step("checking prefill + decode against forward")
    with _one_thread():
        return self_check(planned.program, planned.lowered.weights, planned.vocabulary)


def _one_thread() -> AbstractContextManager[object]:
    from threadpoolctl import threadpool_limits

    # Products of a few rows: more threads wait for each other longer than they work, and on a busy
    # machine ten times as long (docs/benchmarks/compile.md).
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def compile(
    source: Any,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = quiet,
    **options: Any,
) -> Bundle:
    """Compile `source` and load the bundle.

    `source` is a path (Hugging Face directory, `.gguf`, `.pt2`, `.onnx`), a
    torch.export.ExportedProgram, or a pair (GraphModule, example inputs). The options are the
    fields of CompileOptions. Without `output` the bundle lives in a temporary directory as long as
    the returned object. Raises UsageError (HETC-U010) for an option that there is not.
    """
    known = [option.name for option in fields(CompileOptions)]
    for name in options.keys() - known:
        raise UsageError(
            "HETC-U010", "no such option", at=name, expected=", ".join(known), found=name
        )
    chosen = CompileOptions(**options)
    if output is not None:
        return load(
            compile_bundle(source, Path(output), chosen, progress, overwrite=overwrite).path
        )
    folder = tempfile.TemporaryDirectory(prefix="hetc-", ignore_cleanup_errors=True)
    compiled = compile_bundle(source, Path(folder.name) / "bundle", chosen, progress)
    bundle = load(compiled.path)
    weakref.finalize(bundle, folder.cleanup)
    return bundle

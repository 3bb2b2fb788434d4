"""Load a bundle with every executor that this installation has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hetc import runtime
from hetc.backends.reference import reference_executors, reference_forwards
from hetc.bundle import open_bundle
from hetc.runtime import Bundle, ExecutorFactory, State


def executors() -> Mapping[str, ExecutorFactory]:
    """The executors that need the compiler's IR; the runtime has the others."""
    return {"reference": reference_executors(State)}


def require_phases(path: str | Path) -> None:
    """Raise BundleError (HETC-B017) where the bundle at `path` has neither prefill nor decode."""
    with open_bundle(path, check="sizes") as files:
        files.manifest.half("decode")


def load(path: str | Path, *, executor: str | None = None) -> Bundle:
    """The bundle at `path`, checked and ready to run; `executor` is `cuda`, `onnx`, `reference` or
    `native`.

    Raises BundleError where the bundle cannot be trusted, RuntimeFault where nothing here can run
    it.
    """
    forwards = {"reference": reference_forwards()}
    return runtime.load(path, executors=executors(), forwards=forwards, executor=executor)

"""Look into a bundle, or into a model as it would be compiled."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetc.bundle import open_bundle
from hetc.driver.compile import quiet
from hetc.driver.kernel_records import kernel_records
from hetc.driver.options import CompileOptions
from hetc.driver.plan import Planned, plan_any
from hetc.driver.plan_whole import PlannedWhole
from hetc.driver.summary import summarize, summarize_whole
from hetc.passes.decisions import inspected


@dataclass(frozen=True)
class Inspection:
    """Everything that was decided about a model, as JSON values; of a bundle also its `kernels`
    for a GPU."""

    model: dict[str, Any]
    summary: tuple[str, ...]
    decisions: dict[str, Any]
    fallbacks: list[dict[str, str]]
    kernels: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ops(self) -> list[dict[str, Any]]:
        """One row for every op: marks, costs, crossovers, reasons."""
        return inspected(self.decisions)


def is_bundle(path: Path) -> bool:
    """Whether `path` looks like a bundle rather than a model."""
    return os.path.exists(path / "manifest.json")


def inspect(path: str | Path, options: CompileOptions) -> Inspection:
    """What a bundle says of itself, or what compiling the model at `path` with `options` would
    decide."""
    path = Path(path)
    if is_bundle(path):
        return _bundle(path)
    planned = plan_any(path, options, quiet)
    if isinstance(planned, PlannedWhole):
        return _whole(planned)
    model = {
        "name": planned.model.name,
        "family": planned.model.family,
        "parameters": planned.parameters,
        "layers": planned.layers,
        "dtype": planned.dtype.name,
        "max_context": planned.program.max_context,
    }
    return _planned(planned, model, summarize(planned, None))


def _whole(planned: PlannedWhole) -> Inspection:
    model = {
        "name": planned.model.name,
        "family": planned.model.family,
        "parameters": planned.parameters,
        "layers": planned.model.layers,
        "dtype": planned.lowered.dtype.name,
        "no_phases": str(planned.no_phases),
    }
    return _planned(planned, model, summarize_whole(planned, None))


def _planned(
    planned: Planned | PlannedWhole, model: dict[str, Any], summary: tuple[str, ...]
) -> Inspection:
    fallbacks = [{"code": r.code, "op": r.at, "reason": r.text} for r in planned.fallbacks]
    # Once through JSON, so that a model and its bundle show the same values.
    decisions = json.loads(json.dumps(planned.decisions))
    return Inspection(model, summary, decisions, fallbacks)


def _bundle(path: Path) -> Inspection:
    with open_bundle(path, check="sizes") as files:
        manifest = files.manifest
        decisions = json.loads(files.read_bytes("decisions.json"))
        fallbacks = [vars(fallback) for fallback in manifest.fallbacks]
        model = dict(vars(manifest.model))
        if manifest.forward is not None:
            model["no_phases"] = manifest.forward.reason
        kernels = kernel_records(files)
        return Inspection(model, manifest.summary, decisions, fallbacks, kernels)

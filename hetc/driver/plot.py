"""Pictures of a bundle or a plan, as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import speeds_of, timeline
from hetc.bundle import open_bundle
from hetc.driver.export import write_files
from hetc.driver.inspect import is_bundle
from hetc.driver.lint import open_plan
from hetc.driver.machine import machine_of
from hetc.report.fold import fold
from hetc.report.phases import phases_of
from hetc.report.plots import Scene, floorplan, gantt, png, roofline, svg
from hetc.targets import Target, load


def plot_path(
    path: Path, folder: Path, format: str, target: str | None = None
) -> Mapping[Path, int]:
    """Draw the bundle or plan file at `path` into `folder`, as `svg` or `png`.

    The floorplan of each section and a token in time; of a bundle, the roofline of each phase
    too. Answers the sizes of the files in bytes. Raises what `open_plan`, `machine_of` and
    `write_files` do, and BackendError HETC-L10x for a plan that cannot be timed.
    """
    scenes = dict(_scenes(path, target))
    drawn = {
        f"{name}.{format}": svg(scene).encode() if format == "svg" else png(scene)
        for name, scene in scenes.items()
    }
    return write_files({folder / name: data for name, data in drawn.items()})


def _scenes(path: Path, target: str | None) -> Iterator[tuple[str, Scene]]:
    """A name for each picture, and what is on it."""
    if not is_bundle(path):
        plan, _ = open_plan(path)
        yield from _of_plan(plan, machine_of(plan, target))
        return
    with open_bundle(path, check="sizes") as files:
        manifest = files.manifest
        decisions = json.loads(files.read_bytes("decisions.json"))
    if manifest.forward is None and manifest.half("decode").plan is not None:
        plan, _ = open_plan(path)
        yield from _of_plan(plan, machine_of(plan, target))
    targets: dict[str, Target] = {role: load(r.name) for role, r in manifest.targets.items()}
    for phase in phases_of(decisions):
        ops = fold(record for record in decisions["ops"] if record["phase"] == phase)
        yield f"roofline-{phase}", roofline(phase, ops, targets, manifest.model.dtype)


def _of_plan(plan: Plan, machine: Target) -> Iterator[tuple[str, Scene]]:
    fabric = fabric_of(machine)
    for section in plan.sections:
        yield f"floorplan-{section.id}", floorplan(plan, section, fabric)
    yield "gantt", gantt(plan, timeline(plan, speeds_of(machine)))

"""Compare two plans, or two bundles with all that was decided about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetc.backends.dataflow.compare import Difference, Facts, compare, differences
from hetc.backends.dataflow.schema import Plan
from hetc.bundle import Manifest, open_bundle
from hetc.driver.inspect import is_bundle
from hetc.driver.lint import open_plan
from hetc.report.fold import layer_of, layer_path, with_layers


@dataclass(frozen=True)
class _Side:
    """One of the two: a bundle has a manifest and decisions, and a plan where decode is spatial."""

    plan: Plan | None
    manifest: Manifest | None = None
    decisions: dict[str, Any] | None = None


def diff_paths(a: Path, b: Path) -> tuple[Difference, ...]:
    """What differs between two plan files or bundles; only the plans are compared where one is a
    plan file. Raises what `open_plan` does."""
    both = is_bundle(a) and is_bundle(b)
    one, other = _open(a, whole=both), _open(b, whole=both)
    found: list[Difference] = []
    if both:
        found += differences(_facts(one), _facts(other))
        found += _moved(one, other)
    if one.plan is not None and other.plan is not None:
        found += compare(one.plan, other.plan)
    elif one.plan is not other.plan:
        found.append(
            Difference("bundle", "decode", "plan", *(s.plan is not None for s in (one, other)))
        )
    return tuple(found)


def _open(path: Path, *, whole: bool) -> _Side:
    if not whole:
        return _Side(open_plan(path)[0])
    with open_bundle(path, check="sizes") as files:
        manifest = files.manifest
        decisions = json.loads(files.read_bytes("decisions.json"))
    planned = manifest.forward is None and manifest.half("decode").plan is not None
    return _Side(open_plan(path)[0] if planned else None, manifest, decisions)


def _facts(side: _Side) -> Facts:
    """What a bundle says beside its plan."""
    manifest, decisions = side.manifest, side.decisions
    assert manifest is not None
    assert decisions is not None
    cut, targets = decisions["cut"], manifest.targets
    return {
        ("bundle", "model"): vars(manifest.model),
        ("bundle", "workload"): decisions["workload"],
        ("bundle", "targets"): {role: ref.name for role, ref in targets.items()},
        ("bundle", "target digests"): {role: ref.sha256 for role, ref in targets.items()},
        ("bundle", "link"): {"name": decisions["link"]},
        ("bundle", "cut"): {"seconds": cut["seconds"]}
        | {f"{phase} seconds": seconds for phase, seconds in cut["phase_seconds"].items()},
        ("bundle", "files"): {
            "kind": manifest.kind,
            "executors": list(manifest.executors),
            "contract": manifest.contract_sha256,
            "fallbacks": [vars(fallback) for fallback in manifest.fallbacks],
            "assumptions": list(manifest.assumptions),
        },
    }


def _moved(a: _Side, b: _Side) -> Iterator[Difference]:
    """Ops on another device, or in one of the bundles alone; those of equal layers as one."""
    where = [_devices(side) for side in (a, b)]
    groups: dict[tuple[Any, ...], list[str]] = {}
    for phase, name in {**where[0], **where[1]}:
        devices = tuple(side.get((phase, name)) for side in where)
        if devices[0] != devices[1]:
            path = layer_path(name) if layer_of(name) is not None else ""
            pattern = (path.rstrip("0123456789"), name.removeprefix(path))
            groups.setdefault((phase, pattern, devices), []).append(name)
    for (phase, _, devices), names in groups.items():
        layers = [layer for layer in map(layer_of, names) if layer is not None]
        name = with_layers(names[0], layers) if len(layers) == len(names) else names[0]
        yield Difference("op", f"{phase}: {name}", "device", *devices)


def _devices(side: _Side) -> dict[tuple[str, str], str]:
    assert side.decisions is not None
    return {(op["phase"], op["name"]): op["device"] for op in side.decisions["ops"]}
